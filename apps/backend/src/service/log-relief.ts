import type { ChangeLog, Clock, Logger } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'

export interface LogReliefOptions {
  readonly engine: Pick<Engine, 'pauseRefused'>
  readonly log: Pick<ChangeLog, 'durableLsn' | 'status'>
  readonly clock: Clock
  readonly logger: Logger
  /** Commits what Iceberg lacks. */
  readonly flush: () => Promise<void>
}

/** At this share of the bound, commits are not left to their time. */
const reliefShare = 0.5
const pauseMs = 5000

/**
 * Commits to Iceberg early where that helps the change log: to let go of what it has, to begin anew, or to be of use since it did. Where it is short of room, what alone can't be
 * committed is paused, so that nothing is kept for that.
 */
export class LogRelief {
  readonly #options: LogReliefOptions
  #isFlushing = false
  #notBeforeMs = 0

  constructor(options: LogReliefOptions) {
    this.#options = options
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { clock, engine, flush, logger } = this.#options
    const reason = this.#reason()
    if (this.#isShort) engine.pauseRefused(0)
    if (reason === null || this.#isFlushing || clock.nowMs() < this.#notBeforeMs) return
    this.#isFlushing = true
    logger.info('tables are committed early for the change log', { reason })
    flush()
      .catch((error: unknown) => logger.warn('a commit for the change log failed', { error: String(error) }))
      .finally(() => {
        this.#isFlushing = false
        this.#notBeforeMs = clock.nowMs() + pauseMs
      })
  }

  get #isShort(): boolean {
    const { byteSize, maxBytes, trouble } = this.#options.log.status
    return trouble !== null || byteSize >= maxBytes * reliefShare
  }

  #reason(): string | null {
    const { log } = this.#options
    const { maxBytes, range, trouble } = log.status
    if (trouble !== null) return 'it has stopped'
    if (this.#isShort) return `it nears the ${maxBytes} bytes that it may have`
    return range !== null && log.durableLsn === null ? 'it does not reach back to what Iceberg has' : null
  }
}
