import type { CopyRange } from '@moonlink/core'

/** The ranges, of `step` pages, that cover a table of so many pages but for those that are `done`. The last has no end, for pages that came since. */
export function rangesLeft(pages: number, step: number, done: readonly CopyRange[]): CopyRange[] {
  const ranges: CopyRange[] = []
  for (const { from, to } of gaps(done)) {
    let start = from
    const end = to ?? Math.max(pages, from + 1)
    for (; start + step < end; start += step) ranges.push({ from: start, to: start + step })
    ranges.push({ from: start, to })
  }
  return ranges
}

/** What a page of a table brings on average: the TOAST of its rows counts, for that is read with them. */
export function bytesOfPage(pages: number, bytes: number, blockSize: number): number {
  return pages === 0 ? blockSize : Math.round(bytes / pages)
}

/** Ranges joined where they meet, in order. */
export function joined(ranges: readonly CopyRange[]): CopyRange[] {
  const whole: CopyRange[] = []
  for (const range of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = whole.at(-1)
    if (last !== undefined && (last.to === null || last.to >= range.from))
      whole[whole.length - 1] = { from: last.from, to: last.to === null || range.to === null ? null : Math.max(last.to, range.to) }
    else whole.push(range)
  }
  return whole
}

function gaps(done: readonly CopyRange[]): CopyRange[] {
  const left: CopyRange[] = []
  let from = 0
  for (const range of joined(done)) {
    if (range.from > from) left.push({ from: from, to: range.from })
    if (range.to === null) return left
    from = range.to
  }
  left.push({ from: from, to: null })
  return left
}

/** The condition for rows of the range; null where that is every row. */
export function condition({ from, to }: CopyRange): string | null {
  const start = from === 0 ? null : `ctid >= '(${from},0)'::tid`
  const end = to === null ? null : `ctid < '(${to},0)'::tid`
  return start !== null && end !== null ? `${start} AND ${end}` : (start ?? end)
}
