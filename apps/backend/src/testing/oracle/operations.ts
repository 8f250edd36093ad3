import { Dice } from './dice.ts'
import type { Alteration } from './schema-change.ts'
import {
  bulkTable,
  isBulk,
  isFixed,
  isNotes,
  notesTable,
  quote,
  quotedTable,
  touchedBy,
  type OracleColumn,
  type OracleTable,
} from './tables.ts'

/** A statement with its parameters as text. */
export interface Statement {
  readonly sql: string
  readonly values: readonly (string | null)[]
  /** Those that it may change. */
  readonly tables: readonly OracleTable[]
  /** What becomes of tables' schemas. */
  readonly alters?: readonly Alteration[]
  /** It empties all of its tables. */
  readonly truncates?: true
  /** It locks a composite type, for which the server waits where it first sends a value of the type on a connection: until the transaction ends, nothing may come. */
  readonly holdsUp?: boolean
}

/** Something that a transaction does to a table. To let the oracle do more, add one to `operations`. */
export interface Operation {
  readonly name: string
  readonly weight: number
  readonly fits: (table: OracleTable) => boolean
  readonly statement: (table: OracleTable, dice: Dice, tables: readonly OracleTable[]) => Statement
}

const changes = (table: OracleTable) => table.identity !== 'append-only' && !isFixed(table)

/** A statement without parameters. */
const plain = (sql: string, table: OracleTable): Statement => ({ sql, values: [], tables: touchedBy(table) })

/** Ids of `bulkTable`; sessions that change different ones do not wait for each other. */
const SLICE_IDS = 1_500
const inSlice = (dice: Dice) => {
  const from = dice.below(4) * SLICE_IDS
  return `id BETWEEN ${from} AND ${from + SLICE_IDS - 1}`
}
const NOTES = 60
const someNotes = (dice: Dice) => `id % 3 = ${dice.below(3)}`

export const operations: readonly Operation[] = [
  {
    name: 'insert',
    weight: 8,
    fits: (table) => !isFixed(table),
    statement: (table, dice) => insert(table, dice, table.key.length > 0 ? 'ON CONFLICT DO NOTHING' : ''),
  },
  {
    name: 'upsert',
    weight: 3,
    fits: (table) => changes(table) && table.key.length > 0 && others(table).length > 0,
    statement: (table, dice) => {
      const set = others(table).map(({ name }) => `${quote(name)} = excluded.${quote(name)}`)
      return insert(table, dice, `ON CONFLICT (${table.key.map(({ name }) => quote(name)).join(', ')}) DO UPDATE SET ${set.join(', ')}`, 1)
    },
  },
  {
    // Columns that are not set keep their values: what lies out of line then comes as unchanged.
    name: 'update',
    weight: 8,
    fits: (table) => changes(table) && others(table).length > 0,
    statement: (table, dice) => update(table, dice, dice.some(others(table), dice.between(1, 2)), dice.between(1, 6)),
  },
  {
    name: 'update the key',
    weight: 3,
    fits: (table) => changes(table) && table.key.length > 0,
    statement: (table, dice) =>
      update(table, dice, dice.some(table.columns, dice.between(1, 2)).concat(dice.pick(table.key)), dice.between(1, 2)),
  },
  {
    name: 'update to the same',
    weight: 1,
    fits: changes,
    statement: (table, dice) => {
      const name = quote(dice.pick(table.columns).name)
      return plain(`UPDATE ${quotedTable(table)} SET ${name} = ${name} WHERE ${someRows(table, dice, 5)}`, table)
    },
  },
  {
    name: 'duplicate',
    weight: 2,
    fits: (table) => table.key.length === 0,
    statement: (table, dice) =>
      plain(
        `INSERT INTO ${quotedTable(table)} SELECT * FROM ${quotedTable(table)} WHERE ${someRows(table, dice, dice.between(1, 4))}`,
        table,
      ),
  },
  {
    name: 'delete',
    weight: 5,
    fits: changes,
    statement: (table, dice) => plain(`DELETE FROM ${quotedTable(table)} WHERE ${someRows(table, dice, dice.between(1, 6))}`, table),
  },
  {
    name: 'delete all',
    weight: 0.3,
    fits: changes,
    statement: (table) => plain(`DELETE FROM ${quotedTable(table)}`, table),
  },
  {
    // Many rows in one record of the log.
    name: 'copy',
    weight: 2,
    fits: changes,
    statement: (table, dice) => copyBack(table, dice, someRows(table, dice, dice.between(1, 10))),
  },
  {
    name: 'copy many',
    weight: 2,
    fits: isBulk,
    statement: (_, dice) => copyBack(bulkTable, dice, `${inSlice(dice)} AND id % 4 = ${dice.below(4)}`),
  },
  {
    // Of somebody else's; no row changes.
    name: 'write a message into the log',
    weight: 0.5,
    fits: () => true,
    statement: (_, dice) => {
      const message = `${dice.chance(0.7)}, 'oracle', repeat('m', ${dice.pick([0, 10, 100_000])})`
      return { sql: `DO $$ BEGIN PERFORM pg_logical_emit_message(${message}); END $$`, values: [], tables: [] }
    },
  },
  {
    name: 'truncate',
    weight: 1,
    fits: () => true,
    statement: (table, dice, tables) => {
      const chosen = new Set([
        table,
        ...dice.some(
          tables.filter(({ isAbsent }) => isAbsent !== true),
          dice.below(3),
        ),
      ])
      // Postgres refuses a table that others refer to, unless those are emptied with it.
      const cascade = [...chosen].some(isBulk) || dice.chance(0.3) ? ' CASCADE' : ''
      const names = [...chosen].map(quotedTable).join(', ')
      const sql = `TRUNCATE ${names}${dice.pick(['', ' RESTART IDENTITY', ' CONTINUE IDENTITY'])}${cascade}`
      return { sql, values: [], tables: [...chosen].flatMap(touchedBy), truncates: true }
    },
  },
  {
    name: 'insert many',
    weight: 4,
    fits: isBulk,
    // Over a megabyte: the transaction is handed on in parts, and streamed where the server may.
    statement: (_, dice) => {
      const from = dice.below(4) * SLICE_IDS
      return plain(
        `INSERT INTO public.bulk (id, pad) SELECT g, repeat(md5(g::text), 24) FROM generate_series(${from}, ${from + SLICE_IDS - 1 - dice.below(100)}) g ON CONFLICT DO NOTHING`,
        bulkTable,
      )
    },
  },
  {
    name: 'update many',
    weight: 3,
    fits: isBulk,
    statement: (_, dice) =>
      plain(
        `UPDATE public.bulk SET pad = reverse(pad) || ${dice.below(10)} WHERE ${inSlice(dice)} AND id % 2 = ${dice.below(2)}`,
        bulkTable,
      ),
  },
  {
    name: 'move many',
    weight: 1,
    fits: isBulk,
    statement: (_, dice) => plain(`UPDATE public.bulk SET id = -id - 1 WHERE ${inSlice(dice)} AND id % 20 = ${dice.below(20)}`, bulkTable),
  },
  {
    name: 'delete many',
    weight: 3,
    fits: isBulk,
    statement: (_, dice) => plain(`DELETE FROM public.bulk WHERE ${inSlice(dice)} AND id % 3 = ${dice.below(3)}`, bulkTable),
  },
  {
    name: 'delete moved',
    weight: 0.5,
    fits: isBulk,
    statement: () => plain('DELETE FROM public.bulk WHERE id < 0', bulkTable),
  },
  {
    name: 'insert notes',
    weight: 4,
    fits: isNotes,
    statement: (_, dice) => {
      const from = dice.below(NOTES)
      return plain(
        `INSERT INTO public.notes (id, about, body, n) SELECT g, (SELECT b.id FROM public.bulk b WHERE b.id % 97 = g % 97 ORDER BY b.id LIMIT 1), repeat(md5('${dice.next()}' || g), 70), 0
         FROM generate_series(${from}, ${from + 40}) g ON CONFLICT (id) DO UPDATE SET n = notes.n + 1`,
        notesTable,
      )
    },
  },
  {
    name: 'touch notes',
    weight: 4,
    fits: isNotes,
    statement: (_, dice) => plain(`UPDATE public.notes SET n = n + 1 WHERE ${someNotes(dice)}`, notesTable),
  },
  {
    name: 'move notes',
    weight: 2,
    fits: isNotes,
    statement: (_, dice) => plain(`UPDATE public.notes SET id = ${2 * NOTES} - id WHERE ${someNotes(dice)}`, notesTable),
  },
  {
    name: 'touch notes again and again',
    weight: 3,
    fits: isNotes,
    statement: (_, dice) => {
      const steps = Array.from({ length: dice.between(2, 5) }, () => noteStep(dice))
      return plain(`DO $$ BEGIN ${steps.join(' ')} END $$`, notesTable)
    },
  },
  {
    name: 'delete notes',
    weight: 2,
    fits: isNotes,
    statement: (_, dice) => plain(`DELETE FROM public.notes WHERE ${someNotes(dice)}`, notesTable),
  },
]

/** Takes rows out, and has them back by `COPY`. */
function copyBack(table: OracleTable, dice: Dice, rows: string): Statement {
  const [name, file] = [quotedTable(table), `oracle_${dice.next()}`]
  const steps = [
    `COPY (SELECT * FROM ${name} WHERE ${rows}) TO PROGRAM 'cat > ${file}'`,
    `DELETE FROM ${name} WHERE ${rows}`,
    `COPY ${name} FROM PROGRAM 'cat ${file} && rm ${file}'`,
  ]
  return plain(`DO $oracle$ BEGIN ${steps.join('; ')}; END $oracle$`, table)
}

/** A change within a block; some are undone at once, as a savepoint is. */
function noteStep(dice: Dice): string {
  const step = dice.pick([
    `UPDATE public.notes SET n = n + 1 WHERE ${someNotes(dice)};`,
    `UPDATE public.notes SET id = id + ${10 * NOTES}; UPDATE public.notes SET id = id - ${10 * NOTES};`,
    `UPDATE public.notes SET body = repeat(md5(body), 70) WHERE ${someNotes(dice)};`,
    `UPDATE public.notes SET body = NULL WHERE id % 10 = ${dice.below(10)};`,
  ])
  return dice.chance(0.7) ? step : `BEGIN ${step} RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END;`
}

/** One of the operations that fit, by their weights; null where the table is not there. */
export function chooseOperation(table: OracleTable, dice: Dice): Operation | null {
  if (table.isAbsent === true) return null
  const fitting = operations.filter((operation) => operation.fits(table))
  const total = fitting.reduce((sum, { weight }) => sum + weight, 0)
  let left = (dice.next() / 2 ** 32) * total
  return fitting.find(({ weight }) => (left -= weight) < 0) ?? fitting[0]
}

function others(table: OracleTable): OracleColumn[] {
  return table.columns.filter((column) => !table.key.includes(column))
}

function insert(table: OracleTable, dice: Dice, onConflict: string, rows = dice.between(1, 5)): Statement {
  const values: (string | null)[] = []
  const tuples = Array.from({ length: rows }, () => `(${table.columns.map((column) => parameter(column, dice, values)).join(', ')})`)
  return { sql: `INSERT INTO ${quotedTable(table)} VALUES ${tuples.join(', ')} ${onConflict}`, values, tables: [table] }
}

function update(table: OracleTable, dice: Dice, columns: readonly OracleColumn[], rows: number): Statement {
  const values: (string | null)[] = []
  const set = [...new Set(columns)].map((column) => `${quote(column.name)} = ${parameter(column, dice, values)}`)
  return { sql: `UPDATE ${quotedTable(table)} SET ${set.join(', ')} WHERE ${someRows(table, dice, rows)}`, values, tables: [table] }
}

function parameter(column: OracleColumn, dice: Dice, values: (string | null)[]): string {
  const isNull = !column.isNotNull && dice.chance(0.2)
  const value = column.pool === null ? column.type.value(dice, false) : dice.pick(column.pool)
  values.push(isNull ? null : value)
  return `$${values.length}::${column.type.sql}`
}

/** By place, so that it works without a key too, and takes one of two equal rows. */
function someRows(table: OracleTable, dice: Dice, count: number): string {
  const place = table.partitions === undefined ? 'ctid' : '(tableoid, ctid)'
  return `${place} IN (SELECT ${place.replace(/[()]/g, '')} FROM ${quotedTable(table)} ORDER BY md5(${place}::text || '${dice.next()}') LIMIT ${count})`
}
