import type { SegmentId } from '@moonlink/core'
import type { TablePlan } from './plan.ts'

/**
 * For each of the segments a byte for every row: 1 where the plan shows it, else 0. One pass over the log's entries, however many
 * segments.
 */
export function liveRows(
  plan: TablePlan,
  segments: readonly { readonly segment: SegmentId; readonly rowCount: number }[],
): ReadonlyMap<SegmentId, Uint8Array<ArrayBuffer>> {
  const { deletes } = plan
  const live = new Map<SegmentId, Uint8Array<ArrayBuffer>>()
  for (const { segment, rowCount } of segments) {
    const rows = new Uint8Array(rowCount).fill(1)
    for (const row of deletes.base(segment)) rows[row] = 0
    const moved = deletes.moved(segment)
    moved.rows.forEach((row, index) => {
      if (moved.seqs[index] < deletes.endSeq) rows[row] = 0
    })
    live.set(segment, rows)
  }
  let id = -1
  let current: Uint8Array | undefined
  for (const { segments: ids, rows } of deletes.chunks(deletes.firstSeq, deletes.endSeq)) {
    for (let index = 0; index < ids.length; index++) {
      if (ids[index] !== id) {
        id = ids[index]
        current = live.get(id)
      }
      if (current) current[rows[index]] = 0
    }
  }
  return live
}
