import { assert, type Lsn, type Place, type SegmentId } from '@moonlink/core'
import { CommitEnds } from './commit-ends.ts'

const MIN_ENTRIES = 1024

/** Segment of an entry whose place is gone (`remapSegment` to -1). No segment has this id. */
export const NO_SEGMENT: SegmentId = 0xffff_ffff

/** Dead places as parallel arrays. Must not be written to. */
export interface DeadPlaces {
  readonly segments: Uint32Array
  readonly rows: Uint32Array
}

/**
 * Dead places in the order of their deaths. Every entry has a sequence number that only grows, so the table at an LSN is less a
 * prefix of the log: the entries below `endSeqAt(lsn)`.
 *
 * Arrays handed out by `entries` never change: growth, `prune`, `remapSegment` and a `truncateTo` into them continue in new memory.
 * Takes 8 bytes an entry, up to four times that just after growth or `prune`, and 16 a transaction.
 *
 * Not promised: order of places; that a place occurs once.
 */
export class DeletionLog {
  private segments = new Uint32Array(MIN_ENTRIES)
  private rows = new Uint32Array(MIN_ENTRIES)
  /** Index in the arrays of the entry `firstSeq`. */
  private offset = 0
  private first = 0
  private end = 0
  /** Entries below this may be held by somebody as a view of the present arrays. */
  private viewedEnd = 0
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
    return this.segments.byteLength + this.rows.byteLength + this.ends.byteSize
  }

  /** Adds an entry to the open transaction; returns its sequence number. Amortised O(1). */
  append(segment: SegmentId, row: number): number {
    const at = this.offset + (this.end - this.first)
    if (at === this.segments.length) {
      this.reallocate(this.first)
      return this.append(segment, row)
    }
    this.segments[at] = segment
    this.rows[at] = row
    return this.end++
  }

  /** Ends the open transaction: what was appended since the last mark becomes visible at `endLsn`. LSNs must not descend. */
  mark(endLsn: Lsn): void {
    this.ends.push(endLsn, this.end)
  }

  /**
   * Entries below this belong to transactions that ended at or before `lsn`. Where `prune` has forgotten those transactions, that
   * is `firstSeq`.
   */
  endSeqAt(lsn: Lsn): number {
    return Math.max(this.first, this.ends.endSeqAt(lsn))
  }

  /** Entries `[from, to)`, both within `[firstSeq, endSeq]`. The arrays keep their contents for good. O(1). */
  entries(from: number, to: number): DeadPlaces {
    assert(this.first <= from && from <= to && to <= this.end, 'entries asked for are held', { from, to, first: this.first, end: this.end })
    this.viewedEnd = Math.max(this.viewedEnd, to)
    const start = this.offset + (from - this.first)
    const end = start + (to - from)
    return { segments: this.segments.subarray(start, end), rows: this.rows.subarray(start, end) }
  }

  /**
   * Moves the entries of a segment to where its rows went: `map` gives the new place of a row, or -1 where it is nowhere any more
   * (the entry stays, of segment `NO_SEGMENT`). Only entries from `fromSeq` on. O(entries held).
   */
  remapSegment(segment: SegmentId, map: (row: number) => Place | -1, fromSeq = this.first): void {
    const from = Math.max(fromSeq, this.first)
    this.reallocate(this.first)
    const last = this.offset + (this.end - this.first)
    for (let at = this.offset + (from - this.first); at < last; at++) {
      if (this.segments[at] !== segment) continue
      const place = map(this.rows[at])
      this.segments[at] = place === -1 ? NO_SEGMENT : place.segment
      this.rows[at] = place === -1 ? 0 : place.row
    }
  }

  /** Drops the entries from `seq` on, all of the open transaction. The sequence numbers are given out again. */
  truncateTo(seq: number): void {
    assert(this.first <= seq && seq <= this.end, 'a log is cut within what it holds', { seq, first: this.first, end: this.end })
    assert(seq >= this.ends.lastSeq, 'an ended transaction is not rolled back', { seq, lastEnd: this.ends.lastSeq })
    this.end = seq
    if (seq < this.viewedEnd) this.reallocate(this.first)
  }

  /** Forgets the entries below `throughSeq`, and the transactions that ended there. Amortised O(1) an entry. */
  prune(throughSeq: number): void {
    if (throughSeq <= this.first) return
    assert(throughSeq <= this.end, 'only entries that exist are pruned', { throughSeq, end: this.end })
    this.ends.prune(throughSeq)
    this.offset += throughSeq - this.first
    this.first = throughSeq
    if (this.segments.length > MIN_ENTRIES && this.end - this.first <= this.segments.length / 4) this.reallocate(this.first)
  }

  /** Continues in new arrays with room for as many entries again, so that views keep the old ones. */
  private reallocate(from: number): void {
    const count = this.end - from
    const start = this.offset + (from - this.first)
    const capacity = Math.max(MIN_ENTRIES, count * 2)
    const segments = new Uint32Array(capacity)
    const rows = new Uint32Array(capacity)
    segments.set(this.segments.subarray(start, start + count))
    rows.set(this.rows.subarray(start, start + count))
    this.segments = segments
    this.rows = rows
    this.offset = 0
    this.viewedEnd = 0
  }
}
