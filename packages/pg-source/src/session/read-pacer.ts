/** What one read brings at most; after a full one there is more to read at once. */
const FULL_READ_BYTES = 64 * 1024
/** This many reads within a millisecond are a busy server's. */
const BUSY_READS = 4
/** A rest that brought less was not worth it. */
const WORTHWHILE_BYTES = 2048
/** A busy server says something within this time. */
const QUIET_MS = 2

/**
 * Decides when a socket is better left alone for a moment. A walsender sends each message by itself; a reader that answers each costs the server a
 * packet and a wake-up a message, and itself a turn of the event loop. Read once a millisecond, both do the same work with a fraction of the calls,
 * while a server that says little is still heard at once.
 */
export class ReadPacer {
  private isBusy = false
  private windowMs = -1
  private reads = 0
  private cycleBytes = 0
  private restedAtMs = 0

  /** Notes a read. True where the next one should wait a millisecond. */
  shouldRest(bytes: number, nowMs: number): boolean {
    this.cycleBytes += bytes
    if (this.isBusy && (nowMs - this.restedAtMs > QUIET_MS || this.cycleBytes < WORTHWHILE_BYTES)) this.isBusy = false
    if (!this.isBusy) this.isBusy = this.isBurst(nowMs)
    return this.isBusy && bytes < FULL_READ_BYTES
  }

  /** Notes that the socket is read again. */
  rested(nowMs: number): void {
    this.restedAtMs = nowMs
    this.cycleBytes = 0
  }

  private isBurst(nowMs: number): boolean {
    if (nowMs !== this.windowMs) {
      this.windowMs = nowMs
      this.reads = 0
    }
    return ++this.reads >= BUSY_READS
  }
}
