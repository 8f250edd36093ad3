import { ByteSink, type ColumnBatch } from '@moonlink/core'
import type { ParquetCompression } from '../types.ts'
import { ChunkWriter, type EncodedChunk } from './column-chunk.ts'
import { encodeVariants } from '../variant-columns.ts'
import type { FileSchema } from './file-schema.ts'
import { shred } from './shred.ts'

/** The pages of a row group, and what a footer says of them. Plain data that can go from thread to thread. */
export interface EncodedRowGroup {
  readonly rows: number
  readonly bytes: Uint8Array
  /** One for each leaf. */
  readonly chunks: readonly EncodedChunk[]
}

/** A larger buffer is not kept for the next row group. */
const KEPT_BYTES = 1 << 24

/** This thread's buffers, which most row groups fit in. */
let output = new ByteSink(1 << 20)
let page = new ByteSink(1 << 20)

/** Writes rows `[from, to)`, at least one, as a row group. */
export function encodeRowGroup(
  batch: ColumnBatch,
  schema: FileSchema,
  from: number,
  to: number,
  compression: ParquetCompression,
): EncodedRowGroup {
  if (output.bytes.length > KEPT_BYTES) output = new ByteSink(1 << 20)
  if (page.bytes.length > KEPT_BYTES) page = new ByteSink(1 << 20)
  output.length = 0
  const writer = new ChunkWriter(output, page, compression)
  const columns = batch.columns.map((column) => encodeVariants(column, from, to))
  const chunks = schema.leaves.map((leaf) => writer.write(leaf, shred(leaf, columns[leaf.column], from, to), to - from))
  return { rows: to - from, bytes: output.written().slice(), chunks }
}
