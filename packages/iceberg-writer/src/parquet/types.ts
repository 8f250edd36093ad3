import type { ColumnBatch, KeptLineage, ObjectBytes } from '@moonlink/core'

/** Field id of `_row_id` (Iceberg spec, reserved field ids). */
export const ROW_ID_FIELD_ID = 2147483540

/** Field id of `_last_updated_sequence_number` (Iceberg spec, reserved field ids). */
export const LAST_UPDATED_FIELD_ID = 2147483539

/**
 * What a manifest says of a data file, by field id. Plain data.
 *
 * - `columnSizes` of every leaf column, those of lists and structs included: compressed bytes, page headers included.
 * - The other maps leave lists, structs and what they are made of out.
 * - `valueCounts` include nulls and NaNs; `nanCounts` only of float and double columns that do not hold NaN alone.
 * - Variants have no bounds.
 * - Bounds in single-value serialization (Iceberg spec, appendix D): exact, but strings and binaries are truncated to 16 code points
 *   or bytes, and a zero is written as -0.0 below and +0.0 above. Absent where a column holds no value (NaN is none) or no upper
 *   bound exists.
 */
export interface FileMetrics {
  readonly columnSizes: Readonly<Record<number, number>>
  readonly valueCounts: Readonly<Record<number, number>>
  readonly nullCounts: Readonly<Record<number, number>>
  readonly nanCounts: Readonly<Record<number, number>>
  readonly lowerBounds: Readonly<Record<number, Uint8Array>>
  readonly upperBounds: Readonly<Record<number, Uint8Array>>
  /** Offsets of the row groups' first pages, ascending. */
  readonly splitOffsets: readonly number[]
}

/** A whole Parquet file in memory. */
export interface EncodedParquet {
  readonly bytes: ObjectBytes
  readonly recordCount: number
  readonly metrics: FileMetrics
}

/** A Parquet file that is encoded in parts, each a row group or several. */
export interface ParquetFileWriter {
  /** Rows appended so far. */
  readonly recordCount: number
  /** Encoded bytes so far. */
  readonly byteSize: number
  /**
   * Appends rows behind those of earlier calls, with lineage in every call or in none. Memory that threads share is read until this settles; other
   * memory is taken over.
   */
  append(rows: ColumnBatch, lineage?: KeptLineage): Promise<void>
  /** The file, once every `append` has resolved. Runs on this thread: a copy of the bytes. */
  finish(): EncodedParquet
}

/** A Parquet file to read: in memory (copied to the worker, the caller keeps it), or on local disk. */
export type ParquetSource = { readonly bytes: Uint8Array } | { readonly path: string }

export type ParquetCompression = 'zstd' | 'gzip' | 'uncompressed'

export interface EncodeOptions {
  /** Default `zstd`. */
  readonly compression?: ParquetCompression
  /** Rows of a row group at most; default 122,880. */
  readonly rowGroupRows?: number
}

/** What a file's rows inherit where it stores no lineage (Iceberg spec, row lineage). */
export interface FileLineage {
  readonly firstRowId: number
  readonly dataSequenceNumber: number
}
