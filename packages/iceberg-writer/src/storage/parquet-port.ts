import type { ColumnBatch, Field, RowsToWrite, ScannedBatch, TableSchema } from '@moonlink/core'
import type { ColumnMetrics } from '../avro/file-stats.ts'

/** A Parquet file in memory or on local disk. */
export type ParquetSource = { readonly bytes: Uint8Array } | { readonly path: string }

/** What table storage needs of a Parquet writer and reader; `ParquetWorkerPool` is one. */
export interface ParquetPort {
  encode(
    rows: RowsToWrite,
    schema: TableSchema,
  ): Promise<{ readonly bytes: Uint8Array; readonly recordCount: number; readonly metrics: ColumnMetrics }>
  scan(
    source: ParquetSource,
    request: {
      readonly fields: readonly Field[]
      readonly lineage: { readonly firstRowId: number; readonly dataSequenceNumber: number } | null
    },
  ): AsyncIterable<ScannedBatch>
  fetch(source: ParquetSource, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch>
}
