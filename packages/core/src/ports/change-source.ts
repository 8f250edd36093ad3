import type { SourceEvent } from '../change.ts'
import type { ColumnBatch } from '../columns/column.ts'
import type { Lsn } from '../lsn.ts'
import type { ChangeLog } from './change-log.ts'
import type { TableName, TableSchema } from '../types.ts'

/** A source of committed changes, all of its tables on one LSN line. */
export interface ChangeSource {
  /**
   * Streams every change whose transaction ends after `after`. One stream at a time. With a log, what that has comes from there, and what the source
   * sends is appended to it before it is yielded.
   */
  open(after: Lsn, signal: AbortSignal, log?: ChangeLog): Promise<ChangeStream>
  /** How far the source has committed, right now. */
  currentLsn(): Promise<Lsn>
  /** Copies tables as they are at one LSN. */
  copy(tables: readonly SourceTable[], signal: AbortSignal): Promise<TableCopy>
}

export interface ChangeStream extends AsyncIterable<SourceEvent> {
  /**
   * Tells the source that every change up to `durable` is safe with us, so that it may forget it. Never ahead of what a restart
   * could still need. Returns at once; the source learns of it soon.
   */
  acknowledge(durable: Lsn): void
  /** How far the source has told us it is. */
  readonly sourceLsn: Lsn
  close(): Promise<void>
}

/** A table of the source and the schema it is mirrored with. */
export interface SourceTable {
  readonly table: TableName
  readonly schema: TableSchema
}

export interface TableCopy {
  /** The copy holds exactly the transactions that end at or before this LSN; the stream after it has the others. */
  readonly boundaryLsn: Lsn
  /**
   * Reads one table: hands out its rows in batches, each row once, in any order. A batch is valid until the promise for it resolves, and other
   * threads can see its memory; a few are out at a time, and none is once this resolves. Rejects with the first error, of `take` or its own.
   */
  read(table: TableName, take: (rows: ColumnBatch) => Promise<void>): Promise<void>
  /** Rows the source estimates for a table, for progress; null if unknown. */
  estimatedRows(table: TableName): number | null
  close(): Promise<void>
}
