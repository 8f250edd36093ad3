import { assert, type Lsn, type SegmentId } from '@moonlink/core'
import { CommitEnds } from './commit-ends.ts'
import { FoldedDeaths, type DeathChunk } from './folded-deaths.ts'

const MIN_ENTRIES = 1024
/** Deaths of one transaction are folded into sets once there are so many that are not. */
const FOLD_ENTRIES = 65_536

/** Deaths of ended transactions, as they are when they are asked for: nothing that happens to the log afterwards changes them. */
export interface Deaths {
  readonly firstSeq: number
  readonly endSeq: number
  /** Those from `fromSeq` on and below `toSeq`, both where a transaction ends, in the order of sequence numbers. */
  chunks(fromSeq: number, toSeq: number): Iterable<DeathChunk>
}

/**
 * Dead places in the order of the transactions in which they died. Every entry has a sequence number that only grows, so the table at an LSN is less a
 * prefix of the log: the entries below `endSeqAt(lsn)`. Within a transaction their order has no meaning, since they all count from its end
 * on: those of a large one are kept as sets of rows, one a segment (`FoldedDeaths`).
 *
 * Takes 8 bytes an entry, up to four times that just after growth, and 16 a transaction; beyond 65,536 entries in one transaction, at most
 * 2 bytes an entry and at most a bit for each row of the segments concerned.
 *
 * A place dies once.
 */
export class DeletionLog {
  /** What is before the entries in the arrays, in the order of sequence numbers. */
  private pieces: (DeathChunk | FoldedDeaths)[] = []
  private segments = new Uint32Array(MIN_ENTRIES)
  private rows = new Uint32Array(MIN_ENTRIES)
  /** Sequence number of the arrays' first entry in use, and where it is. */
  private arraysFirst = 0
  private offset = 0
  private first = 0
  private end = 0
  /** Where the open transaction begins. */
  private openFrom = 0
  /** The open transaction is folded before the entry with this sequence number. */
  private foldAt = FOLD_ENTRIES
  /** Somebody may hold views of the present arrays. */
  private isViewed = false
  private readonly ends = new CommitEnds()

  /** Sequence number of the oldest entry held. */
  get firstSeq(): number {
    return this.first
  }

  /** Sequence number of the next entry. */
  get endSeq(): number {
    return this.end
  }

  /** Bytes held, without older arrays that only views keep. */
  get byteSize(): number {
    let size = this.segments.byteLength + this.rows.byteLength + this.ends.byteSize
    for (const piece of this.pieces) size += piece instanceof FoldedDeaths ? piece.byteSize : piece.rows.length * 8
    return size
  }

  /** Adds an entry to the open transaction. Amortised O(1). */
  append(segment: SegmentId, row: number): void {
    if (this.end >= this.foldAt) this.fold()
    let at = this.offset + (this.end - this.arraysFirst)
    if (at === this.segments.length) {
      this.reallocate()
      at = this.offset + (this.end - this.arraysFirst)
    }
    this.segments[at] = segment
    this.rows[at] = row
    this.end++
  }

  /** Ends the open transaction: what was appended since the last mark becomes visible at `endLsn`. LSNs must not descend. */
  mark(endLsn: Lsn): void {
    this.ends.push(endLsn, this.end)
    this.openFrom = this.end
    this.foldAt = this.end + FOLD_ENTRIES
  }

  /**
   * Entries below this belong to transactions that ended at or before `lsn`. Where `prune` has forgotten those transactions, that
   * is `firstSeq`.
   */
  endSeqAt(lsn: Lsn): number {
    return Math.max(this.first, this.ends.endSeqAt(lsn))
  }

  /** The entries held of transactions that ended at or before `lsn`. Takes time in the number of large transactions. */
  deathsAt(lsn: Lsn): Deaths {
    const firstSeq = this.first
    const endSeq = this.endSeqAt(lsn)
    const pieces = this.piecesBelow(endSeq)
    return {
      firstSeq,
      endSeq,
      chunks: (fromSeq, toSeq) => {
        assert(firstSeq <= fromSeq && fromSeq <= toSeq && toSeq <= endSeq, 'entries asked for are held', {
          fromSeq,
          toSeq,
          firstSeq,
          endSeq,
        })
        return chunksOf(pieces, fromSeq, toSeq)
      },
    }
  }

  /**
   * The entries from `fromSeq` on, those of the open transaction included, and maybe earlier ones of the same transaction. Of large
   * transactions only those in the segments `only`; others may be given too. Valid until the next append.
   */
  chunksFrom(fromSeq: number, only: ReadonlySet<SegmentId>): Iterable<DeathChunk> {
    return chunksOf(this.piecesBelow(this.end), Math.max(fromSeq, this.first), this.end, only)
  }

  /** Folds what the open transaction has, however little, to save memory. */
  fold(): void {
    const from = Math.max(this.openFrom, this.arraysFirst)
    const count = this.end - from
    if (count === 0) return
    const earlier = from - this.arraysFirst
    if (earlier > 0) this.pieces.push(this.sliceOfArrays(this.arraysFirst, from))
    const last = this.pieces.at(-1)
    const folded = last instanceof FoldedDeaths && last.firstSeq === this.openFrom ? last : new FoldedDeaths(from)
    if (folded !== last) this.pieces.push(folded)
    const start = this.offset + earlier
    folded.add(this.segments.subarray(start, start + count), this.rows.subarray(start, start + count))
    assert(folded.endSeq === this.end, 'a folded transaction has all of its deaths', { folded: folded.endSeq, end: this.end })
    this.arraysFirst = this.end
    this.foldAt = this.end + FOLD_ENTRIES
    this.reallocate()
  }

  /** Forgets the entries below `throughSeq`, where a transaction ends, and the transactions that ended there. Amortised O(1) an entry. */
  prune(throughSeq: number): void {
    if (throughSeq <= this.first) return
    assert(throughSeq <= this.openFrom, 'only entries of ended transactions are pruned', { throughSeq, openFrom: this.openFrom })
    this.ends.prune(throughSeq)
    this.first = throughSeq
    this.pieces = this.pieces.filter((piece) => endOf(piece) > throughSeq)
    if (throughSeq > this.arraysFirst) {
      this.offset += throughSeq - this.arraysFirst
      this.arraysFirst = throughSeq
    }
    if (this.segments.length > MIN_ENTRIES && this.end - this.arraysFirst <= this.segments.length / 4) this.reallocate()
  }

  /** The arrays' entries `[from, to)`, with memory of their own. */
  private sliceOfArrays(from: number, to: number): DeathChunk {
    const start = this.offset + (from - this.arraysFirst)
    const end = start + (to - from)
    return { firstSeq: from, segments: this.segments.slice(start, end), rows: this.rows.slice(start, end) }
  }

  private piecesBelow(endSeq: number): (DeathChunk | FoldedDeaths)[] {
    const pieces = this.pieces.filter((piece) => piece.firstSeq < endSeq)
    if (endSeq <= this.arraysFirst) return pieces
    this.isViewed = true
    const end = this.offset + (endSeq - this.arraysFirst)
    return [
      ...pieces,
      { firstSeq: this.arraysFirst, segments: this.segments.subarray(this.offset, end), rows: this.rows.subarray(this.offset, end) },
    ]
  }

  /** Continues in new arrays, so that views keep the old ones. */
  private reallocate(): void {
    const count = this.end - this.arraysFirst
    const capacity = Math.max(MIN_ENTRIES, count * 2)
    if (!this.isViewed && capacity === this.segments.length) {
      this.segments.copyWithin(0, this.offset, this.offset + count)
      this.rows.copyWithin(0, this.offset, this.offset + count)
    } else {
      const { offset, rows, segments } = this
      this.segments = new Uint32Array(capacity)
      this.rows = new Uint32Array(capacity)
      this.segments.set(segments.subarray(offset, offset + count))
      this.rows.set(rows.subarray(offset, offset + count))
      this.isViewed = false
    }
    this.offset = 0
  }
}

function* chunksOf(
  pieces: readonly (DeathChunk | FoldedDeaths)[],
  fromSeq: number,
  toSeq: number,
  only?: ReadonlySet<SegmentId>,
): Generator<DeathChunk> {
  for (const piece of pieces) {
    if (endOf(piece) <= fromSeq || piece.firstSeq >= toSeq) continue
    if (piece instanceof FoldedDeaths) yield* piece.chunks(only)
    else yield part(piece, Math.max(fromSeq, piece.firstSeq), Math.min(toSeq, endOf(piece)))
  }
}

function part({ firstSeq, segments, rows }: DeathChunk, from: number, to: number): DeathChunk {
  return {
    firstSeq: from,
    segments: segments.subarray(from - firstSeq, to - firstSeq),
    rows: rows.subarray(from - firstSeq, to - firstSeq),
  }
}

function endOf(piece: DeathChunk | FoldedDeaths): number {
  return piece instanceof FoldedDeaths ? piece.endSeq : piece.firstSeq + piece.rows.length
}
