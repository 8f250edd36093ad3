import { MoonlinkError } from '@moonlink/core'
import { readThrift, writeThrift, type ThriftStruct } from './thrift-compact.ts'

/** Thrift field ids of Parquet's metadata structs that are used here (parquet.thrift of apache/parquet-format). */
export const FileMetaData = {
  VERSION: 1,
  SCHEMA: 2,
  NUM_ROWS: 3,
  ROW_GROUPS: 4,
  KEY_VALUES: 5,
  CREATED_BY: 6,
  COLUMN_ORDERS: 7,
  ENCRYPTION: 8,
} as const
export const RowGroup = { COLUMNS: 1, TOTAL_BYTE_SIZE: 2, NUM_ROWS: 3, SORTING: 4, FILE_OFFSET: 5, COMPRESSED_SIZE: 6, ORDINAL: 7 } as const
export const ColumnChunk = {
  FILE_OFFSET: 2,
  META_DATA: 3,
  OFFSET_INDEX_OFFSET: 4,
  OFFSET_INDEX_LENGTH: 5,
  COLUMN_INDEX_OFFSET: 6,
  COLUMN_INDEX_LENGTH: 7,
} as const
export const ColumnMetaData = {
  TYPE: 1,
  ENCODINGS: 2,
  PATH: 3,
  CODEC: 4,
  NUM_VALUES: 5,
  UNCOMPRESSED_SIZE: 6,
  COMPRESSED_SIZE: 7,
  DATA_PAGE_OFFSET: 9,
  INDEX_PAGE_OFFSET: 10,
  DICTIONARY_PAGE_OFFSET: 11,
  STATISTICS: 12,
  ENCODING_STATS: 13,
  BLOOM_FILTER_OFFSET: 14,
  BLOOM_FILTER_LENGTH: 15,
} as const
export const Statistics = { NULL_COUNT: 3, MAX_VALUE: 5, MIN_VALUE: 6, IS_MAX_EXACT: 7, IS_MIN_EXACT: 8 } as const
export const PageHeader = {
  TYPE: 1,
  UNCOMPRESSED_SIZE: 2,
  COMPRESSED_SIZE: 3,
  CRC: 4,
  DATA_PAGE: 5,
  DICTIONARY_PAGE: 7,
  DATA_PAGE_V2: 8,
} as const
export const DataPageHeader = { NUM_VALUES: 1, ENCODING: 2, DEFINITION_ENCODING: 3, REPETITION_ENCODING: 4 } as const
export const DictionaryPageHeader = { NUM_VALUES: 1, ENCODING: 2 } as const
export const PageEncodingStats = { PAGE_TYPE: 1, ENCODING: 2, COUNT: 3 } as const
export const ColumnIndex = { NULL_PAGES: 1, MIN_VALUES: 2, MAX_VALUES: 3, BOUNDARY_ORDER: 4, NULL_COUNTS: 5 } as const
export const OffsetIndex = { PAGE_LOCATIONS: 1 } as const
export const PageLocation = { OFFSET: 1, COMPRESSED_SIZE: 2, FIRST_ROW: 3 } as const
/** The enums `PageType` and `Encoding`. */
export const PageType = { DATA: 0, DICTIONARY: 2 } as const
export const Encoding = { PLAIN: 0, RLE: 3, RLE_DICTIONARY: 8 } as const
export const SchemaElement = {
  TYPE: 1,
  TYPE_LENGTH: 2,
  REPETITION: 3,
  NAME: 4,
  NUM_CHILDREN: 5,
  CONVERTED_TYPE: 6,
  SCALE: 7,
  PRECISION: 8,
  FIELD_ID: 9,
  LOGICAL_TYPE: 10,
} as const
/** Field ids of the union `LogicalType`. */
export const LogicalType = { STRING: 1, LIST: 3, DECIMAL: 5, DATE: 6, TIME: 7, TIMESTAMP: 8, UUID: 14, VARIANT: 16 } as const
/** The enum `Type`. */
export const PhysicalType = { BOOLEAN: 0, INT32: 1, INT64: 2, INT96: 3, FLOAT: 4, DOUBLE: 5, BYTE_ARRAY: 6, FIXED: 7 } as const

const MAGIC = 0x31524150 // "PAR1", little-endian
export const MAGIC_BYTES = new Uint8Array([0x50, 0x41, 0x52, 0x31])
/** Footer length and magic. */
export const TRAILER_SIZE = 8

/** A node of a file's schema; the root's children are the table's columns. */
export interface SchemaNode {
  readonly element: ThriftStruct
  readonly name: string
  readonly fieldId: number | null
  readonly repeated: boolean
  readonly children: readonly SchemaNode[]
  /** The leaf columns below (or at) this node are `[firstLeaf, endLeaf)` in file order. */
  readonly firstLeaf: number
  readonly endLeaf: number
}

/** Bytes of the footer's metadata, told by a file's last eight bytes. Throws `corrupt`. */
export function footerLength(trailer: Uint8Array, fileSize: number): number {
  const view = new DataView(trailer.buffer, trailer.byteOffset, trailer.byteLength)
  if (trailer.length !== TRAILER_SIZE || view.getUint32(4, true) !== MAGIC) throw malformed('the file does not end in PAR1')
  const length = view.getUint32(0, true)
  if (length + TRAILER_SIZE > fileSize) throw malformed('the footer is longer than the file')
  return length
}

/** The metadata at the end of `file`: of a whole file, or of a part that ends with it and holds it all. */
export function readFooter(file: Uint8Array): ThriftStruct {
  if (file.length < TRAILER_SIZE) throw malformed('the file is too short')
  const length = footerLength(file.subarray(file.length - TRAILER_SIZE), file.length)
  const start = file.length - TRAILER_SIZE - length
  return readThrift(file.subarray(start, start + length))
}

/** A footer as a file ends: metadata, its length, magic. */
export function encodeFooter(metadata: ThriftStruct): Uint8Array {
  const body = writeThrift(metadata)
  const footer = new Uint8Array(body.length + TRAILER_SIZE)
  footer.set(body)
  new DataView(footer.buffer).setUint32(body.length, body.length, true)
  footer.set(MAGIC_BYTES, body.length + 4)
  return footer
}

/** The schema, which a footer lists depth first, as a tree. Throws `corrupt`. */
export function schemaTree(metadata: ThriftStruct): SchemaNode {
  const elements = metadata.structs(FileMetaData.SCHEMA)
  let next = 0
  let leaf = 0
  const node = (depth: number): SchemaNode => {
    const element = elements[next++]
    if (element === undefined || depth > 64) throw malformed('the schema lacks elements')
    const count = element.i32(SchemaElement.NUM_CHILDREN) ?? 0
    const firstLeaf = leaf
    if (count === 0 && depth > 0) leaf++
    const children: SchemaNode[] = []
    for (let index = 0; index < count; index++) children.push(node(depth + 1))
    return {
      element,
      name: element.text(SchemaElement.NAME) ?? '',
      fieldId: element.i32(SchemaElement.FIELD_ID) ?? null,
      repeated: element.i32(SchemaElement.REPETITION) === 2,
      children,
      firstLeaf,
      endLeaf: leaf,
    }
  }
  const root = node(0)
  if (next !== elements.length) throw malformed('the schema has elements left over')
  return root
}

/** The nodes of a tree without children, in file order. */
export function leavesOf(node: SchemaNode): SchemaNode[] {
  return node.children.length === 0 ? [node] : node.children.flatMap(leavesOf)
}

export function chunkMetaData(chunk: ThriftStruct): ThriftStruct {
  const metadata = chunk.struct(ColumnChunk.META_DATA)
  if (metadata === undefined) throw malformed('a column chunk lacks its metadata (it may be encrypted)')
  return metadata
}

/** Where in a file of `fileSize` bytes a column chunk's pages lie: its first page is the dictionary's where there is one. Throws `corrupt`. */
export function chunkRange(chunk: ThriftStruct, fileSize: number): { readonly start: number; readonly size: number } {
  const metadata = chunkMetaData(chunk)
  const dataPage = metadata.i64(ColumnMetaData.DATA_PAGE_OFFSET)
  const size = metadata.i64(ColumnMetaData.COMPRESSED_SIZE)
  if (dataPage === undefined || size === undefined) throw malformed('a column chunk lacks its offset or size')
  const dictionary = metadata.i64(ColumnMetaData.DICTIONARY_PAGE_OFFSET) ?? 0
  const start = dictionary > 0 ? Math.min(dictionary, dataPage) : dataPage
  if (start < 0 || size < 0 || start + size > fileSize) throw malformed('a column chunk lies outside the file')
  return { start, size }
}

/** The chunk with the offsets of its pages moved by `delta` bytes; those of page indexes stay as they are. */
export function moveChunk(chunk: ThriftStruct, delta: number): ThriftStruct {
  const move = (struct: ThriftStruct, id: number) => {
    const offset = struct.i64(id)
    if (offset === undefined || offset === 0) return
    struct.setI64(id, Math.max(0, offset + delta))
  }
  const metadata = chunkMetaData(chunk).clone()
  const moved = chunk.clone()
  move(moved, ColumnChunk.FILE_OFFSET)
  move(metadata, ColumnMetaData.DATA_PAGE_OFFSET)
  move(metadata, ColumnMetaData.INDEX_PAGE_OFFSET)
  move(metadata, ColumnMetaData.DICTIONARY_PAGE_OFFSET)
  return moved.setStruct(ColumnChunk.META_DATA, metadata)
}

export function malformed(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'PARQUET_MALFORMED', `Parquet file is malformed: ${what}`)
}
