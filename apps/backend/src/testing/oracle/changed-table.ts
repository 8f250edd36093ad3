import type { Dice } from './dice.ts'
import { baseColumns, COLUMN_NAMES, isFixed, quotedTable, type OracleColumn, type OracleTable } from './tables.ts'
import type { OracleType } from './types.ts'

export const isOpen = (table: OracleTable) => table.isAbsent !== true
export const isFree = (table: OracleTable) => isOpen(table) && !isFixed(table)
/** Rows of others can be told apart by what they hold. */
export const isComparable = (table: OracleTable) => isOpen(table) && table.identity !== 'append-only'
/** Its partitions name their rows by the same columns. */
export const isWhole = (table: OracleTable) => table.partitions === undefined
export const freeColumns = (table: OracleTable) => {
  const base = baseColumns(table)
  return table.columns.filter((column) => !table.key.includes(column) && !base.includes(column.name))
}
export const hasFree = (table: OracleTable) => isOpen(table) && freeColumns(table).length > 0

export function alter(table: OracleTable, action: string): string {
  return `ALTER TABLE ${quotedTable(table)} ${action}`
}

const NEW_NAMES = [...COLUMN_NAMES, 'new', 'N 2', 'drei', 'vier.5', 'date', 'six"6', '_7']

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
