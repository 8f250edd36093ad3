import type { Dice } from './dice.ts'
import type { Made } from './schema-change.ts'
import { COLUMN_NAMES, makeTable, quote, quotedTable, type OracleColumn, type OracleTable } from './tables.ts'
import { columnTypes, keyTypes, typeNamed, type OracleType } from './types.ts'

export const primaryKey = (table: OracleTable) => quote(`${table.name}_pkey`)
export const sqlOf = (names: readonly OracleColumn[]) => names.map(({ name }) => quote(name)).join(', ')

/** Statements that give a table and its key another name, in a schema of its own where it is `moved`. */
export function movedAway(table: OracleTable, name: string, moved: boolean): string[] {
  const move = `ALTER TABLE public.${quote(name)} SET SCHEMA elsewhere`
  return [
    alter(table, `RENAME TO ${quote(name)}`),
    `ALTER INDEX IF EXISTS public.${primaryKey(table)} RENAME TO ${quote(`${name}_pkey`)}`,
    ...(moved ? ['CREATE SCHEMA IF NOT EXISTS elsewhere', move] : []),
  ]
}

export function withNulls(table: OracleTable, column: OracleColumn, how: 'SET' | 'DROP'): Made {
  const sql = alter(table, `ALTER ${quote(column.name)} ${how} NOT NULL`)
  const to = replaced(table, column, { ...column, isNotNull: how === 'SET' })
  return { sql, to, isStale: false, untold: { kind: 'nulls' } }
}

export function alter(table: OracleTable, action: string): string {
  return `ALTER TABLE ${quotedTable(table)} ${action}`
}

export function literal(value: string, type: OracleType): string {
  return `'${value.replaceAll("'", "''")}'::${type.sql}`
}

export const NEW_NAMES = [...COLUMN_NAMES, 'new', 'N 2', 'drei', 'vier.5', 'date', 'six"6', '_7']

export function newName(table: OracleTable, dice: Dice): string {
  const used = table.columns.map(({ name }) => name)
  return dice.pick(NEW_NAMES.filter((name) => !used.includes(name)))
}

export function newColumn(table: OracleTable, dice: Dice, type: OracleType): OracleColumn {
  return { name: newName(table, dice), type, isNotNull: false, pool: null }
}

export function added(table: OracleTable, column: OracleColumn): OracleTable {
  const shown = table.published === undefined ? column : { ...column, isHidden: true as const }
  return { ...table, columns: [...table.columns, shown] }
}

export function without(table: OracleTable, column: OracleColumn): OracleTable {
  return { ...table, columns: table.columns.filter((one) => one !== column) }
}

export function replaced(table: OracleTable, old: OracleColumn, column: OracleColumn): OracleTable {
  const swap = (columns: readonly OracleColumn[]) => columns.map((one) => (one === old ? column : one))
  return { ...table, columns: swap(table.columns), key: swap(table.key) }
}

export function retype(
  table: OracleTable,
  column: OracleColumn,
  to: Readonly<Record<string, readonly string[]>>,
  dice: Dice,
  isStale: boolean,
): Made {
  const type = typeNamed(dice.pick(to[column.type.sql]))
  const sql = alter(table, `ALTER ${quote(column.name)} TYPE ${type.sql}`)
  const isRewritten = isStale || /int|float/.test(type.sql)
  return {
    sql,
    to: replaced(table, column, { ...column, type }),
    isStale,
    isRewritten,
    untold: isRewritten ? { kind: 'compared' } : { kind: 'longer' },
  }
}

export const isIndexable = ({ isNotNull, type }: OracleColumn) => isNotNull && type.isKeyable
export const keyable = (table: OracleTable) => table.columns.filter(({ type }) => type.isKeyable)

export function keyedBy(table: OracleTable, columns: readonly OracleColumn[], dice: Dice): OracleTable {
  const key = [...new Set(columns)].map((column) => {
    const pool = column.pool ?? Array.from({ length: 20 }, () => column.type.value(dice, true))
    return { old: column, now: { ...column, pool, isNotNull: true } }
  })
  const keyed = key.reduce((so, { now, old }) => replaced(so, old, now), table)
  return { ...keyed, key: key.map(({ now }) => now) }
}

export function another({ name }: OracleTable, dice: Dice): OracleTable {
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
