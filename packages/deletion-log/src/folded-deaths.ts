import type { SegmentId } from '@moonlink/core'
import { PositionSet } from './position-set.ts'

/** Dead places with the sequence numbers `firstSeq`, `firstSeq + 1`, …, as parallel arrays that must not be written to. */
export interface DeathChunk {
  readonly firstSeq: number
  readonly segments: Uint32Array
  readonly rows: Uint32Array
}

/**
 * Deaths of one transaction, which all count from its end on: a set of rows for each segment. At most 2 bytes a death, and at most a bit
 * for each row of the segments it names. Their sequence numbers follow segments and rows, not the order in which they came.
 */
export class FoldedDeaths {
  readonly firstSeq: number
  endSeq: number
  byteSize = 0
  private readonly sets = new Map<SegmentId, PositionSet>()

  constructor(firstSeq: number) {
    this.firstSeq = firstSeq
    this.endSeq = firstSeq
  }

  /** Adds places that it does not have. Where others have been given chunks, only in the same transaction. */
  add(segments: Uint32Array, rows: Uint32Array): void {
    for (const [segment, group] of grouped(segments, rows)) this.setOf(segment).addMany(group)
    this.byteSize = 0
    this.endSeq = this.firstSeq
    for (const set of this.sets.values()) {
      this.byteSize += set.byteSize
      this.endSeq += set.cardinality
    }
  }

  /** One chunk a segment; `only`: of these. */
  *chunks(only?: ReadonlySet<SegmentId>): Generator<DeathChunk> {
    let firstSeq = this.firstSeq
    for (const [segment, set] of [...this.sets].sort(([a], [b]) => a - b)) {
      if (only === undefined || only.has(segment)) {
        const rows = set.toArray()
        yield { firstSeq, segments: new Uint32Array(rows.length).fill(segment), rows }
      }
      firstSeq += set.cardinality
    }
  }

  private setOf(segment: SegmentId): PositionSet {
    let set = this.sets.get(segment)
    if (set === undefined) this.sets.set(segment, (set = new PositionSet()))
    return set
  }
}

/** The rows of each segment, in memory of their own. */
function grouped(segments: Uint32Array, rows: Uint32Array): ReadonlyMap<SegmentId, Uint32Array> {
  const counts = new Map<SegmentId, number>()
  for (const segment of segments) counts.set(segment, (counts.get(segment) ?? 0) + 1)
  const groups = new Map([...counts].map(([segment, count]) => [segment, { rows: new Uint32Array(count), filled: 0 }]))
  let segment = -1
  let group = { rows, filled: 0 }
  for (let index = 0; index < segments.length; index++) {
    if (segments[index] !== segment) group = groups.get((segment = segments[index]))!
    group.rows[group.filled++] = rows[index]
  }
  return new Map([...groups].map(([id, { rows: own }]) => [id, own]))
}
