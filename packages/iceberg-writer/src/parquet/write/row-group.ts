import type { ColumnBatch } from '@moonlink/core'
import type { ParquetCompression } from '../types.ts'
import { ChunkWriter, type EncodedChunk } from './column-chunk.ts'
import type { FileSchema } from './file-schema.ts'
import { shred } from './shred.ts'

/** The pages of a row group, and what a footer says of them. Plain data that can go from thread to thread. */
export interface EncodedRowGroup {
  readonly rows: number
  readonly bytes: Uint8Array
  /** One for each leaf. */
  readonly chunks: readonly EncodedChunk[]
}

/** Writes rows `[from, to)`, at least one, as a row group. */
export function encodeRowGroup(
  batch: ColumnBatch,
  schema: FileSchema,
  from: number,
  to: number,
  compression: ParquetCompression,
): EncodedRowGroup {
  const writer = new ChunkWriter(compression)
  const chunks = schema.leaves.map((leaf) => writer.write(leaf, shred(leaf, batch.columns[leaf.column], from, to), to - from))
  return { rows: to - from, bytes: writer.output.written(), chunks }
}
