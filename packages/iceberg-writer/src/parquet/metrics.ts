import type { ColumnBatch } from '@moonlink/core'
import { boundsOf } from './bounds.ts'
import { extremesOf } from './extremes.ts'
import { chunkRange, FileMetaData, leavesOf, RowGroup, schemaTree } from './footer.ts'
import type { ThriftStruct } from './thrift-compact.ts'
import type { FileMetrics } from './types.ts'

/** Metrics of a file that was written from `batch`: values from the columns, sizes and offsets from the file's metadata. */
export function fileMetrics(batch: ColumnBatch, metadata: ThriftStruct): FileMetrics {
  const valueCounts: Record<number, number> = {}
  const nullCounts: Record<number, number> = {}
  const nanCounts: Record<number, number> = {}
  const lowerBounds: Record<number, Uint8Array> = {}
  const upperBounds: Record<number, Uint8Array> = {}
  batch.fields.forEach(({ id, type }, index) => {
    if (type.kind === 'list' || type.kind === 'struct') return
    const column = batch.columns[index]
    const extremes = extremesOf(column)
    valueCounts[id] = batch.length
    nullCounts[id] = column.nullCount
    if (type.kind === 'float' || type.kind === 'double') nanCounts[id] = extremes.nanCount
    const bounds = boundsOf(column, extremes)
    if (bounds !== null) lowerBounds[id] = bounds.lower
    if (bounds !== null && bounds.upper !== null) upperBounds[id] = bounds.upper
  })
  return { valueCounts, nullCounts, nanCounts, lowerBounds, upperBounds, ...layoutOf(metadata) }
}

function layoutOf(metadata: ThriftStruct): Pick<FileMetrics, 'columnSizes' | 'splitOffsets'> {
  const leaves = leavesOf(schemaTree(metadata))
  const columnSizes: Record<number, number> = {}
  const splitOffsets: number[] = []
  for (const group of metadata.structs(FileMetaData.ROW_GROUPS)) {
    const ranges = group.structs(RowGroup.COLUMNS).map(chunkRange)
    splitOffsets.push(Math.min(...ranges.map(({ start }) => start)))
    ranges.forEach(({ size }, leaf) => {
      const id = leaves[leaf].fieldId!
      columnSizes[id] = (columnSizes[id] ?? 0) + size
    })
  }
  return { columnSizes, splitOffsets }
}
