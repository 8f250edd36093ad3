import { Dice } from './dice.ts'
import { bulkTable, quote, quotedTable, type OracleColumn, type OracleTable } from './tables.ts'

/** A statement with its parameters as text. */
export interface Statement {
  readonly sql: string
  readonly values: readonly (string | null)[]
}

/** Something that a transaction does to a table. To let the oracle do more, add one to `operations`. */
export interface Operation {
  readonly name: string
  readonly weight: number
  readonly fits: (table: OracleTable) => boolean
  readonly statement: (table: OracleTable, dice: Dice) => Statement
}

const changes = (table: OracleTable) => table.identity !== 'append-only' && table !== bulkTable
const isBulk = (table: OracleTable) => table === bulkTable

export const operations: readonly Operation[] = [
  {
    name: 'insert',
    weight: 8,
    fits: (table) => table !== bulkTable,
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
      return { sql: `UPDATE ${quotedTable(table)} SET ${name} = ${name} WHERE ${someRows(table, dice, 5)}`, values: [] }
    },
  },
  {
    name: 'duplicate',
    weight: 2,
    fits: (table) => table.key.length === 0,
    statement: (table, dice) => ({
      sql: `INSERT INTO ${quotedTable(table)} SELECT * FROM ${quotedTable(table)} WHERE ${someRows(table, dice, dice.between(1, 4))}`,
      values: [],
    }),
  },
  {
    name: 'delete',
    weight: 5,
    fits: changes,
    statement: (table, dice) => ({
      sql: `DELETE FROM ${quotedTable(table)} WHERE ${someRows(table, dice, dice.between(1, 6))}`,
      values: [],
    }),
  },
  {
    name: 'delete all',
    weight: 0.3,
    fits: changes,
    statement: (table) => ({ sql: `DELETE FROM ${quotedTable(table)}`, values: [] }),
  },
  {
    name: 'insert many',
    weight: 4,
    fits: isBulk,
    // Over a megabyte: the transaction is handed on in parts.
    statement: (_, dice) => {
      const from = dice.between(0, 4_000)
      return {
        sql: `INSERT INTO public.bulk SELECT g, repeat(md5(g::text), 24) FROM generate_series(${from}, ${from + 1_900}) g ON CONFLICT DO NOTHING`,
        values: [],
      }
    },
  },
  {
    name: 'update many',
    weight: 3,
    fits: isBulk,
    statement: (_, dice) => ({
      sql: `UPDATE public.bulk SET pad = reverse(pad) || ${dice.below(10)} WHERE id % 3 = ${dice.below(3)}`,
      values: [],
    }),
  },
  {
    name: 'move many',
    weight: 1,
    fits: isBulk,
    statement: (_, dice) => ({ sql: `UPDATE public.bulk SET id = -id - 1 WHERE id % 20 = ${dice.below(20)}`, values: [] }),
  },
  {
    name: 'delete many',
    weight: 3,
    fits: isBulk,
    statement: (_, dice) => ({ sql: `DELETE FROM public.bulk WHERE id % 3 = ${dice.below(3)}`, values: [] }),
  },
]

/** One of the operations that fit, by their weights. */
export function chooseOperation(table: OracleTable, dice: Dice): Operation {
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
  return { sql: `INSERT INTO ${quotedTable(table)} VALUES ${tuples.join(', ')} ${onConflict}`, values }
}

function update(table: OracleTable, dice: Dice, columns: readonly OracleColumn[], rows: number): Statement {
  const values: (string | null)[] = []
  const set = [...new Set(columns)].map((column) => `${quote(column.name)} = ${parameter(column, dice, values)}`)
  return { sql: `UPDATE ${quotedTable(table)} SET ${set.join(', ')} WHERE ${someRows(table, dice, rows)}`, values }
}

function parameter(column: OracleColumn, dice: Dice, values: (string | null)[]): string {
  const isNull = !column.isNotNull && dice.chance(0.2)
  const value = column.pool === null ? column.type.value(dice, false) : dice.pick(column.pool)
  values.push(isNull ? null : value)
  return `$${values.length}::${column.type.sql}`
}

/** By place, so that it works without a key too, and takes one of two equal rows. */
function someRows(table: OracleTable, dice: Dice, count: number): string {
  return `ctid IN (SELECT ctid FROM ${quotedTable(table)} ORDER BY md5(ctid::text || '${dice.next()}') LIMIT ${count})`
}
