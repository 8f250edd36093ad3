import type { TableName } from '@moonlink/core'
import type { MirroredTable } from './mirrored-table.ts'
import type { RowDecoder } from './row-decoder.ts'
import type { TableChanges } from './table-changes.ts'

/** The state of one mirrored table. */
export interface TableState {
  mirrored: MirroredTable
  changes: TableChanges
  /** Set when an event said that no more changes follow. */
  isClosed: boolean
  /** The transaction that last met this table, and whether the table skips it. */
  transaction: number
  skips: boolean
  isDirty: boolean
  /** The open transaction has truncated it, and nothing of what came after is out of `changes`. */
  isTruncated: boolean
}

/** A relation that is mirrored; `rows` is null where its shape does not fit, as `mismatch` says. */
export interface RelationState {
  readonly table: TableState
  readonly rows: RowDecoder | null
  readonly mismatch: string | null
  /** The name that the source calls the mirrored table now, where that is another. */
  readonly now: TableName | null
  /** Nothing is to be asked about it any more. */
  readonly isSettled: boolean
}
