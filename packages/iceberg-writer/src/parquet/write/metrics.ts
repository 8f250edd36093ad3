import type { Field } from '@moonlink/core'
import type { FileMetrics } from '../types.ts'
import { icebergBounds } from './bounds.ts'
import type { FileSchema } from './file-schema.ts'
import type { EncodedRowGroup } from './row-group.ts'
import { mergeRanges } from './value-range.ts'

/** Metrics of a file whose row groups start at `starts`. */
export function fileMetrics(
  groups: readonly EncodedRowGroup[],
  starts: readonly number[],
  schema: FileSchema,
  fields: readonly Field[],
): FileMetrics {
  const columnSizes: Record<number, number> = {}
  const valueCounts: Record<number, number> = {}
  const nullCounts: Record<number, number> = {}
  const nanCounts: Record<number, number> = {}
  const lowerBounds: Record<number, Uint8Array> = {}
  const upperBounds: Record<number, Uint8Array> = {}
  schema.leaves.forEach(({ fieldId: id, type, column, isVariantPart }, leaf) => {
    const chunks = groups.map((group) => group.chunks[leaf])
    const sum = (of: (chunk: (typeof chunks)[number]) => number) => chunks.reduce((total, chunk) => total + of(chunk), 0)
    columnSizes[id] = (columnSizes[id] ?? 0) + sum((chunk) => chunk.compressedSize)
    if (fields[column].id !== id) return
    valueCounts[id] = sum((chunk) => chunk.entries)
    nullCounts[id] = sum((chunk) => chunk.nullCount)
    if (isVariantPart) return
    const range = mergeRanges(
      type,
      chunks.map((chunk) => chunk.range),
    )
    // Of a file of nothing but NaN Iceberg's Java library holds that none is greater than anything; to Spark and Postgres NaN is greater than everything.
    const isTold = valueCounts[id] === 0 || range.nanCount < valueCounts[id]
    if ((type.kind === 'float' || type.kind === 'double') && isTold) nanCounts[id] = range.nanCount
    const bounds = icebergBounds(type, range)
    if (bounds !== null) lowerBounds[id] = bounds.lower
    if (bounds !== null && bounds.upper !== null) upperBounds[id] = bounds.upper
  })
  return { columnSizes, valueCounts, nullCounts, nanCounts, lowerBounds, upperBounds, splitOffsets: starts }
}
