import { baseColumns, isFixed, type OracleTable } from './tables.ts'

export const isOpen = (table: OracleTable) => table.isAbsent !== true
export const isFree = (table: OracleTable) => isOpen(table) && !isFixed(table)
/** Rows of others can be told apart by what they hold. */
export const isComparable = (table: OracleTable) => isOpen(table) && table.identity !== 'append-only'
/** Its partitions name their rows by the same columns. */
export const isWhole = (table: OracleTable) => table.partitions === undefined
export const isNameable = (table: OracleTable) => isFree(table) && isComparable(table) && isWhole(table) && table.published === undefined
/** Another of its name would be published. */
export const isReplaceable = (table: OracleTable) => isFree(table) && isComparable(table) && table.isGiven !== true
export const freeColumns = (table: OracleTable) => {
  const base = baseColumns(table)
  return table.columns.filter((column) => !table.key.includes(column) && !base.includes(column.name))
}
export const hasFree = (table: OracleTable) => isOpen(table) && freeColumns(table).length > 0
/** A table without columns is not mirrored. */
export const canDrop = (table: OracleTable) => hasFree(table) && table.columns.length > 1
export const hasPrimaryKey = (table: OracleTable) => table.identity === 'primary key' || table.identity === 'full with a key'
/** What it is published with goes by the key. */
export const hasOwnKey = (table: OracleTable) =>
  isFree(table) && hasPrimaryKey(table) && table.key.length > 0 && table.published === undefined
/** What a table is partitioned by, and filtered, keeps its name. */
export const renameable = (table: OracleTable) =>
  isFixed(table) ? freeColumns(table) : table.columns.filter(({ name }) => !baseColumns(table).includes(name))
