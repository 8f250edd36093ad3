import type { TableName } from '@moonlink/core'
import type { Relation } from './mirrored-table.ts'

/** A change of a mirrored table that can't be decoded before somebody says what shape its rows have: what follows waits. */
export interface ShapeQuestion {
  readonly table: TableName
  /** The last Relation message of the table. */
  readonly relation: Relation
  /** The transaction that the change is in, which has committed. */
  readonly xid: number
}
