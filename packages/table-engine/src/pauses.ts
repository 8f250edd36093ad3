import { isMoonlinkError, maxLsn, MoonlinkError, type Lsn } from '@moonlink/core'
import type { ChangeIntake } from './change-intake.ts'
import { isRefusal } from './outcomes.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'
import { PAUSED_PROPERTY } from './mirror-spec.ts'
import { RetryDelay } from './retry-delay.ts'
import { rewind } from './rewind.ts'
import { tryStorage } from './try-storage.ts'

/** Stops a mirror and has its table remember that, also where the mirror failed. */
export class Pauses {
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly flusher: Flusher
  private readonly retry = new RetryDelay()
  /** What the table remembers. */
  private recordedReason: string | null = null
  /** What keeps it from remembering more. */
  private trouble: unknown = null
  /** Where it is stopped for a refusal: what was refused was tried with success since. */
  private isAllowed = false

  constructor(core: MirrorCore, intake: ChangeIntake, flusher: Flusher) {
    this.core = core
    this.intake = intake
    this.flusher = flusher
  }

  /** True where it is stopped for a refusal, and nothing is refused any more. */
  get isAllowedAgain(): boolean {
    return this.core.isStopped && this.isRefused && this.isAllowed && !this.isUnfinished
  }

  /** As the last process left it. */
  restore(): void {
    const pausedReason = this.core.spec.storage.snapshot.properties[PAUSED_PROPERTY]
    if (!pausedReason) return
    this.core.phase = 'paused'
    this.core.reason = this.recordedReason = pausedReason
    this.core.isLetGo = true
  }

  /** One that misses changes, which the source may forget: it is told of nothing, for what finds that out after a crash is there already. */
  awaitResync(reason: string): void {
    if (this.core.phase !== 'streaming') return
    this.core.phase = 'paused'
    this.core.reason = this.recordedReason = `RESYNC ${reason}`
    this.core.isLetGo = true
  }

  /**
   * Stops taking changes at once, commits what was applied between transactions, and is remembered across restarts; what fails of that is tried again (`tendSoon`).
   * `openLsn`: of the transaction that it is paused for, as in a batch; up to there nothing is missing.
   */
  async pause(reason: string, openLsn: Lsn): Promise<void> {
    const { core, flusher } = this
    const wasStreaming = core.phase === 'streaming'
    core.pausedThroughLsn = wasStreaming && !core.isRewinding ? maxLsn(core.takenThroughLsn, openLsn) : null
    core.phase = 'paused'
    core.reason = reason
    this.isAllowed = false
    core.host.logger.warn('table paused', { table: core.name, reason })
    await core.job(async () => {
      if (wasStreaming) await this.flush(reason)
      this.isFor(reason)
      await this.record()
      await flusher.abandonOpenFiles()
    })
  }

  /**
   * One that is paused, or failed, is so for another reason from here on, which is remembered in place of the first. False where it began to be made equal to its source
   * before that.
   */
  async renew(reason: string): Promise<boolean> {
    const { core } = this
    this.isFor(reason)
    return core.job(async () => {
      if (!this.core.isStopped) return false
      // A pause that was under way has set its own.
      this.isFor(reason)
      await this.record()
      return true
    })
  }

  /** Throws what keeps a restart from finding the table stopped, and for what it is. */
  requireRecorded(): void {
    const { core } = this
    if (!core.isStopped || this.isRecorded) return
    throw (
      core.fencedBy ??
      this.trouble ??
      new MoonlinkError('retry', 'TABLE_CLOSED', `${core.name} is opened by the next backend: this one ends.`)
    )
  }

  /** What a pause could not do yet is tried now and then. Never waits for it. */
  tendSoon(): void {
    const { core } = this
    const nowMs = core.host.clock.nowMs()
    if (!this.core.isStopped || !this.isUnfinished || !this.retry.isOver(nowMs)) return
    this.retry.failed(nowMs)
    void core.job(() => this.tend()).catch((error: unknown) => core.logFailure('a pause could not be finished; it is tried again', error))
  }

  /** Goes back to the last commit, and shows what that has: what was applied since is read no more, and takes no memory. Throws what the storage throws. Among the jobs. */
  async goBack(): Promise<void> {
    const { core } = this
    if (!this.core.isStopped) return
    await core.lock.run(async () => {
      await rewind(core, this.intake, this.flusher)
      core.isRewinding = false
    })
  }

  private get isRecorded(): boolean {
    return this.core.isLetGo && this.recordedReason === this.core.reason
  }

  /** Rows that are shown, and wait for a commit. */
  private get isUncommitted(): boolean {
    const { phase, pausedThroughLsn, isRewinding, state } = this.core
    return phase === 'paused' && pausedThroughLsn !== null && !isRewinding && !this.flusher.isClean && state.openChanges === 0
  }

  private get isRefused(): boolean {
    return isRefusal(this.core.reason ?? '')
  }

  private get isUnfinished(): boolean {
    const { isRewinding, phase } = this.core
    return !this.isRecorded || this.isUncommitted || (phase === 'paused' && isRewinding) || (this.isRefused && !this.isAllowed)
  }

  private async tend(): Promise<void> {
    const { core } = this
    const { reason } = core
    if (this.isUncommitted) await this.flush(reason)
    await this.record()
    if (core.phase === 'paused' && core.isRewinding) await this.goBack()
    if (this.isRefused && this.isRecorded) {
      // What is still refused costs no other table a pause of the stream, nor the source a copy.
      await tryStorage(core)
      this.isAllowed = true
    }
    if (!this.isUnfinished) this.retry.succeeded()
  }

  /** What fails is no reason to be stopped for something else. */
  private async flush(reason: string | null): Promise<void> {
    const { core, flusher } = this
    const error = await flusher.runAll().catch((cause: unknown) => cause)
    if (error instanceof Error) core.host.logger.warn('the flush of a paused table failed', { table: core.name, error: error.message })
    this.isFor(reason)
  }

  /** One that another backend commits to is stopped for that, whatever is said of it later. */
  private isFor(reason: string | null): void {
    if (this.core.fencedBy === null) this.core.reason = reason
  }

  private async record(): Promise<void> {
    const { core } = this
    // It may have begun to be made equal to its source meanwhile.
    if (!this.core.isStopped || this.isRecorded || core.fencedBy !== null) return
    // Where nobody waits any more, tables fail by what would have passed: they begin at their last commit when they are opened again.
    if (core.phase === 'failed' && core.host.isEnding()) return
    const reason = core.reason ?? 'unknown'
    try {
      await core.spec.storage.setProperties({ [PAUSED_PROPERTY]: reason })
      core.reason = this.recordedReason = reason
      core.isLetGo = true
      this.trouble = null
    } catch (error) {
      this.trouble = error
      // Nothing is kept for it: whoever opens it finds what it misses, as where it needs more than the source and its log have.
      if (core.phase === 'failed' || this.isRefused || isLasting(error)) core.isLetGo = true
      core.host.logger.error('the pause could not be recorded', { table: core.name, error: String(error) })
    }
  }
}

function isLasting(error: unknown): boolean {
  return isMoonlinkError(error) && error.kind !== 'retry' && error.kind !== 'fenced'
}
