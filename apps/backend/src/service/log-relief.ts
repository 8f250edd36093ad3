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

/** Commits to Iceberg early where the change log nears its bound, so that it can let go of what it has. */
export class LogRelief {
  readonly #options: LogReliefOptions
  #isFlushing = false
  #notBeforeMs = 0

  constructor(options: LogReliefOptions) {
    this.#options = options
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { clock, flush, log, logger, maxBytes } = this.#options
    const { byteSize } = log.status
    if (this.#isFlushing || byteSize < maxBytes * reliefShare || clock.nowMs() < this.#notBeforeMs) return
    this.#isFlushing = true
    logger.info('the change log nears its bound, so tables are committed early', { bytes: byteSize, maxBytes })
    flush()
      .catch((error: unknown) => logger.warn('a commit for the change log failed', { error: String(error) }))
      .finally(() => {
        this.#isFlushing = false
        this.#notBeforeMs = clock.nowMs() + pauseMs
      })
  }
}
