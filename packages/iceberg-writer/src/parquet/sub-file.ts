import type { ByteSource } from './byte-source.ts'
import {
  chunkMetaData,
  chunkRange,
  ColumnMetaData,
  ColumnChunk,
  encodeFooter,
  FileMetaData,
  MAGIC_BYTES,
  malformed,
  moveChunk,
  RowGroup,
  SchemaElement,
} from './footer.ts'
import type { SchemaNode } from './footer.ts'
import { checkPages } from './page-sizes.ts'
import { plainElements } from './physical-type.ts'
import { ThriftStruct } from './thrift-compact.ts'

const PAGE_INDEX_FIELDS = [
  ColumnChunk.OFFSET_INDEX_OFFSET,
  ColumnChunk.OFFSET_INDEX_LENGTH,
  ColumnChunk.COLUMN_INDEX_OFFSET,
  ColumnChunk.COLUMN_INDEX_LENGTH,
]
const UNUSED_FIELDS = [ColumnMetaData.STATISTICS, ColumnMetaData.BLOOM_FILTER_OFFSET, ColumnMetaData.BLOOM_FILTER_LENGTH]

/**
 * A Parquet file of one row group and some columns of another, its pages copied as they are. So no more is read than is needed, and the
 * decoder meets neither the writer's Arrow schema nor its annotations, only physical types.
 */
export function subFile(source: ByteSource, metadata: ThriftStruct, rowGroup: number, nodes: readonly SchemaNode[]): Uint8Array {
  const group = metadata.structs(FileMetaData.ROW_GROUPS)[rowGroup]
  const root = metadata.structs(FileMetaData.SCHEMA)[0]
  if (group === undefined || root === undefined) throw malformed(`row group ${rowGroup} is missing`)
  const chunks = nodes.flatMap(({ firstLeaf, endLeaf }) => group.structs(RowGroup.COLUMNS).slice(firstLeaf, endLeaf))
  const ranges = chunks.map((chunk) => chunkRange(chunk, source.size))
  const starts: number[] = []
  let end = MAGIC_BYTES.length
  for (const { size } of ranges) {
    starts.push(end)
    end += size
  }
  const footer = encodeFooter(
    footerOf(
      metadata,
      root,
      group,
      nodes,
      chunks.map((chunk, index) => movedBy(chunk, starts[index] - ranges[index].start)),
    ),
  )
  const file = new Uint8Array(end + footer.length)
  file.set(MAGIC_BYTES)
  ranges.forEach(({ start, size }, index) => source.readInto(file.subarray(starts[index], starts[index] + size), start))
  chunks.forEach((chunk, index) => checkPages(file.subarray(starts[index], starts[index] + ranges[index].size), chunkMetaData(chunk)))
  file.set(footer, end)
  return file
}

function movedBy(chunk: ThriftStruct, delta: number): ThriftStruct {
  const moved = moveChunk(chunk, delta).delete(...PAGE_INDEX_FIELDS)
  chunkMetaData(moved).delete(...UNUSED_FIELDS)
  return moved
}

function footerOf(
  metadata: ThriftStruct,
  root: ThriftStruct,
  group: ThriftStruct,
  nodes: readonly SchemaNode[],
  chunks: readonly ThriftStruct[],
): ThriftStruct {
  const schema = [root.clone().setI32(SchemaElement.NUM_CHILDREN, nodes.length), ...nodes.flatMap(plainElements)]
  const rows = group.clone().setStructs(RowGroup.COLUMNS, chunks).delete(RowGroup.SORTING, RowGroup.FILE_OFFSET, RowGroup.ORDINAL)
  return metadata
    .clone()
    .setStructs(FileMetaData.SCHEMA, schema)
    .setI64(FileMetaData.NUM_ROWS, rows.i64(RowGroup.NUM_ROWS) ?? 0)
    .setStructs(FileMetaData.ROW_GROUPS, [rows])
    .delete(FileMetaData.KEY_VALUES, FileMetaData.COLUMN_ORDERS)
}

/** Where bytes lie in a file. */
export interface Range {
  readonly start: number
  readonly end: number
}

/** The pages of a flat column that make a file; the dictionary's range is empty where there is none. */
export interface PagesToCopy {
  readonly dictionary: Range
  readonly data: Range
  readonly rows: number
}

/** A Parquet file of one flat column and some of its pages, which follow each other, copied as they are. */
export function pageFile(
  source: ByteSource,
  metadata: ThriftStruct,
  rowGroup: number,
  node: SchemaNode,
  chunk: ThriftStruct,
  { dictionary, data, rows }: PagesToCopy,
): Uint8Array {
  const root = metadata.structs(FileMetaData.SCHEMA)[0]
  const group = metadata.structs(FileMetaData.ROW_GROUPS)[rowGroup].clone().setI64(RowGroup.NUM_ROWS, rows)
  const dictionaryAt = MAGIC_BYTES.length
  const dataAt = dictionaryAt + dictionary.end - dictionary.start
  const end = dataAt + data.end - data.start
  const pages = chunkMetaData(chunk)
    .clone()
    .delete(...UNUSED_FIELDS, ColumnMetaData.ENCODING_STATS, ColumnMetaData.INDEX_PAGE_OFFSET, ColumnMetaData.DICTIONARY_PAGE_OFFSET)
    .setI64(ColumnMetaData.NUM_VALUES, rows)
    .setI64(ColumnMetaData.COMPRESSED_SIZE, end - dictionaryAt)
    .setI64(ColumnMetaData.DATA_PAGE_OFFSET, dataAt)
  if (dataAt > dictionaryAt) pages.setI64(ColumnMetaData.DICTIONARY_PAGE_OFFSET, dictionaryAt)
  const copied = chunk
    .clone()
    .delete(...PAGE_INDEX_FIELDS)
    .setI64(ColumnChunk.FILE_OFFSET, 0)
  const footer = encodeFooter(footerOf(metadata, root, group, [node], [copied.setStruct(ColumnChunk.META_DATA, pages)]))
  const file = new Uint8Array(end + footer.length)
  file.set(MAGIC_BYTES)
  source.readInto(file.subarray(dictionaryAt, dataAt), dictionary.start)
  source.readInto(file.subarray(dataAt, end), data.start)
  checkPages(file.subarray(dictionaryAt, end), pages)
  file.set(footer, end)
  return file
}
