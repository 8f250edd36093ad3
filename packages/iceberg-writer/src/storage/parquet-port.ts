import type { ColumnBatch, Field, RowsToWrite, ScannedBatch, TableSchema } from '@moonlink/core'
import type { EncodedParquet, FileLineage, ParquetFileWriter, ParquetSource } from '../parquet/types.ts'

/** What table storage needs of a Parquet writer and reader; `ParquetWorkerPool` is one. */
export interface ParquetPort {
  /** Rows as one file. Their memory is taken over: it must not be used any more. Throws `invalid` where a required field has nulls. */
  encode(rows: RowsToWrite, schema: TableSchema): Promise<EncodedParquet>
  /** Begins a file that is encoded in parts. */
  createFile(fields: readonly Field[]): ParquetFileWriter
  /**
   * Whole columns by field id, in row order, in batches of bounded size; a field that the file lacks holds its initial default, a promoted one its values in the new type. Throws
   * `corrupt` for a file that is damaged, `invalid` for one of another schema.
   */
  scan(
    source: ParquetSource,
    request: { readonly fields: readonly Field[]; readonly lineage: FileLineage | null },
  ): AsyncIterable<ScannedBatch>
  /** The rows at `positions` (ascending, distinct), as `scan` gives them. */
  fetch(source: ParquetSource, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch>
}
