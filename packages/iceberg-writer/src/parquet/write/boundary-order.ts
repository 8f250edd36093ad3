import type { EncodedPage } from './column-chunk.ts'
import type { Leaf } from './file-schema.ts'
import { mergeRanges, type ValueRange } from './value-range.ts'

/** The enum `BoundaryOrder`. */
const BoundaryOrder = { UNORDERED: 0, ASCENDING: 1, DESCENDING: 2 } as const

/** Whether least and greatest values both rise, or both fall, from page to page; all-null pages do not count. */
export function boundaryOrder({ type }: Leaf, pages: readonly EncodedPage[]): number {
  const ranges = pages.flatMap(({ range }) => (range.least === null ? [] : [range]))
  const next = ranges.slice(1)
  // The lesser of two, and the greater of two, tell their order.
  const rises = (a: ValueRange, b: ValueRange) => {
    const leasts = mergeRanges(type, [only(a.least!), only(b.least!)])
    const greatests = mergeRanges(type, [only(a.greatest!), only(b.greatest!)])
    return sameBytes(leasts.least!, a.least!) && sameBytes(greatests.greatest!, b.greatest!)
  }
  if (next.every((range, index) => rises(ranges[index], range))) return BoundaryOrder.ASCENDING
  return next.every((range, index) => rises(range, ranges[index])) ? BoundaryOrder.DESCENDING : BoundaryOrder.UNORDERED
}

function only(value: Uint8Array): ValueRange {
  return { least: value, greatest: value, nanCount: 0 }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}
