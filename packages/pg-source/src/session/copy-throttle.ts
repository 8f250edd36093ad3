import type { Clock } from '@moonlink/core'

/** A pause that is shorter is saved up. */
const LEAST_PAUSE_MS = 5
/** What was not read while nobody wanted more may be made up for, up to this. */
const BURST_MS = 100

/** Bounds what all connections of a copy read together. */
export class CopyThrottle {
  private readonly bytesPerMs: number
  private readonly clock: Clock
  /** When all that was read would have been allowed to be. */
  private paidUntilMs: number

  constructor(bytesPerSecond: number, clock: Clock) {
    this.bytesPerMs = bytesPerSecond / 1000
    this.clock = clock
    this.paidUntilMs = clock.nowMs()
  }

  /** Notes bytes that were read. */
  spend(bytes: number): void {
    this.paidUntilMs = Math.max(this.paidUntilMs, this.clock.nowMs() - BURST_MS) + bytes / this.bytesPerMs
  }

  /** True where nobody should read now; then wait until `ready`. */
  get isInDebt(): boolean {
    return this.paidUntilMs - this.clock.nowMs() >= LEAST_PAUSE_MS
  }

  async ready(signal: AbortSignal): Promise<void> {
    while (this.isInDebt && !signal.aborted) await this.clock.sleep(this.paidUntilMs - this.clock.nowMs(), signal).catch(() => undefined)
  }
}
