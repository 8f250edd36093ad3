import type { ColumnBatch, Field, RowsToWrite, ScannedBatch, TableSchema } from '@moonlink/core'
import type { EncodedParquet, FileLineage, ParquetSource } from '../parquet/types.ts'

/** What table storage needs of a Parquet writer and reader; `ParquetWorkerPool` is one. */
export interface ParquetPort {
  encode(rows: RowsToWrite, schema: TableSchema): Promise<EncodedParquet>
  scan(
    source: ParquetSource,
    request: { readonly fields: readonly Field[]; readonly lineage: FileLineage | null },
  ): AsyncIterable<ScannedBatch>
  fetch(source: ParquetSource, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch>
}
