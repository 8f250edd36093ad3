import type { SegmentId } from '@moonlink/core'
import type { DeletionLog } from '@moonlink/deletion-log'

/** Rows of a segment that died at another place, with the log's sequence numbers (see `DeletesView.moved`). */
export interface MovedDeletes {
  readonly rows: Uint32Array
  readonly seqs: Float64Array
}

export const NOTHING_MOVED: MovedDeletes = { rows: new Uint32Array(0), seqs: new Float64Array(0) }

/** Bytes that moved deletes take. */
export function movedBytes({ rows, seqs }: MovedDeletes): number {
  return rows.byteLength + seqs.byteLength
}

/**
 * Log entries from `fromSeq` on whose place moves. `newRows`: for each segment that moves, its row → row in the new segment; -1 for rows that do not,
 * as those that died before `fromSeq`. `before`: what had moved to those segments already.
 */
export function movedDeletes(
  log: DeletionLog,
  fromSeq: number,
  newRows: ReadonlyMap<SegmentId, Int32Array>,
  before: ReadonlyMap<SegmentId, MovedDeletes> = new Map(),
): MovedDeletes {
  const moved = new Growing()
  const from = Math.max(fromSeq, log.firstSeq)
  for (const { firstSeq, rows, segments } of log.chunksFrom(from, new Set(newRows.keys()))) {
    for (let index = 0; index < rows.length; index++) {
      const row = newRows.get(segments[index])?.[rows[index]] ?? -1
      if (row >= 0) moved.push(row, firstSeq + index)
    }
  }
  for (const [segment, { rows, seqs }] of before) {
    const map = newRows.get(segment)!
    for (let index = 0; index < rows.length; index++) if (seqs[index] >= from) moved.push(map[rows[index]], seqs[index])
  }
  return moved.taken()
}

/** Without those below `seq`. */
export function movedSince(moved: MovedDeletes, seq: number): MovedDeletes {
  if (moved.rows.length === 0) return moved
  const kept = new Growing()
  moved.seqs.forEach((own, index) => {
    if (own >= seq) kept.push(moved.rows[index], own)
  })
  return kept.taken()
}

/** Two arrays that grow together: there may be millions. */
class Growing {
  private rows = new Uint32Array(64)
  private seqs = new Float64Array(64)
  private length = 0

  push(row: number, seq: number): void {
    if (this.length === this.rows.length) {
      const { rows, seqs } = this
      this.rows = new Uint32Array(this.length * 2)
      this.seqs = new Float64Array(this.length * 2)
      this.rows.set(rows)
      this.seqs.set(seqs)
    }
    this.rows[this.length] = row
    this.seqs[this.length++] = seq
  }

  taken(): MovedDeletes {
    return this.length === 0 ? NOTHING_MOVED : { rows: this.rows.slice(0, this.length), seqs: this.seqs.slice(0, this.length) }
  }
}
