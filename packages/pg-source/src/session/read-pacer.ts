/** This many reads within a millisecond are a busy server's. */
const BUSY_READS = 4
/** A rest that brought less was not worth it. */
const WORTHWHILE_BYTES = 2048
/** A server that sends as much in a millisecond is behind and catches up: nobody waits for a millisecond more or less. */
const FLOOD_BYTES_PER_MS = 8 * 1024
const REST_MS = 1
const LONGEST_REST_MS = 4

/**
 * Decides when a socket is better left alone for a moment. A walsender sends each message by itself; a reader that answers each costs the server a
 * packet and a wake-up a message, and itself a turn of the event loop. Read once a millisecond, or once in four under a flood, both do the same work
 * with a fraction of the calls, while a server that says little is still heard at once.
 */
export class ReadPacer {
  private readonly fullReadBytes: number
  private isBusy = false
  private windowMs = -1
  private reads = 0
  private cycleBytes = 0
  private cycleStartMs = 0

  /** `fullReadBytes`: what one read brings at most; after a full one there is more to read at once. */
  constructor(fullReadBytes: number) {
    this.fullReadBytes = fullReadBytes
  }

  /** Notes a read. How long to wait before the next one, in milliseconds; 0 where it is due at once. */
  restAfter(bytes: number, nowMs: number): number {
    this.cycleBytes += bytes
    // What comes first after a silence is little.
    if (this.isBusy && this.cycleBytes < WORTHWHILE_BYTES) this.isBusy = false
    if (!this.isBusy) this.isBusy = this.isBurst(nowMs)
    return this.isBusy && bytes < this.fullReadBytes ? this.restMs(nowMs) : 0
  }

  /** Notes that the socket is read again. */
  rested(nowMs: number): void {
    this.cycleStartMs = nowMs
    this.cycleBytes = 0
  }

  /** Under a flood, as long as what comes meanwhile takes half a read. */
  private restMs(nowMs: number): number {
    const bytesPerMs = this.cycleBytes / Math.max(REST_MS, nowMs - this.cycleStartMs)
    if (bytesPerMs < FLOOD_BYTES_PER_MS) return REST_MS
    return Math.min(LONGEST_REST_MS, Math.max(REST_MS, Math.floor(this.fullReadBytes / 2 / bytesPerMs)))
  }

  private isBurst(nowMs: number): boolean {
    if (nowMs !== this.windowMs) {
      this.windowMs = nowMs
      this.reads = 0
    }
    return ++this.reads >= BUSY_READS
  }
}
