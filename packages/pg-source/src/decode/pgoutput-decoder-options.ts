import type { Lsn, TableName } from '@moonlink/core'
import type { MirroredTable, Relation } from './mirrored-table.ts'
import type { PartitionListener } from './partition-descriptions.ts'
import type { AlterationReader } from './table-alteration.ts'

export const DEFAULT_OPEN_TRANSACTION_BYTES = 1024 * 1024

export interface PgoutputDecoderOptions {
  /** What mirrors a relation of the source, or null where nothing does. Asked at each Relation message. */
  resolve(relation: Relation): MirroredTable | null
  /** Hears of partitions, of which events say nothing. Default: nobody does. */
  readonly partitions?: PartitionListener
  /** Reads messages about schema changes. Default: they are ignored, and changes are noticed at the next row. */
  readonly alterations?: AlterationReader
  /**
   * Whether somebody answers a question about a table whose Relation message came anew, which may hide a change of shape where it `fits` what is known.
   * Default: nobody, and where it does not fit the table is closed.
   */
  asks?(fits: boolean, table: TableName): boolean
  /** The table has every transaction that ends at or before this LSN already: its changes in them are dropped. Default: none. */
  skipThrough?(table: TableName): Lsn
  /**
   * How large an open transaction has to be, in bytes of messages, before a part of it is handed out: nobody can read it before it
   * ends, and few large batches are cheaper than many small ones. Default 1 MiB.
   */
  readonly openTransactionBytes?: number
  /** Every transaction that ends here or before is known already: no watermark says so again. Default 0. */
  readonly startLsn?: Lsn
}
