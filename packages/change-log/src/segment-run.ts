import type { LogRange, Lsn } from '@moonlink/core'
import type { LogPlace, LogRun, Segment } from './recover.ts'
import type { SegmentRemover } from './segment-remover.ts'

/** The segments that a log has, each going on where the one before ends. Those that fall out of it are handed to the remover. */
export class SegmentRun {
  /** End of the last transaction that counts; meaningless while there are no segments. */
  endLsn: Lsn
  /** Where that transaction ends, or where the first record is to be; null while there are no segments. */
  end: LogPlace | null
  private segments: Segment[]
  private readonly remover: SegmentRemover

  constructor(found: LogRun | null, remover: SegmentRemover) {
    this.segments = found === null ? [] : [...found.segments]
    this.endLsn = found?.endLsn ?? 0n
    this.end = found?.end ?? null
    this.remover = remover
  }

  get range(): LogRange | null {
    return this.segments.length === 0 ? null : { startLsn: this.segments[0].startLsn, endLsn: this.endLsn }
  }

  get fileBytes(): number {
    return this.segments.reduce((bytes, segment) => bytes + segment.fileBytes, 0)
  }

  /** Oldest first. */
  list(): readonly Segment[] {
    return this.segments
  }

  /** Forgets what it has: it goes from `lsn` on. */
  startAt(lsn: Lsn): void {
    this.remover.add(this.segments)
    this.segments = []
    this.end = null
    this.endLsn = lsn
  }

  /** Where the next segment goes on: that of a new session behind what counts, another behind its predecessor, with what is open at its end. */
  nextPlace(isSession: boolean): LogPlace | null {
    const last = this.segments.at(-1)
    return isSession || last === undefined ? this.end : { sequence: last.sequence, offset: last.length }
  }

  push(segment: Segment): void {
    this.segments.push(segment)
    this.end ??= { sequence: segment.sequence, offset: segment.headerLength }
  }

  /** Drops what lies behind `end`: it is not continued. */
  cutBehind(end: LogPlace): void {
    const at = this.segments.findIndex(({ sequence }) => sequence === end.sequence)
    this.remover.add(this.segments.slice(at + 1))
    this.segments = this.segments.slice(0, at + 1)
    this.segments[at].length = end.offset
  }

  /** Whether segments are of no use any more where everything up to `through` is safe elsewhere. */
  isPrunable(through: Lsn): boolean {
    return this.firstNeeded(through) > 0
  }

  /** Drops those. */
  prune(through: Lsn): void {
    const first = this.firstNeeded(through)
    if (first === 0) return
    this.remover.add(this.segments.slice(0, first))
    this.segments = this.segments.slice(first)
    const [{ sequence, headerLength }] = this.segments
    // Where the rest has only what is open, the last end was in what is removed.
    if (this.end !== null && this.end.sequence < sequence) this.end = { sequence, offset: headerLength }
    this.remover.start()
  }

  /** Index of the segment at which the log may begin then. */
  private firstNeeded(through: Lsn): number {
    const at = this.segments.findLastIndex(({ isCut, startLsn }) => isCut && startLsn <= through)
    return Math.max(0, at)
  }
}
