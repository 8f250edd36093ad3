import { MoonlinkError, type Field } from '@moonlink/core'
import { chunkMetaData, ColumnMetaData, FileMetaData, malformed, RowGroup, schemaTree, type SchemaNode } from './footer.ts'
import { LINEAGE_FIELDS } from './lineage.ts'
import type { ThriftStruct } from './thrift-compact.ts'

/** Rows that are decoded at once; `firstRow` counts within the file, `offset` within the row group. */
export interface ReadWindow {
  readonly rowGroup: number
  readonly firstRow: number
  readonly offset: number
  readonly length: number
}

/** Limits of one window; a row group beyond them is read in several. */
const MAX_WINDOW_ROWS = 262_144
const MAX_WINDOW_BYTES = 256 * 1024 * 1024
/** Places within a file are 32-bit. */
const MAX_ROWS = 2 ** 32

/** The file's nodes of the wanted fields, by field id; null for one that the file does not have. Throws `invalid` for a file without ids. */
export function nodesOf(metadata: ThriftStruct, fields: readonly Field[]): (SchemaNode | null)[] {
  const root = schemaTree(metadata)
  const byId = new Map<number, SchemaNode>()
  for (const node of root.children) if (node.fieldId !== null) byId.set(node.fieldId, node)
  if (byId.size === 0 && root.children.length > 0) {
    const message = 'a Parquet file has no field ids; rewrite it with a writer that knows Iceberg'
    throw new MoonlinkError('invalid', 'PARQUET_NO_FIELD_IDS', message)
  }
  return fields.map(({ id }) => byId.get(id) ?? null)
}

/** The fields to read: those asked for, then lineage where it is asked for. */
export function fieldsToRead(fields: readonly Field[], isLineage: boolean): readonly Field[] {
  return isLineage ? [...fields, ...LINEAGE_FIELDS] : fields
}

/** All rows of the file in order, in windows of bounded size. Throws `corrupt` for a count of rows that can't be. */
export function readWindows(metadata: ThriftStruct, fields: readonly Field[]): ReadWindow[] {
  const nodes = nodesOf(metadata, fields).filter((node) => node !== null)
  const windows: ReadWindow[] = []
  let firstRow = 0
  metadata.structs(FileMetaData.ROW_GROUPS).forEach((group, rowGroup) => {
    const rows = group.i64(RowGroup.NUM_ROWS) ?? 0
    if (rows < 0 || firstRow + rows > MAX_ROWS) throw malformed(`row group ${rowGroup} claims ${rows} rows`)
    const size = windowRows(group, nodes, rows)
    for (let offset = 0; offset < rows; offset += size) {
      windows.push({ rowGroup, firstRow: firstRow + offset, offset, length: Math.min(size, rows - offset) })
    }
    firstRow += rows
  })
  return windows
}

function windowRows(group: ThriftStruct, nodes: readonly SchemaNode[], rows: number): number {
  const chunks = group.structs(RowGroup.COLUMNS)
  let bytes = 0
  for (const { firstLeaf, endLeaf } of nodes) {
    for (const chunk of chunks.slice(firstLeaf, endLeaf)) bytes += chunkMetaData(chunk).i64(ColumnMetaData.UNCOMPRESSED_SIZE) ?? 0
  }
  const count = Math.max(Math.ceil(rows / MAX_WINDOW_ROWS), Math.ceil(bytes / MAX_WINDOW_BYTES), 1)
  return Math.max(1024, Math.ceil(rows / count))
}
