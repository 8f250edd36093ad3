import type { ColumnBatch } from './columns/column.ts'
import type { Lsn } from './lsn.ts'
import type { TableName } from './table-name.ts'
import type { TableSchema } from './types.ts'

/** What one change of a `ChangeBatch` does. */
export const ChangeOp = {
  /** Takes the next row of `rows`. */
  insert: 0,
  /** Takes the next row of `rows`; its key is that row's key, so the identity did not change. Takes nothing of `old`. */
  update: 1,
  /** Takes the next row of `rows` and the next of `old`, which names the row replaced. */
  updateOld: 2,
  /** Takes the next row of `old`, which names the row deleted. */
  delete: 3,
} as const

/** Where transactions end within a batch; parallel arrays, one entry per transaction that ends in it. */
export interface CommitMarks {
  /** End LSN of each transaction: the LSN at which its changes become visible. Ascending. */
  readonly endLsns: readonly Lsn[]
  /** How many of the batch's changes lie at or before that end. Ascending. */
  readonly changeCounts: readonly number[]
  /** Commit time in the source, ms since 1970. */
  readonly commitTimesMs: readonly number[]
}

/**
 * Cells of `rows` that the source did not send because they did not change (TOAST): the value is that of the row replaced. Never
 * cells that identify the row: those of the key, or any of a table without one.
 */
export interface UnchangedCells {
  /** Index into `rows.columns`. */
  readonly column: number
  /** Rows of `rows`, ascending. The cell there holds a null placeholder. */
  readonly rows: Uint32Array
}

/**
 * One table's run of changes, in commit order, over any number of transactions. Changes after the last mark belong to a
 * transaction that is still open.
 *
 * The memory of `rows` and `old` may be reused by the source: it is valid until the next event is taken.
 */
export interface ChangeBatch {
  readonly table: TableName
  /** A `ChangeOp` per change. */
  readonly ops: Uint8Array
  /** New rows, one for each insert and update, with every field of the table's schema. */
  readonly rows: ColumnBatch
  /**
   * Old identities, one for each `updateOld` and `delete`. Its fields are the table's identifier fields, or every field where
   * the table has no key or the source sends whole old rows.
   */
  readonly old: ColumnBatch
  readonly unchanged: readonly UnchangedCells[]
  readonly marks: CommitMarks
  /**
   * Of the transaction that the changes after the last mark belong to: a position before its end, and behind the end of every
   * transaction that ended before it. Left out where the source does not know one until the transaction ends.
   */
  readonly openLsn?: Lsn | undefined
}

/** How the rows of a table are from some place of the stream on. */
export interface TableShape {
  readonly schema: TableSchema
  /**
   * What the source must know of the table to go on from that place: opaque, and kept with what is committed. Null where the source keeps
   * nothing.
   */
  readonly sourceState: string | null
}

/**
 * What a change stream yields, in order.
 * - `batch`: changes of one table.
 * - `watermark`: every change of every table up to `lsn` has been yielded and no transaction is open; `lsn` may be read now.
 *   `sourceLsn` is how far the source itself is known to be.
 * - `schema`: within the open transaction, the table's rows have another shape from here on; seen at that transaction's end, which a
 *   batch of it marks. Fields keep their ids; what older rows hold in a new one is its initial default.
 * - `recopy`: within the open transaction, the table's rows change in a way that the source does not send: from that transaction's end on only
 *   a new copy shows them. Later changes, in the shape of the `schema` event before it, go on.
 * - `truncate`: within the open transaction, the tables lose every row they have so far; seen at that transaction's end, which a batch
 *   of each marks. `openLsn` as in a batch.
 * - `unmirrorable`: the stream met something in that table it can't turn into rows; the table's later changes are not yielded. `openLsn` as in a batch, where nothing
 *   of it can have happened before the open transaction.
 */
export type SourceEvent =
  | { readonly kind: 'batch'; readonly batch: ChangeBatch }
  | { readonly kind: 'watermark'; readonly lsn: Lsn; readonly sourceLsn: Lsn; readonly commitTimeMs: number | null }
  | { readonly kind: 'schema'; readonly table: TableName; readonly shape: TableShape; readonly openLsn?: Lsn | undefined }
  | {
      readonly kind: 'recopy'
      readonly table: TableName
      readonly code: string
      readonly reason: string
      readonly openLsn?: Lsn | undefined
    }
  | { readonly kind: 'truncate'; readonly tables: readonly TableName[]; readonly openLsn?: Lsn | undefined }
  | {
      readonly kind: 'unmirrorable'
      readonly table: TableName
      readonly code: string
      readonly reason: string
      readonly openLsn?: Lsn | undefined
    }
