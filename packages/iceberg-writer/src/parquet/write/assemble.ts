import { joinBytes, type Field } from '@moonlink/core'
import {
  ColumnChunk,
  ColumnIndex,
  ColumnMetaData,
  encodeFooter,
  Encoding,
  FileMetaData,
  MAGIC_BYTES,
  OffsetIndex,
  PageEncodingStats,
  PageLocation,
  PageType,
  RowGroup,
  Statistics,
} from '../footer.ts'
import { ThriftStruct, ThriftType, writeThrift } from '../thrift-compact.ts'
import type { EncodedParquet, ParquetCompression } from '../types.ts'
import { parquetBounds, type Bounds } from './bounds.ts'
import { boundaryOrder } from './boundary-order.ts'
import type { EncodedChunk, EncodedPage } from './column-chunk.ts'
import { CODECS } from './compress.ts'
import { fileSchema, type Leaf } from './file-schema.ts'
import { fileMetrics } from './metrics.ts'
import type { EncodedRowGroup } from './row-group.ts'

/** The number counts changes of the layout. The form is what parquet-java parses. */
const CREATED_BY = 'moonlink version 2'
/** The format's version that `FileMetaData` has carried since the start. */
const FORMAT_VERSION = 1

/** One Parquet file of these row groups, in this order. */
export function assembleFile(
  groups: readonly EncodedRowGroup[],
  fields: readonly Field[],
  compression: ParquetCompression,
): EncodedParquet {
  const schema = fileSchema(fields)
  let size = MAGIC_BYTES.length
  const starts = groups.map(({ bytes }) => (size += bytes.length) - bytes.length)
  // Small pieces, which become one.
  const tail: Uint8Array[] = []
  const append = (bytes: Uint8Array): number => {
    tail.push(bytes)
    size += bytes.length
    return size - bytes.length
  }
  const chunks = groups.map((group, index) =>
    group.chunks.map((chunk, leaf) => columnChunk(chunk, schema.leaves[leaf], starts[index], compression)),
  )
  // Page indexes lie behind all pages, near the footer, as the format wants them.
  groups.forEach((group, index) => {
    group.chunks.forEach((chunk, leaf) => appendIndexes(chunks[index][leaf], chunk, schema.leaves[leaf], starts[index], append))
  })
  const rows = groups.reduce((sum, group) => sum + group.rows, 0)
  const metadata = new ThriftStruct()
    .setI32(FileMetaData.VERSION, FORMAT_VERSION)
    .setStructs(FileMetaData.SCHEMA, schema.elements)
    .setI64(FileMetaData.NUM_ROWS, rows)
    .setStructs(
      FileMetaData.ROW_GROUPS,
      groups.map((group, index) => rowGroup(group, chunks[index], starts[index], index)),
    )
    .setText(FileMetaData.CREATED_BY, CREATED_BY)
    // Every leaf has the order of its type.
    .setStructs(
      FileMetaData.COLUMN_ORDERS,
      schema.leaves.map(() => new ThriftStruct().setStruct(1, new ThriftStruct())),
    )
  append(encodeFooter(metadata))
  // The pieces may move to another thread, so none is shared.
  const bytes = [MAGIC_BYTES.slice(), ...groups.map((group) => group.bytes), joinBytes(tail)]
  return { bytes, recordCount: rows, metrics: fileMetrics(groups, starts, schema, fields) }
}

function rowGroup(
  { rows, bytes, chunks }: EncodedRowGroup,
  columns: readonly ThriftStruct[],
  start: number,
  ordinal: number,
): ThriftStruct {
  return new ThriftStruct()
    .setStructs(RowGroup.COLUMNS, columns)
    .setI64(
      RowGroup.TOTAL_BYTE_SIZE,
      chunks.reduce((sum, chunk) => sum + chunk.uncompressedSize, 0),
    )
    .setI64(RowGroup.NUM_ROWS, rows)
    .setI64(RowGroup.FILE_OFFSET, start)
    .setI64(RowGroup.COMPRESSED_SIZE, bytes.length)
    .set(RowGroup.ORDINAL, ThriftType.I16, ordinal)
}

function columnChunk(chunk: EncodedChunk, leaf: Leaf, start: number, compression: ParquetCompression): ThriftStruct {
  const isPlain = chunk.dictionaryOffset === null
  const encodings = isPlain ? [Encoding.PLAIN, Encoding.RLE] : [Encoding.PLAIN, Encoding.RLE, Encoding.RLE_DICTIONARY]
  const text = new TextEncoder()
  const metadata = new ThriftStruct()
    .setI32(ColumnMetaData.TYPE, leaf.physical)
    .setList(ColumnMetaData.ENCODINGS, ThriftType.I32, encodings)
    .setList(
      ColumnMetaData.PATH,
      ThriftType.BINARY,
      leaf.path.map((name) => text.encode(name)),
    )
    .setI32(ColumnMetaData.CODEC, CODECS[compression])
    .setI64(ColumnMetaData.NUM_VALUES, chunk.entries)
    .setI64(ColumnMetaData.UNCOMPRESSED_SIZE, chunk.uncompressedSize)
    .setI64(ColumnMetaData.COMPRESSED_SIZE, chunk.compressedSize)
    .setI64(ColumnMetaData.DATA_PAGE_OFFSET, start + chunk.pages[0].offset)
    .setStruct(ColumnMetaData.STATISTICS, statistics(chunk, leaf))
  if (leaf.type.kind !== 'uuid') metadata.setStructs(ColumnMetaData.ENCODING_STATS, encodingStats(chunk))
  if (chunk.dictionaryOffset !== null) metadata.setI64(ColumnMetaData.DICTIONARY_PAGE_OFFSET, start + chunk.dictionaryOffset)
  return new ThriftStruct().setI64(ColumnChunk.FILE_OFFSET, 0).setStruct(ColumnChunk.META_DATA, metadata)
}

/**
 * How many pages have which encoding. Not told of UUIDs: where all pages have a dictionary, Iceberg's Java library takes that for the values that a predicate is about, in an order
 * that is not that of their bytes (apache/iceberg#14216); without these numbers it does not know.
 */
function encodingStats({ dictionaryOffset, pages }: EncodedChunk): ThriftStruct[] {
  const stats = (type: number, encoding: number, count: number) =>
    new ThriftStruct()
      .setI32(PageEncodingStats.PAGE_TYPE, type)
      .setI32(PageEncodingStats.ENCODING, encoding)
      .setI32(PageEncodingStats.COUNT, count)
  if (dictionaryOffset === null) return [stats(PageType.DATA, Encoding.PLAIN, pages.length)]
  return [stats(PageType.DICTIONARY, Encoding.PLAIN, 1), stats(PageType.DATA, Encoding.RLE_DICTIONARY, pages.length)]
}

function statistics({ nullCount, range }: EncodedChunk, leaf: Leaf): ThriftStruct {
  const struct = new ThriftStruct().setI64(Statistics.NULL_COUNT, nullCount)
  const bounds = parquetBounds(leaf, range)
  if (bounds === null) return struct
  const isText = leaf.type.kind === 'string' || leaf.type.kind === 'binary'
  struct
    .set(Statistics.MIN_VALUE, ThriftType.BINARY, bounds.lower)
    .setBoolean(Statistics.IS_MIN_EXACT, !isText || bounds.lower.length === range.least!.length)
  if (bounds.upper === null) return struct
  return struct
    .set(Statistics.MAX_VALUE, ThriftType.BINARY, bounds.upper)
    .setBoolean(Statistics.IS_MAX_EXACT, !isText || bounds.upper === range.greatest)
}

/** Appends where the chunk's pages lie, and what values they hold where that is known of each. */
function appendIndexes(column: ThriftStruct, chunk: EncodedChunk, leaf: Leaf, start: number, append: (bytes: Uint8Array) => number): void {
  const columnIndex = columnIndexOf(chunk.pages, leaf)
  if (columnIndex !== null) {
    const bytes = writeThrift(columnIndex)
    column.setI64(ColumnChunk.COLUMN_INDEX_OFFSET, append(bytes)).setI32(ColumnChunk.COLUMN_INDEX_LENGTH, bytes.length)
  }
  const locations = chunk.pages.map(({ offset, size, firstRow }) =>
    new ThriftStruct()
      .setI64(PageLocation.OFFSET, start + offset)
      .setI32(PageLocation.COMPRESSED_SIZE, size)
      .setI64(PageLocation.FIRST_ROW, firstRow),
  )
  const bytes = writeThrift(new ThriftStruct().setStructs(OffsetIndex.PAGE_LOCATIONS, locations))
  column.setI64(ColumnChunk.OFFSET_INDEX_OFFSET, append(bytes)).setI32(ColumnChunk.OFFSET_INDEX_LENGTH, bytes.length)
}

const NO_BYTES = new Uint8Array(0)

/** Null where a page's bounds are not known: it holds NaN alone, or a value without an upper bound. */
function columnIndexOf(pages: readonly EncodedPage[], leaf: Leaf): ThriftStruct | null {
  const bounds: (Bounds | null)[] = pages.map(({ range }) => parquetBounds(leaf, range))
  const isKnown = bounds.every((each, index) => pages[index].isAllNull || (each !== null && each.upper !== null))
  if (!isKnown) return null
  return new ThriftStruct()
    .setList(
      ColumnIndex.NULL_PAGES,
      ThriftType.TRUE,
      pages.map(({ isAllNull }) => isAllNull),
    )
    .setList(
      ColumnIndex.MIN_VALUES,
      ThriftType.BINARY,
      bounds.map((each) => each?.lower ?? NO_BYTES),
    )
    .setList(
      ColumnIndex.MAX_VALUES,
      ThriftType.BINARY,
      bounds.map((each) => each?.upper ?? NO_BYTES),
    )
    .setI32(ColumnIndex.BOUNDARY_ORDER, boundaryOrder(leaf, pages))
    .setList(
      ColumnIndex.NULL_COUNTS,
      ThriftType.I64,
      pages.map(({ nullCount }) => BigInt(nullCount)),
    )
}
