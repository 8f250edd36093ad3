import { maxLsn, type Lsn } from '@moonlink/core'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'
import { PAUSED_PROPERTY } from './mirror-spec.ts'
import { RetryDelay } from './retry-delay.ts'

/** Stops a mirror and has its table remember that, also where the mirror failed. */
export class Pauses {
  private readonly core: MirrorCore
  private readonly flusher: Flusher
  private readonly retry = new RetryDelay()

  constructor(core: MirrorCore, flusher: Flusher) {
    this.core = core
    this.flusher = flusher
  }

  /** As the last process left it. */
  restore(): void {
    const pausedReason = this.core.spec.storage.snapshot.properties[PAUSED_PROPERTY]
    if (!pausedReason) return
    this.core.phase = 'paused'
    this.core.reason = pausedReason
    this.core.isPauseRecorded = true
  }

  /** One that misses changes, which the source may forget: it is told of nothing, for what finds that out after a crash is there already. */
  awaitResync(reason: string): void {
    if (this.core.phase !== 'streaming') return
    this.core.phase = 'paused'
    this.core.reason = `RESYNC ${reason}`
    this.core.isPauseRecorded = true
  }

  /**
   * Stops taking changes at once, commits what was applied between transactions, and is remembered across restarts. `openLsn`: of the transaction that it is paused for, as in a
   * batch; up to there nothing is missing.
   */
  async pause(reason: string, openLsn: Lsn): Promise<void> {
    const { core, flusher } = this
    const { logger } = core.host
    const wasStreaming = core.phase === 'streaming'
    core.pausedThroughLsn = wasStreaming && !core.isRewinding ? maxLsn(core.takenThroughLsn, openLsn) : null
    core.phase = 'paused'
    core.reason = reason
    logger.warn('table paused', { table: core.name, reason })
    await core.job(async () => {
      const error = wasStreaming ? await flusher.runAll().catch((cause: unknown) => cause) : null
      if (error instanceof Error) logger.warn('the flush before a pause failed', { table: core.name, error: error.message })
      core.reason = reason
      await this.record()
      await flusher.abandonOpenFiles()
    })
  }

  /**
   * One that is paused, or failed, is so for another reason from here on, which is remembered in place of the first. False where it began to be made equal to its source
   * before that. Throws what the storage throws.
   */
  async renew(reason: string): Promise<boolean> {
    const { core } = this
    core.reason = reason
    return core.job(async () => {
      if (core.phase === 'copying' || core.phase === 'streaming') return false
      if (core.reason === reason && !core.isFenced) await core.spec.storage.setProperties({ [PAUSED_PROPERTY]: reason })
      return true
    })
  }

  /** Where recording a pause failed, or is still to be done, tries now and then. Never waits for it. */
  recordSoon(): void {
    const { core } = this
    const nowMs = core.host.clock.nowMs()
    if (core.phase === 'copying' || core.isPauseRecorded || !this.retry.isOver(nowMs)) return
    this.retry.failed(nowMs)
    void core.job(() => this.record()).catch(() => undefined)
  }

  private async record(): Promise<void> {
    const { core } = this
    // It may have begun to be made equal to its source meanwhile.
    if (core.isPauseRecorded || core.isFenced || (core.phase !== 'paused' && core.phase !== 'failed')) return
    // Where nobody waits any more, tables fail by what would have passed: they begin at their last commit when they are opened again.
    if (core.phase === 'failed' && core.host.isEnding()) return
    try {
      await core.spec.storage.setProperties({ [PAUSED_PROPERTY]: core.reason ?? 'unknown' })
      core.isPauseRecorded = true
      this.retry.succeeded()
    } catch (error) {
      core.host.logger.error('the pause could not be recorded', { table: core.name, error: String(error) })
    }
  }
}
