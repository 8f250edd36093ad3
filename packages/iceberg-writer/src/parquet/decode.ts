import {
  BatchBuilder,
  defaultColumn,
  MoonlinkError,
  type Column,
  type ColumnBatch,
  type ColumnBuilder,
  type Field,
  type ScannedBatch,
} from '@moonlink/core'
import * as arrow from 'apache-arrow'
import { readParquet, wasmMemory } from 'parquet-wasm'
import { readMetadata, withSource, type ByteSource } from './byte-source.ts'
import { fieldsToRead, nodesOf, readWindows, type ReadWindow } from './file-plan.ts'
import { FileMetaData, malformed, RowGroup, type SchemaNode } from './footer.ts'
import { resolveLineage } from './lineage.ts'
import { pagesOf, runFile, runsOf, type Page } from './pages.ts'
import { physicalColumn, type PhysicalColumn } from './physical-type.ts'
import { subFile } from './sub-file.ts'
import type { ThriftStruct } from './thrift-compact.ts'
import { toColumn } from './to-column.ts'
import type { FileLineage, ParquetSource } from './types.ts'

/** Positions of one row group further apart than this are decoded apart: pages between them are skipped without being unpacked. */
const MAX_GAP_ROWS = 20_000

/** The windows that a scan of these fields reads, in row order. */
export function planScan(source: ParquetSource, fields: readonly Field[], lineage: FileLineage | null): ReadWindow[] {
  return withSource(source, (bytes) => readWindows(readMetadata(bytes), fieldsToRead(fields, lineage !== null)))
}

/** The rows of one window. */
export function readWindow(source: ParquetSource, window: ReadWindow, fields: readonly Field[], lineage: FileLineage | null): ScannedBatch {
  const wanted = fieldsToRead(fields, lineage !== null)
  const { firstRow, offset, length } = window
  const columns = withSource(source, (bytes) => {
    return decodeRows(openRowGroup(bytes, readMetadata(bytes), window.rowGroup, wanted), offset, length)
  })
  const rows: ColumnBatch = { fields, columns: columns.slice(0, fields.length), length }
  if (lineage === null) return { firstRow, rows, rowIds: null, lastUpdated: null }
  const rowIds = resolveLineage(columns[fields.length], length, (row) => lineage.firstRowId + firstRow + row)
  const lastUpdated = resolveLineage(columns[fields.length + 1], length, () => lineage.dataSequenceNumber)
  return { firstRow, rows, rowIds, lastUpdated }
}

/**
 * The rows at `positions` (ascending, distinct) of the file, in that order. Of a column without elements of its own only the pages are read that hold
 * them, where the file says which those are. Throws `invalid` for a position beyond the file's end.
 */
export function fetchRows(source: ParquetSource, positions: Uint32Array, fields: readonly Field[]): ColumnBatch {
  const builder = new BatchBuilder(fields, positions.length)
  withSource(source, (bytes) => {
    const metadata = readMetadata(bytes)
    const nodes = nodesOf(metadata, fields)
    let next = 0
    for (const window of readWindows(metadata, fields)) {
      const first = next
      const end = window.firstRow + window.length
      while (next < positions.length && positions[next] < end) next++
      if (next === first) continue
      const rows = positions.subarray(first, next).map((position) => position - window.firstRow + window.offset)
      const others: number[] = []
      fields.forEach((field, index) => {
        const node = nodes[index]
        const pages = node && pagesOf(bytes, metadata, window.rowGroup, node)
        if (!node || !pages) others.push(index)
        else appendFromPages(builder.builders[index], { bytes, metadata, rowGroup: window.rowGroup }, { node, field, pages }, rows)
      })
      if (others.length === 0) continue
      const group = openRowGroup(
        bytes,
        metadata,
        window.rowGroup,
        others.map((index) => fields[index]),
      )
      appendRows(
        others.map((index) => builder.builders[index]),
        group,
        rows,
      )
    }
    if (next < positions.length) {
      const message = `row ${positions[next]} lies beyond the end of a Parquet file; the place is not this file's`
      throw new MoonlinkError('invalid', 'PARQUET_ROW_MISSING', message)
    }
  })
  return { ...builder.view(), length: positions.length }
}

/** Bytes of WebAssembly memory that this thread holds; they never shrink. */
export function wasmMemoryBytes(): number {
  return wasmMemory().buffer.byteLength
}

/** Rows of a row group, ascending, of columns whose pages are read whole. */
function appendRows(builders: readonly ColumnBuilder[], group: OpenRowGroup, rows: Uint32Array): void {
  let from = 0
  while (from < rows.length) {
    const first = rows[from]
    let to = from + 1
    while (to < rows.length && rows[to] - rows[to - 1] <= MAX_GAP_ROWS) to++
    const columns = decodeRows(group, first, rows[to - 1] - first + 1)
    const wanted = rows.subarray(from, to).map((row) => row - first)
    builders.forEach((builder, index) => builder.appendGather(columns[index], wanted))
    from = to
  }
}

interface RowGroupSource {
  readonly bytes: ByteSource
  readonly metadata: ThriftStruct
  readonly rowGroup: number
}

function appendFromPages(
  builder: ColumnBuilder,
  { bytes, metadata, rowGroup }: RowGroupSource,
  { node, field, pages }: { readonly node: SchemaNode; readonly field: Field; readonly pages: readonly Page[] },
  rows: Uint32Array,
): void {
  const groupRows = metadata.structs(FileMetaData.ROW_GROUPS)[rowGroup].i64(RowGroup.NUM_ROWS) ?? 0
  const physical = physicalColumn(node, field.type)
  let from = 0
  for (const run of runsOf(pages, rows, groupRows)) {
    let to = from
    while (to < rows.length && rows[to] < run.endRow) to++
    const batch = decodeArrow(runFile(bytes, metadata, rowGroup, node, run), 0, run.endRow - run.firstRow)
    const column = toColumn(batch.data.children[0], physical, field.type)
    builder.appendGather(
      column,
      rows.subarray(from, to).map((row) => row - run.firstRow),
    )
    from = to
  }
}

interface StoredField {
  /** Index of the field among those asked for. */
  readonly index: number
  readonly node: SchemaNode
  readonly physical: PhysicalColumn
}

/** The pages of some columns of a row group, ready to decode. */
interface OpenRowGroup {
  readonly fields: readonly Field[]
  readonly stored: readonly StoredField[]
  readonly file: Uint8Array
}

function openRowGroup(bytes: ByteSource, metadata: ThriftStruct, rowGroup: number, fields: readonly Field[]): OpenRowGroup {
  const stored = nodesOf(metadata, fields).flatMap((node, index) => {
    return node === null ? [] : [{ index, node, physical: physicalColumn(node, fields[index].type) }]
  })
  const nodes = stored.map(({ node }) => node)
  return { fields, stored, file: nodes.length === 0 ? new Uint8Array(0) : subFile(bytes, metadata, rowGroup, nodes) }
}

/** Rows `[offset, offset + length)` of a row group; columns that the file does not have hold their initial default. */
function decodeRows({ fields, stored, file }: OpenRowGroup, offset: number, length: number): Column[] {
  const columns: (Column | null)[] = fields.map(() => null)
  if (stored.length > 0 && length > 0) {
    const batch = decodeArrow(file, offset, length)
    stored.forEach(({ index, physical }, at) => {
      columns[index] = toColumn(batch.data.children[at], physical, fields[index].type)
    })
  }
  return columns.map((column, index) => column ?? defaultColumn(fields[index], length))
}

function decodeArrow(file: Uint8Array, offset: number, length: number): arrow.RecordBatch {
  const table = unpack(file, offset, length)
  const batch = table.batches[0]
  if (table.batches.length !== 1 || batch === undefined || batch.numRows !== length) {
    throw malformed(`rows ${offset} to ${offset + length} of a row group are missing`)
  }
  return batch
}

/** The library fails in many ways on pages that are none; each means these bytes, and that the library's memory is in doubt. */
function unpack(file: Uint8Array, offset: number, length: number): arrow.Table {
  try {
    // `intoIPCStream` frees the table's WebAssembly memory.
    return arrow.tableFromIPC(readParquet(file, { offset, limit: length, batchSize: length }).intoIPCStream())
  } catch (error) {
    throw new MoonlinkError('corrupt', 'PARQUET_FAILED', `pages of a Parquet file can't be unpacked: ${String(error)}`, { cause: error })
  }
}
