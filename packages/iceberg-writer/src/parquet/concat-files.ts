import { chunkRange, ColumnChunk, encodeFooter, FileMetaData, MAGIC_BYTES, moveChunk, readFooter, RowGroup } from './footer.ts'
import { readThrift, ThriftType, writeThrift, type ThriftStruct } from './thrift-compact.ts'

/** Thrift field ids of `OffsetIndex` and `PageLocation`. */
const PAGE_LOCATIONS = 1
const PAGE_OFFSET = 1

/** A column chunk of the output whose page indexes still lie in `part`, and by how much its pages have moved. */
interface MovedChunk {
  readonly part: Uint8Array
  readonly chunk: ThriftStruct
  readonly delta: number
}

/**
 * One file with the row groups of all `parts`, which have one schema; pages are copied as they are, page indexes moved. The first part's
 * metadata, changed by `edit`, becomes the file's. So a file of any size is written one row group at a time.
 */
export function concatFiles(
  parts: readonly Uint8Array[],
  edit: (metadata: ThriftStruct) => void,
): { readonly bytes: Uint8Array; readonly metadata: ThriftStruct } {
  const footers = parts.map(readFooter)
  const output = new Output()
  output.append(MAGIC_BYTES)
  const groups: ThriftStruct[] = []
  const moved: MovedChunk[] = []
  let rows = 0
  footers.forEach((metadata, index) => {
    rows += metadata.i64(FileMetaData.NUM_ROWS) ?? 0
    for (const group of metadata.structs(FileMetaData.ROW_GROUPS)) {
      groups.push(appendPages(output, parts[index], group, groups.length, moved))
    }
  })
  // After all pages, near the footer, as the format wants them.
  for (const chunk of moved) appendIndexes(output, chunk)
  const metadata = footers[0]
  metadata.setI64(FileMetaData.NUM_ROWS, rows).setStructs(FileMetaData.ROW_GROUPS, groups)
  edit(metadata)
  output.append(encodeFooter(metadata))
  return { bytes: output.take(), metadata }
}

function appendPages(output: Output, part: Uint8Array, group: ThriftStruct, ordinal: number, moved: MovedChunk[]): ThriftStruct {
  const chunks = group.structs(RowGroup.COLUMNS)
  const ranges = chunks.map(chunkRange)
  const start = Math.min(...ranges.map((range) => range.start))
  const end = Math.max(...ranges.map((range) => range.start + range.size))
  const delta = output.size - start
  const movedChunks = chunks.map((chunk) => moveChunk(chunk, delta))
  for (const chunk of movedChunks) moved.push({ part, chunk, delta })
  output.append(part.subarray(start, end))
  const copy = group.clone().setStructs(RowGroup.COLUMNS, movedChunks)
  if (copy.typeOf(RowGroup.FILE_OFFSET) !== undefined) copy.setI64(RowGroup.FILE_OFFSET, start + delta)
  if (copy.typeOf(RowGroup.ORDINAL) !== undefined) copy.set(RowGroup.ORDINAL, ThriftType.I16, ordinal)
  return copy
}

function appendIndexes(output: Output, { part, chunk, delta }: MovedChunk): void {
  const columnIndex = indexBytes(part, chunk, ColumnChunk.COLUMN_INDEX_OFFSET, ColumnChunk.COLUMN_INDEX_LENGTH)
  if (columnIndex !== null) {
    chunk.setI64(ColumnChunk.COLUMN_INDEX_OFFSET, output.size)
    output.append(columnIndex)
  }
  const offsetIndex = indexBytes(part, chunk, ColumnChunk.OFFSET_INDEX_OFFSET, ColumnChunk.OFFSET_INDEX_LENGTH)
  if (offsetIndex === null) return
  const index = readThrift(offsetIndex)
  for (const location of index.structs(PAGE_LOCATIONS)) location.setI64(PAGE_OFFSET, location.i64(PAGE_OFFSET)! + delta)
  const bytes = writeThrift(index)
  chunk.setI64(ColumnChunk.OFFSET_INDEX_OFFSET, output.size).setI32(ColumnChunk.OFFSET_INDEX_LENGTH, bytes.length)
  output.append(bytes)
}

function indexBytes(part: Uint8Array, chunk: ThriftStruct, offsetId: number, lengthId: number): Uint8Array | null {
  const offset = chunk.i64(offsetId)
  const length = chunk.i32(lengthId)
  return offset === undefined || length === undefined ? null : part.subarray(offset, offset + length)
}

class Output {
  size = 0
  private readonly chunks: Uint8Array[] = []

  append(chunk: Uint8Array): void {
    this.chunks.push(chunk)
    this.size += chunk.length
  }

  take(): Uint8Array {
    const result = new Uint8Array(this.size)
    let at = 0
    for (const chunk of this.chunks) {
      result.set(chunk, at)
      at += chunk.length
    }
    return result
  }
}
