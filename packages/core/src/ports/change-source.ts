import type { SourceEvent, TableShape } from '../change.ts'
import type { ColumnBatch } from '../columns/column.ts'
import type { Lsn } from '../lsn.ts'
import type { ChangeLog } from './change-log.ts'
import type { TableName } from '../table-name.ts'
import type { TableSchema } from '../types.ts'

/**
 * A source of committed changes, all of its tables on one LSN line.
 *
 * Errors: `retry` for what may pass, a lost connection above all; `invalid` with the remedy for what somebody has to change, or for changes that the source does not have any
 * more; the signal's reason where that is aborted.
 */
export interface ChangeSource {
  /**
   * Streams every change whose transaction ends after `after`. One stream at a time. With a log, what that has comes from there, and what the source
   * sends is appended to it before it is yielded. `resume`: where tables stand; the source takes others as they are now.
   */
  open(after: Lsn, signal: AbortSignal, log?: ChangeLog, resume?: readonly ResumePoint[]): Promise<ChangeStream>
  /** How far the source has committed, right now. */
  currentLsn(): Promise<Lsn>
  /** Copies tables as they are at one LSN. */
  copy(tables: readonly SourceTable[], signal: AbortSignal): Promise<TableCopy>
}

/** What a source sends, in the order of its log. Read by one reader, once. */
export interface ChangeStream extends AsyncIterable<SourceEvent> {
  /**
   * Tells the source that every change up to `durable` is safe with us, so that it may forget it. Never ahead of what a restart
   * could still need. Returns at once; the source learns of it soon.
   */
  acknowledge(durable: Lsn): void
  /** How far the source has told us it is. */
  readonly sourceLsn: Lsn
  /** Tells the source the last acknowledgement, and ends the iteration. Fine to call again. */
  close(): Promise<void>
}

/** Where a table goes on in a stream. */
export interface ResumePoint {
  readonly table: TableName
  /** The shape of the rows that come next. */
  readonly shape: TableShape
  /** The table has every transaction that ends here or before: it wants nothing of those. */
  readonly throughLsn: Lsn
  /** Up to here it has read them; absent where that is `throughLsn`, and less where its source was only looked at there. */
  readonly readThroughLsn?: Lsn
  /** Where a copy of it has begun: the newest LSN of which it has rows. */
  readonly copiedLsn?: Lsn
}

/** A table of the source and the schema it is mirrored with. */
export interface SourceTable {
  readonly table: TableName
  readonly schema: TableSchema
  /** What the source keeps of that shape (see `TableShape`); absent or null where it keeps nothing. */
  readonly sourceState?: string | null
}

/** Pages of a table in the source, from `from` up to but without `to`; null: up to the end, pages that come meanwhile included. */
export interface CopyRange {
  readonly from: number
  readonly to: number | null
}

/** What a copy says of a table it is to read. */
export interface CopiedTable {
  /** Rows the source estimates; null if unknown. */
  readonly estimatedRows: number | null
  readonly pages: number
  /** What a page brings on average, with values that are kept apart from it (TOAST). */
  readonly pageBytes: number
  /** Names where the source keeps the rows: pages of another one are other pages. Null where a later copy can't go on from this one. */
  readonly storage: string | null
  /** What `readChanged` of a later copy needs to tell rows that changed after this one. */
  readonly horizon: string
}

export interface CopyReadOptions {
  /** Ranges that are not to be read: an earlier copy has read them, in the same storage. */
  readonly done?: readonly CopyRange[]
  /** Called once every row of a range has been taken, before `read` resolves. */
  readonly finished?: (range: CopyRange) => Promise<void>
  /** True where another copy may go on with what is left: `read` may then reject with `retry`/`COPY_SNAPSHOT_OLD` between two ranges. */
  readonly mayGoOn?: boolean
}

/** Takes rows of one range. */
export type TakeCopied = (rows: ColumnBatch, range: CopyRange) => Promise<void>

/** Tables as they were at one LSN, to be read in any order. */
export interface TableCopy {
  /** The copy holds exactly the transactions that end at or before this LSN; the stream after it has the others. */
  readonly boundaryLsn: Lsn
  /** What is known of a table of this copy. */
  table(table: TableName): CopiedTable
  /**
   * Reads one table: hands out its rows in batches, each row once, in any order, a batch of one range. A batch is valid until the promise for it resolves,
   * and other threads can see its memory; a few are out at a time, and none is once this resolves. Rejects with the first error, of `take` or its own.
   */
  read(table: TableName, take: TakeCopied, options?: CopyReadOptions): Promise<void>
  /** Reads, of these ranges, the rows that came or changed after the copy of that horizon; some that did not may be among them. */
  readChanged(table: TableName, ranges: readonly CopyRange[], horizon: string, take: TakeCopied): Promise<void>
  /** Lets go of the snapshot; a `read` that runs is rejected. Fine to call again. */
  close(): Promise<void>
}
