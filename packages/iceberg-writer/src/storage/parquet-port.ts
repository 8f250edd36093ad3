import type { ColumnBatch, Field, RowsToWrite, ScannedBatch, TableSchema } from '@moonlink/core'
import type { EncodedParquet, FileLineage, ParquetFileWriter, ParquetSource } from '../parquet/types.ts'

/** What table storage needs of a Parquet writer and reader; `ParquetWorkerPool` is one. */
export interface ParquetPort {
  encode(rows: RowsToWrite, schema: TableSchema): Promise<EncodedParquet>
  /** Begins a file that is encoded in parts. */
  createFile(fields: readonly Field[]): ParquetFileWriter
  scan(
    source: ParquetSource,
    request: { readonly fields: readonly Field[]; readonly lineage: FileLineage | null },
  ): AsyncIterable<ScannedBatch>
  fetch(source: ParquetSource, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch>
}
