import { assert } from '@moonlink/core'
import type { DeletesView } from '@moonlink/union-read'

/** A row's death; its place in the log is its sequence number. */
export interface Death {
  readonly segment: number
  readonly row: number
}

/** A death that came along as its row moved to another segment. */
export interface MovedDeath {
  readonly row: number
  readonly seq: number
}

/** A view of a log of which everything below `firstSeq` is folded. `moved`: the deaths that came along, by the segment that has their rows now. */
export function deletesViewOf(
  log: readonly Death[],
  firstSeq: number,
  endSeq: number,
  moved: ReadonlyMap<number, readonly MovedDeath[]>,
): DeletesView {
  return {
    firstSeq,
    endSeq,
    chunks(from, to) {
      assert(from >= firstSeq && from <= to && to <= endSeq, 'entries are within the view', { from, to, firstSeq, endSeq })
      const part = log.slice(from, to)
      return [
        { firstSeq: from, segments: Uint32Array.from(part, (death) => death.segment), rows: Uint32Array.from(part, (death) => death.row) },
      ]
    },
    base(segment) {
      const own = log.slice(0, firstSeq).filter((death) => death.segment === segment)
      const early = (moved.get(segment) ?? []).filter(({ seq }) => seq < firstSeq)
      return Uint32Array.from([...own, ...early], (death) => death.row).toSorted()
    },
    moved(segment) {
      // Those that the base has may be left out.
      const deaths = (moved.get(segment) ?? []).filter(({ seq }) => seq >= firstSeq)
      return { rows: Uint32Array.from(deaths, (death) => death.row), seqs: Float64Array.from(deaths, (death) => death.seq) }
    },
  }
}
