import type { ChangeLog, Clock, Logger } from '@moonlink/core'

export interface LogReliefOptions {
  readonly log: ChangeLog
  readonly maxBytes: number
  readonly clock: Clock
  readonly logger: Logger
  /** Commits what Iceberg lacks. */
  readonly flush: () => Promise<void>
}

/** At this share of the bound, commits are not left to their time. */
const reliefShare = 0.5
const pauseMs = 5000

/** Commits to Iceberg early where that helps the change log: to let go of what it has, to begin anew, or to be of use since it did. */
export class LogRelief {
  readonly #options: LogReliefOptions
  #isFlushing = false
  #notBeforeMs = 0

  constructor(options: LogReliefOptions) {
    this.#options = options
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { clock, flush, logger } = this.#options
    const reason = this.#reason()
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

  #reason(): string | null {
    const { log, maxBytes } = this.#options
    const { byteSize, range, trouble } = log.status
    if (trouble !== null) return 'it has stopped'
    if (byteSize >= maxBytes * reliefShare) return `it nears its bound of ${maxBytes} bytes`
    return range !== null && log.durableLsn === null ? 'it does not reach back to what Iceberg has' : null
  }
}
