import { isMoonlinkError, type Clock, type MoonlinkError } from '@moonlink/core'
import { RetryDelay } from './retry-delay.ts'

const POLL_MS = 50

export interface PatienceOptions {
  readonly clock: Clock
  /** True once nobody wants to wait any more: what fails then is thrown. */
  readonly isEnding: () => boolean
  /** Called before each pause. */
  readonly onWait: (error: MoonlinkError) => void
}

/** Growing pauses between attempts at what can neither be left out nor be done otherwise, for as long as it fails by what may pass. */
export class Patience {
  private readonly options: PatienceOptions
  private readonly delay = new RetryDelay()

  constructor(options: PatienceOptions) {
    this.options = options
  }

  /** Does `work` until it succeeds. Throws what does not pass. */
  async with<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        const result = await work()
        this.succeeded()
        return result
      } catch (error) {
        await this.pauseAfter(error)
      }
    }
  }

  succeeded(): void {
    this.delay.succeeded()
  }

  /** Throws the error where it does not pass, or nobody waits any more. */
  async pauseAfter(error: unknown): Promise<void> {
    const { clock, isEnding, onWait } = this.options
    if (!isMoonlinkError(error, 'retry') || isEnding()) throw error
    onWait(error)
    this.delay.failed(clock.nowMs())
    while (!this.delay.isOver(clock.nowMs())) {
      await clock.sleep(POLL_MS)
      if (isEnding()) throw error
    }
  }
}
