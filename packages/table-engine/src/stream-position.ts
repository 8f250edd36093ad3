import { formatLsn, maxLsn, MoonlinkError, type Clock, type Lsn } from '@moonlink/core'
import { LsnWaiters } from './lsn-waiters.ts'

/** How far the mirrors of one source are, and who waits for more. */
export class StreamPosition {
  private readonly waiters: LsnWaiters
  private appliedTo: Lsn = 0n
  private streamedTo: Lsn = 0n
  private sourceTo: Lsn = 0n
  private latestFrom: Lsn = 0n
  private isClosed = false

  constructor(clock: Clock) {
    this.waiters = new LsnWaiters(clock)
  }

  /** Every change up to here has been applied. */
  get appliedLsn(): Lsn {
    return this.appliedTo
  }

  /** How far the current stream has come; falls behind `appliedLsn` when a lost stream had to start again earlier. */
  get streamedLsn(): Lsn {
    return this.streamedTo
  }

  /** The source's own position, as far as it is known. */
  get sourceLsn(): Lsn {
    return maxLsn(this.sourceTo, this.appliedTo)
  }

  /** "Latest" answers only once this is applied. */
  get latestFromLsn(): Lsn {
    return this.latestFrom
  }

  /** `sourceLsn` is the source's position at the start: no reader of "latest" sees time go back. */
  requireCatchUp(sourceLsn: Lsn): void {
    this.latestFrom = maxLsn(this.latestFrom, sourceLsn)
    this.sourceTo = maxLsn(this.sourceTo, sourceLsn)
  }

  reached(lsn: Lsn, sourceLsn: Lsn): void {
    this.streamedTo = lsn
    this.appliedTo = maxLsn(this.appliedTo, lsn)
    this.sourceTo = maxLsn(this.sourceTo, sourceLsn)
    this.waiters.reached(lsn)
  }

  /** The next stream starts at `lsn`. */
  restartAt(lsn: Lsn): void {
    this.streamedTo = lsn
  }

  /** Nothing is applied any more: whoever waits need not. */
  close(): void {
    this.isClosed = true
    this.waiters.fail(closedError())
  }

  /** Throws `retry`/`ENGINE_CLOSED`. */
  requireOpen(): void {
    if (this.isClosed) throw closedError()
  }

  /** Throws `retry`/`TIMED_OUT` and `retry`/`ENGINE_CLOSED`. */
  async wait(lsn: Lsn, timeoutMs: number): Promise<void> {
    this.requireOpen()
    if (this.streamedTo >= lsn) return
    await this.waiters.wait(
      lsn,
      timeoutMs,
      () => `${formatLsn(lsn)} is not applied after ${timeoutMs} ms (applied: ${formatLsn(this.streamedTo)}${this.beforeSource(lsn)})`,
    )
  }

  /** Who waits for what the source has not written is told so: no patience helps but the source's own. */
  private beforeSource(lsn: Lsn): string {
    return lsn > this.sourceTo ? `; the source was at ${formatLsn(this.sourceTo)} when last heard of` : ''
  }
}

function closedError(): MoonlinkError {
  return new MoonlinkError('retry', 'ENGINE_CLOSED', 'the engine is closed: nothing more is applied until the next start; try again then.')
}
