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
  const ranges = chunks.map(chunkRange)
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
      chunks.map((chunk, index) => movedTo(chunk, starts[index])),
    ),
  )
  const file = new Uint8Array(end + footer.length)
  file.set(MAGIC_BYTES)
  ranges.forEach(({ start, size }, index) => source.readInto(file.subarray(starts[index], starts[index] + size), start))
  file.set(footer, end)
  return file
}

function movedTo(chunk: ThriftStruct, start: number): ThriftStruct {
  const moved = moveChunk(chunk, start - chunkRange(chunk).start).delete(...PAGE_INDEX_FIELDS)
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
    .setI64(FileMetaData.NUM_ROWS, group.i64(RowGroup.NUM_ROWS) ?? 0)
    .setStructs(FileMetaData.ROW_GROUPS, [rows])
    .delete(FileMetaData.KEY_VALUES, FileMetaData.COLUMN_ORDERS)
}
