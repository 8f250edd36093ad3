import { minLsn, type ExactRange, type Lsn } from '@moonlink/core'

/** The LSNs below `floor` that some of the ranges, given newest first, hold: joined where they touch, newest first. */
export function rangesBelow(floor: Lsn, held: readonly ExactRange[]): ExactRange[] {
  const ranges: ExactRange[] = []
  let below = floor
  for (const { fromLsn, throughLsn } of held) {
    if (fromLsn >= below) continue
    const through = minLsn(throughLsn, below - 1n)
    below = fromLsn
    const last = ranges.at(-1)
    if (last?.fromLsn === through + 1n) ranges.splice(-1, 1, { fromLsn, throughLsn: last.throughLsn })
    else ranges.push({ fromLsn, throughLsn: through })
  }
  return ranges
}
