import { Dice } from './dice.ts'
import type { Statement } from './operations.ts'
import { partitionChanges } from './partition-changes.ts'
import type { Made, SchemaChange } from './schema-change.ts'
import {
  baseColumns,
  COLUMN_NAMES,
  isFixed,
  makeTable,
  quote,
  quotedTable,
  tableDefinition,
  type OracleColumn,
  type OracleTable,
} from './tables.ts'
import { columnTypes, compositeTypes, domainTypes, enumTypes, keyTypes, typeNamed, type OracleType } from './types.ts'
import type { Untold } from './untold.ts'

/** Defaults of these are kept for older rows as they are; those of others are read from the table. */
const SIMPLE = ['boolean', 'int4', 'int8', 'text', 'varchar(20)', 'numeric(9,2)', 'uuid'].map(typeNamed)

const COMPARED: Untold = { kind: 'compared' }
const SILENT: Untold = { kind: 'silent' }

/** Types that hold every value of another, in a form that needs no reading. */
const WIDER: Readonly<Record<string, readonly string[]>> = {
  int2: ['int4', 'int8'],
  int4: ['int8'],
  float4: ['float8'],
  'numeric(9,2)': ['numeric(11,2)', 'numeric(38,2)'],
  'numeric(11,2)': ['numeric(38,2)'],
  'varchar(20)': ['varchar(40)', 'varchar', 'text'],
  'varchar(40)': ['varchar', 'text'],
  varchar: ['text'],
}

/** Types that values are converted to, by a cast that needs no words. */
const CONVERTED: Readonly<Record<string, readonly string[]>> = {
  int2: ['text', 'float8', 'numeric'],
  int4: ['text', 'numeric(38,10)', 'float8'],
  int8: ['text', 'numeric'],
  float4: ['text', 'numeric'],
  float8: ['text', 'float4'],
  'numeric(9,2)': ['numeric(18,6)', 'numeric(38,0)', 'float8', 'text'],
  'numeric(18,6)': ['numeric(9,2)', 'text'],
  'char(6)': ['text', 'varchar(20)'],
  text: ['varchar'],
  date: ['timestamp', 'text'],
  timestamp: ['date', 'text'],
  uuid: ['text'],
}

const isOpen = (table: OracleTable) => table.isAbsent !== true
const isFree = (table: OracleTable) => isOpen(table) && !isFixed(table)
/** Rows of others can be told apart by what they hold. */
const isComparable = (table: OracleTable) => isOpen(table) && table.identity !== 'append-only'
/** Its partitions name their rows by the same columns. */
const isWhole = (table: OracleTable) => table.partitions === undefined
const isNameable = (table: OracleTable) => isFree(table) && isComparable(table) && isWhole(table) && table.published === undefined
/** Another of its name would be published. */
const isReplaceable = (table: OracleTable) => isFree(table) && isComparable(table) && table.isGiven !== true
const freeColumns = (table: OracleTable) => {
  const base = baseColumns(table)
  return table.columns.filter((column) => !table.key.includes(column) && !base.includes(column.name))
}
const hasFree = (table: OracleTable) => isOpen(table) && freeColumns(table).length > 0
/** A table without columns is not mirrored. */
const canDrop = (table: OracleTable) => hasFree(table) && table.columns.length > 1
const hasPrimaryKey = (table: OracleTable) => table.identity === 'primary key' || table.identity === 'full with a key'
/** What it is published with goes by the key. */
const hasOwnKey = (table: OracleTable) => isFree(table) && hasPrimaryKey(table) && table.key.length > 0 && table.published === undefined
/** What a table is partitioned by, and filtered, keeps its name. */
const renameable = (table: OracleTable) =>
  isFixed(table) ? freeColumns(table) : table.columns.filter(({ name }) => !baseColumns(table).includes(name))
const primaryKey = (table: OracleTable) => quote(`${table.name}_pkey`)
const sqlOf = (names: readonly OracleColumn[]) => names.map(({ name }) => quote(name)).join(', ')

const changes: readonly SchemaChange[] = [
  {
    name: 'add a column',
    weight: 4,
    fits: isOpen,
    make: (table, dice) => {
      const column = newColumn(table, dice, dice.pick(columnTypes))
      return {
        sql: alter(table, `ADD ${quote(column.name)} ${column.type.sql}`),
        to: added(table, column),
        isStale: false,
        untold: { kind: 'add without a default' },
      }
    },
  },
  {
    name: 'add a column with a default',
    weight: 5,
    fits: isOpen,
    make: (table, dice) => {
      const type = dice.chance(0.7) || table.identity === 'append-only' ? dice.pick(SIMPLE) : dice.pick(columnTypes)
      const column = { ...newColumn(table, dice, type), isNotNull: dice.chance(0.5) }
      const value = literal(type.value(dice, true), type)
      const sql = alter(table, `ADD ${quote(column.name)} ${type.sql} DEFAULT ${value}${column.isNotNull ? ' NOT NULL' : ''}`)
      const isSimple = SIMPLE.includes(type)
      return { sql, to: added(table, column), isStale: !isSimple, untold: isSimple ? { kind: 'add' } : COMPARED }
    },
  },
  {
    name: 'add a column with values of its own',
    weight: 2,
    fits: isComparable,
    make: (table, dice) => {
      const [sql, type] = dice.pick([
        ['int4 DEFAULT (random() * 1000)::int4', 'int4'],
        ['text NOT NULL DEFAULT md5(random()::text)', 'text'],
        ['uuid DEFAULT gen_random_uuid()', 'uuid'],
        ['serial', 'int4'],
        ['int8 GENERATED BY DEFAULT AS IDENTITY', 'int8'],
      ] as const)
      const column = { ...newColumn(table, dice, typeNamed(type)), isNotNull: /NOT NULL|serial|IDENTITY/.test(sql) }
      return { sql: alter(table, `ADD ${quote(column.name)} ${sql}`), to: added(table, column), isStale: true, untold: COMPARED }
    },
  },
  {
    name: 'drop a column',
    weight: 4,
    fits: canDrop,
    make: (table, dice) => {
      const column = dice.pick(freeColumns(table))
      return { sql: alter(table, `DROP ${quote(column.name)}`), to: without(table, column), isStale: false, untold: { kind: 'drop' } }
    },
  },
  {
    name: 'drop a column and add one of its name',
    weight: 3,
    fits: canDrop,
    make: (table, dice) => {
      const column = dice.pick(freeColumns(table))
      const again = { ...column, type: dice.chance(0.5) ? column.type : dice.pick(columnTypes), isNotNull: false }
      const sql = `${alter(table, `DROP ${quote(column.name)}`)}; ${alter(table, `ADD ${quote(again.name)} ${again.type.sql}`)}`
      return { sql, to: added(without(table, column), again), isStale: false, untold: COMPARED }
    },
  },
  {
    name: 'rename a column',
    weight: 4,
    fits: (table) => isOpen(table) && renameable(table).length > 0,
    make: (table, dice) => {
      const column = dice.pick(renameable(table))
      const renamed = { ...column, name: newName(table, dice) }
      const sql = alter(table, `RENAME ${quote(column.name)} TO ${quote(renamed.name)}`)
      return { sql, to: replaced(table, column, renamed), isStale: false, untold: { kind: 'rename' } }
    },
  },
  {
    name: 'swap two names',
    weight: 1,
    fits: (table) => isFree(table) && renameable(table).length > 1,
    make: (table, dice) => {
      const [a, b] = dice.some(renameable(table), 2)
      const between = newName(table, dice)
      const rename = (from: string, to: string) => alter(table, `RENAME ${quote(from)} TO ${quote(to)}`)
      const sql = [rename(a.name, between), rename(b.name, a.name), rename(between, b.name)].join('; ')
      const to = replaced(replaced(table, a, { ...a, name: b.name }), b, { ...b, name: a.name })
      return { sql, to, isStale: false, untold: { kind: 'rename' } }
    },
  },
  {
    name: 'widen a column',
    weight: 4,
    fits: (table) => isFree(table) && table.columns.some(({ type }) => WIDER[type.sql] !== undefined),
    make: (table, dice) => retype(table, dice.pick(table.columns.filter(({ type }) => WIDER[type.sql] !== undefined)), WIDER, dice, false),
  },
  {
    // One rewrite, which takes the default into the rows.
    name: 'add a column with a default and widen another',
    weight: 2,
    fits: (table) => isFree(table) && isComparable(table) && table.columns.some(({ type }) => WIDER[type.sql] !== undefined),
    make: (table, dice) => {
      const old = dice.pick(table.columns.filter(({ type }) => WIDER[type.sql] !== undefined))
      const type = typeNamed(dice.pick(WIDER[old.type.sql]))
      const column = newColumn(table, dice, dice.pick(SIMPLE))
      const value = literal(column.type.value(dice, true), column.type)
      const sql = alter(table, `ADD ${quote(column.name)} ${column.type.sql} DEFAULT ${value}, ALTER ${quote(old.name)} TYPE ${type.sql}`)
      return { sql, to: added(replaced(table, old, { ...old, type }), column), isStale: true, untold: COMPARED }
    },
  },
  {
    name: 'convert a column',
    weight: 2,
    fits: (table) => isComparable(table) && freeColumns(table).some(({ type }) => CONVERTED[type.sql] !== undefined),
    make: (table, dice) =>
      retype(table, dice.pick(freeColumns(table).filter(({ type }) => CONVERTED[type.sql] !== undefined)), CONVERTED, dice, true),
  },
  {
    name: 'compute a column anew',
    weight: 2,
    fits: (table) => isComparable(table) && hasFree(table),
    make: (table, dice) => {
      const column = dice.pick(freeColumns(table))
      const name = quote(column.name)
      const [type, using] = dice.pick([
        ['text', `${name}::text || '!'`],
        ['int4', `length(${name}::text)`],
        ['varchar(20)', `left(md5(${name}::text), 20)`],
        [column.type.sql, dice.chance(0.5) || column.isNotNull ? name : 'NULL'],
      ] as const)
      const sql = alter(table, `ALTER ${name} DROP DEFAULT, ALTER ${name} TYPE ${type} USING ${using}`)
      return { sql, to: replaced(table, column, { ...column, type: typeNamed(type) }), isStale: true, untold: COMPARED }
    },
  },
  {
    name: 'set not null',
    weight: 2,
    fits: hasFree,
    make: (table, dice) => {
      return withNulls(table, dice.pick(freeColumns(table)), 'SET')
    },
  },
  {
    name: 'drop not null',
    weight: 2,
    fits: (table) => isOpen(table) && freeColumns(table).some(({ isNotNull }) => isNotNull),
    make: (table, dice) => {
      const required = freeColumns(table).filter(({ isNotNull }) => isNotNull)
      return withNulls(table, dice.pick(required), 'DROP')
    },
  },
  {
    // With one column more or fewer, or another one.
    name: 'change the primary key',
    weight: 4,
    fits: (table) => hasOwnKey(table) && keyable(table).length > 0,
    make: (table, dice) => {
      const more = dice.pick(keyable(table))
      const columns = dice.pick([
        [...table.key, more],
        [more, ...table.key.slice(1)],
        table.key.slice(0, Math.max(1, table.key.length - 1)),
      ])
      const sql = alter(table, `DROP CONSTRAINT ${primaryKey(table)}, ADD PRIMARY KEY (${sqlOf(columns)})`)
      const untold: Untold = table.isFull === true ? COMPARED : { kind: 'key' }
      return { sql, to: keyedBy(table, columns, dice), isStale: false, untold }
    },
  },
  {
    name: 'a primary key of new numbers',
    weight: 1,
    fits: (table) => hasOwnKey(table) && isWhole(table),
    make: (table, dice) => {
      const column = { ...newColumn(table, dice, typeNamed('int4')), isNotNull: true }
      const sql = alter(
        table,
        `ADD ${quote(column.name)} serial, DROP CONSTRAINT ${primaryKey(table)}, ADD PRIMARY KEY (${quote(column.name)})`,
      )
      return { sql, to: keyedBy(added(table, column), [column], dice), isStale: true, untold: COMPARED }
    },
  },
  {
    name: 'identify rows by another index',
    weight: 3,
    fits: (table) => isNameable(table) && table.columns.some(isIndexable),
    make: (table, dice) => {
      const columns = dice.some(table.columns.filter(isIndexable), dice.between(1, 2))
      const index = `${table.name} index ${dice.below(1_000_000)}`
      const sql = `CREATE UNIQUE INDEX ${quote(index)} ON ${quotedTable(table)} (${sqlOf(columns)}); ${alter(table, `REPLICA IDENTITY USING INDEX ${quote(index)}`)}`
      return { sql, to: { ...table, isFull: false }, isStale: false, untold: { kind: 'key' } }
    },
  },
  {
    name: 'identify rows by all they hold, or by the primary key',
    weight: 3,
    fits: isNameable,
    make: (table, dice) => {
      const isFull = !(hasPrimaryKey(table) && dice.chance(0.5))
      const sql = alter(table, `REPLICA IDENTITY ${isFull ? 'FULL' : 'DEFAULT'}`)
      return { sql, to: { ...table, isFull }, isStale: false, untold: { kind: 'key' } }
    },
  },
  {
    name: 'add a value to an enum',
    weight: 1,
    fits: isOpen,
    make: (_, dice) => ({
      sql: `ALTER TYPE oracle_mood ADD VALUE 'added${dice.below(3)}'`,
      isStale: false,
      untold: { kind: 'nulls' },
      type: enumTypes,
    }),
  },
  {
    name: 'rename a value of an enum',
    weight: 0.5,
    fits: isComparable,
    make: (_, dice) => {
      const [from, to] = dice.some(['sad', 'ok', 'added0', 'added1', 'blue'], 2)
      return { sql: `ALTER TYPE oracle_mood RENAME VALUE '${from}' TO '${to}'`, isStale: true, untold: SILENT, type: enumTypes }
    },
  },
  {
    name: 'alter a composite',
    weight: 2,
    fits: isOpen,
    make: (_, dice) => {
      const sql = dice.pick([
        `ADD ATTRIBUTE z${dice.below(3)} ${dice.pick(['int4', 'text', 'numeric(9,2)'])}`,
        `DROP ATTRIBUTE z${dice.below(3)}`,
        `RENAME ATTRIBUTE ${dice.pick(['x', 'y', 'z0'])} TO ${dice.pick(['x', 'z1', 'z2'])}`,
      ])
      return { sql: `ALTER TYPE oracle_pair ${sql}`, isStale: false, untold: SILENT, type: compositeTypes }
    },
  },
  {
    name: 'drop a table',
    weight: 0.5,
    fits: isReplaceable,
    make: (table) => ({ sql: `DROP TABLE ${quotedTable(table)}`, to: { ...table, isAbsent: true }, isStale: true, untold: SILENT }),
  },
  {
    name: 'drop a table and make another of its name',
    weight: 1,
    fits: isReplaceable,
    make: (table, dice) => {
      const made = another(table, dice)
      return { sql: [`DROP TABLE ${quotedTable(table)}`, ...tableDefinition(made)].join('; '), to: made, isStale: true, untold: SILENT }
    },
  },
  {
    name: 'make a table again',
    weight: 30,
    fits: (table) => table.isAbsent === true,
    make: (table, dice) => {
      const made = another(table, dice)
      return { sql: tableDefinition(made).join('; '), to: made, isStale: true, untold: SILENT }
    },
  },
  {
    // The one that was there is mirrored under its new name.
    name: 'rename or move a table and make another of its name',
    weight: 1,
    fits: isReplaceable,
    make: (table, dice) => {
      const made = another(table, dice)
      const sql = [...movedAway(table, `gone ${dice.below(1_000_000)}`, dice.chance(0.5)), ...tableDefinition(made)].join('; ')
      return { sql, to: made, isStale: true, untold: SILENT }
    },
  },
  {
    name: 'rename a table for a moment',
    weight: 1,
    fits: (table) => isNameable(table) && table.isGiven !== true,
    make: (table, dice) => {
      const away = `away ${dice.below(1_000_000)}`
      const place = `public.${quote(away)}`
      const rows = `DELETE FROM ${place} WHERE ctid IN (SELECT ctid FROM ${place} ORDER BY random() LIMIT 2)`
      const back = `ALTER TABLE ${place} RENAME TO ${quote(table.name)}`
      const sql = [alter(table, `RENAME TO ${quote(away)}`), ...(dice.chance(0.5) ? [rows] : []), back].join('; ')
      return { sql, isStale: true, untold: SILENT }
    },
  },
  {
    name: 'drop the primary key for a moment',
    weight: 2,
    fits: hasOwnKey,
    make: (table) => {
      const made = `ADD PRIMARY KEY (${sqlOf(table.key)})`
      const sql = [alter(table, `DROP CONSTRAINT ${primaryKey(table)}`), alter(table, made)].join('; ')
      return { sql, isStale: false, untold: table.isFull === true ? COMPARED : { kind: 'key' } }
    },
  },
  {
    name: 'identify rows by nothing for a moment',
    weight: 2,
    fits: (table) => isNameable(table) && hasPrimaryKey(table) && table.isFull !== true && table.identity === 'primary key',
    make: (table) => {
      const sql = [alter(table, 'REPLICA IDENTITY NOTHING'), alter(table, 'REPLICA IDENTITY DEFAULT')].join('; ')
      return { sql, isStale: false, untold: { kind: 'key' } }
    },
  },
  {
    name: 'alter a domain',
    weight: 1,
    fits: isOpen,
    make: (_, dice) => {
      const action = dice.pick(['SET DEFAULT 1.5', 'DROP DEFAULT', 'ADD CONSTRAINT any_price CHECK (true)', 'DROP CONSTRAINT any_price'])
      return { sql: `ALTER DOMAIN oracle_price ${action}`, isStale: false, untold: { kind: 'nulls' }, type: domainTypes }
    },
  },
  ...partitionChanges,
]

/** What changes of schema are called. */
export const changeNames: readonly string[] = changes.map(({ name }) => name)

/** A change of schema that fits, by their weights. `tables`: all that there are; `isTold`: triggers tell of it. */
export function chooseChange(
  table: OracleTable,
  dice: Dice,
  tables: readonly OracleTable[],
  isTold: boolean,
): { name: string; statement: Statement } {
  const fitting = changes.filter((change) => change.fits(table))
  const total = fitting.reduce((sum, { weight }) => sum + weight, 0)
  let left = (dice.next() / 2 ** 32) * total
  const { make, name } = fitting.find(({ weight }) => (left -= weight) < 0) ?? fitting[0]
  const made = make(table, dice)
  const altered =
    made.type === undefined ? [table] : tables.filter(({ columns }) => columns.some(({ type }) => made.type!.includes(type.sql)))
  const isWrapped = isTold && isComparable(table) && dice.chance(0.1)
  return {
    name,
    statement: {
      sql: isWrapped ? `DO $oracle$ BEGIN ${made.sql}; END $oracle$` : made.sql,
      values: [],
      tables: altered,
      holdsUp: made.type === compositeTypes,
      // A rewrite from within a function counts as one that computes values.
      alters: altered.map((one) => ({
        name: one.name,
        ...(made.to !== undefined && { to: made.to }),
        isStale: made.isStale || (isWrapped && made.isRewritten === true),
        untold: one.partitions === undefined || made.type !== undefined ? made.untold : ofPartitions(one, made),
      })),
    },
  }
}

/** What older rows have of a new column is known by its partitions alone, and each of those that is written anew looks as if it had been emptied. */
function ofPartitions({ tellsTruncations }: OracleTable, { isRewritten, untold }: Made): Untold {
  if (isRewritten === true || untold.kind === 'compared')
    return { kind: 'compared', ...(tellsTruncations !== true && { isNoticedAgain: 'always' }) }
  return ['add', 'add without a default'].includes(untold.kind) ? COMPARED : untold
}

/** Statements that give a table and its key another name, in a schema of its own where it is `moved`. */
function movedAway(table: OracleTable, name: string, moved: boolean): string[] {
  const move = `ALTER TABLE public.${quote(name)} SET SCHEMA elsewhere`
  return [
    alter(table, `RENAME TO ${quote(name)}`),
    `ALTER INDEX IF EXISTS public.${primaryKey(table)} RENAME TO ${quote(`${name}_pkey`)}`,
    ...(moved ? ['CREATE SCHEMA IF NOT EXISTS elsewhere', move] : []),
  ]
}

function withNulls(table: OracleTable, column: OracleColumn, how: 'SET' | 'DROP'): Made {
  const sql = alter(table, `ALTER ${quote(column.name)} ${how} NOT NULL`)
  const to = replaced(table, column, { ...column, isNotNull: how === 'SET' })
  return { sql, to, isStale: false, untold: { kind: 'nulls' } }
}

function alter(table: OracleTable, action: string): string {
  return `ALTER TABLE ${quotedTable(table)} ${action}`
}

function literal(value: string, type: OracleType): string {
  return `'${value.replaceAll("'", "''")}'::${type.sql}`
}

const NEW_NAMES = [...COLUMN_NAMES, 'new', 'N 2', 'drei', 'vier.5', 'date', 'six"6', '_7']

function newName(table: OracleTable, dice: Dice): string {
  const used = table.columns.map(({ name }) => name)
  return dice.pick(NEW_NAMES.filter((name) => !used.includes(name)))
}

function newColumn(table: OracleTable, dice: Dice, type: OracleType): OracleColumn {
  return { name: newName(table, dice), type, isNotNull: false, pool: null }
}

function added(table: OracleTable, column: OracleColumn): OracleTable {
  const shown = table.published === undefined ? column : { ...column, isHidden: true as const }
  return { ...table, columns: [...table.columns, shown] }
}

function without(table: OracleTable, column: OracleColumn): OracleTable {
  return { ...table, columns: table.columns.filter((one) => one !== column) }
}

function replaced(table: OracleTable, old: OracleColumn, column: OracleColumn): OracleTable {
  const swap = (columns: readonly OracleColumn[]) => columns.map((one) => (one === old ? column : one))
  return { ...table, columns: swap(table.columns), key: swap(table.key) }
}

function retype(table: OracleTable, column: OracleColumn, to: typeof WIDER, dice: Dice, isStale: boolean): Made {
  const type = typeNamed(dice.pick(to[column.type.sql]))
  const sql = alter(table, `ALTER ${quote(column.name)} TYPE ${type.sql}`)
  const isRewritten = isStale || /int|float/.test(type.sql)
  return {
    sql,
    to: replaced(table, column, { ...column, type }),
    isStale,
    isRewritten,
    untold: isRewritten ? COMPARED : { kind: 'longer' },
  }
}

const isIndexable = ({ isNotNull, type }: OracleColumn) => isNotNull && type.isKeyable
const keyable = (table: OracleTable) => table.columns.filter(({ type }) => type.isKeyable)

function keyedBy(table: OracleTable, columns: readonly OracleColumn[], dice: Dice): OracleTable {
  const key = [...new Set(columns)].map((column) => {
    const pool = column.pool ?? Array.from({ length: 20 }, () => column.type.value(dice, true))
    return { old: column, now: { ...column, pool, isNotNull: true } }
  })
  const keyed = key.reduce((so, { now, old }) => replaced(so, old, now), table)
  return { ...keyed, key: key.map(({ now }) => now) }
}

function another({ name }: OracleTable, dice: Dice): OracleTable {
  const made = makeTable(
    {
      identity: dice.pick(['primary key', 'full']),
      keys: [dice.below(keyTypes.length)],
      columns: Array.from({ length: dice.between(1, 4) }, () => ({ type: dice.below(columnTypes.length), isNotNull: dice.chance(0.3) })),
      seed: dice.next(),
    },
    0,
  )
  return { ...made, name }
}
