import type { TablePlan } from './plan.ts'

/** The rows of one segment that a plan does not show, ascending; for readers that take whole segments. */
export function deadRows(plan: TablePlan, segment: number): Uint32Array {
  const { deletes } = plan
  const dead = new Set<number>(deletes.base(segment))
  const moved = deletes.moved(segment)
  moved.rows.forEach((row, index) => {
    if (moved.seqs[index] < deletes.endSeq) dead.add(row)
  })
  for (const { segments, rows } of deletes.chunks(deletes.firstSeq, deletes.endSeq)) {
    segments.forEach((id, index) => {
      if (id === segment) dead.add(rows[index])
    })
  }
  return Uint32Array.from(dead).sort()
}
