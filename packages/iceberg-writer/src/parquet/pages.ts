import type { ByteSource } from './byte-source.ts'
import { chunkRange, ColumnChunk, FileMetaData, malformed, OffsetIndex, PageLocation, RowGroup } from './footer.ts'
import type { SchemaNode } from './footer.ts'
import { pageFile } from './sub-file.ts'
import { readThrift, type ThriftStruct } from './thrift-compact.ts'

/** A data page; `firstRow` counts within its row group. */
export interface Page {
  readonly offset: number
  readonly size: number
  readonly firstRow: number
}

/** Pages that follow each other, and the rows `[firstRow, endRow)` of the group that they hold. */
export interface PageRun {
  readonly pages: readonly Page[]
  /** Where the column's first data page begins; what lies before it is the dictionary. */
  readonly dataStart: number
  readonly firstRow: number
  readonly endRow: number
}

/** The pages of a column chunk, as its offset index names them; null where it has none, or a value is not a row. */
export function pagesOf(source: ByteSource, metadata: ThriftStruct, rowGroup: number, node: SchemaNode): Page[] | null {
  if (node.children.length > 0 || node.repeated) return null
  const chunk = chunkOf(metadata, rowGroup, node)
  const offset = chunk.i64(ColumnChunk.OFFSET_INDEX_OFFSET)
  const length = chunk.i32(ColumnChunk.OFFSET_INDEX_LENGTH)
  if (offset === undefined || length === undefined || offset < 0 || length <= 0 || offset + length > source.size) return null
  const bytes = new Uint8Array(length)
  source.readInto(bytes, offset)
  const pages = readThrift(bytes)
    .structs(OffsetIndex.PAGE_LOCATIONS)
    .map((location) => ({
      offset: location.i64(PageLocation.OFFSET) ?? -1,
      size: location.i32(PageLocation.COMPRESSED_SIZE) ?? -1,
      firstRow: location.i64(PageLocation.FIRST_ROW) ?? -1,
    }))
  const range = chunkRange(chunk, source.size)
  pages.forEach((page, index) => {
    const isInside = page.offset >= range.start && page.size > 0 && page.offset + page.size <= range.start + range.size
    const follows = index === 0 ? page.firstRow === 0 : page.firstRow > pages[index - 1].firstRow
    if (!isInside || !follows) throw malformed('an offset index does not fit its column')
  })
  return pages.length === 0 ? null : pages
}

/** The fewest pages that hold the rows (ascending, within the group), neighbours together. */
export function runsOf(pages: readonly Page[], rows: Uint32Array, groupRows: number): PageRun[] {
  const runs: PageRun[] = []
  const endOf = (page: number) => (page + 1 < pages.length ? pages[page + 1].firstRow : groupRows)
  let page = 0
  let first = -1
  let last = -1
  const close = () => {
    if (first < 0) return
    const dataStart = pages[0].offset
    runs.push({ pages: pages.slice(first, last + 1), dataStart, firstRow: pages[first].firstRow, endRow: endOf(last) })
  }
  for (const row of rows) {
    while (endOf(page) <= row) page++
    if (first < 0 || page > last + 1) {
      close()
      first = page
    }
    last = page
  }
  close()
  return runs
}

/** A Parquet file of one column with the rows of one run. */
export function runFile(source: ByteSource, metadata: ThriftStruct, rowGroup: number, node: SchemaNode, run: PageRun): Uint8Array {
  const { pages, dataStart, firstRow, endRow } = run
  const chunk = chunkOf(metadata, rowGroup, node)
  const last = pages[pages.length - 1]
  return pageFile(source, metadata, rowGroup, node, chunk, {
    dictionary: { start: chunkRange(chunk, source.size).start, end: dataStart },
    data: { start: pages[0].offset, end: last.offset + last.size },
    rows: endRow - firstRow,
  })
}

function chunkOf(metadata: ThriftStruct, rowGroup: number, node: SchemaNode): ThriftStruct {
  const chunk = metadata.structs(FileMetaData.ROW_GROUPS)[rowGroup]?.structs(RowGroup.COLUMNS)[node.firstLeaf]
  if (chunk === undefined) throw malformed(`row group ${rowGroup} lacks a column`)
  return chunk
}
