import { isMoonlinkError } from '@moonlink/core'
import type { ChangeIntake } from './change-intake.ts'
import type { EarlyOutcome, EarlyWriter } from './early-writer.ts'
import type { Flusher } from './flusher.ts'
import type { FlushRequests } from './flush-requests.ts'
import type { MirrorCore } from './mirror-core.ts'
import { COPY_SPOOL_FULL } from './mirror-spec.ts'
import type { Pauses } from './pauses.ts'
import type { StatusReport } from './status-report.ts'

export interface MirrorMemoryParts {
  readonly core: MirrorCore
  readonly early: EarlyWriter
  readonly flusher: Flusher
  readonly flushes: FlushRequests
  readonly intake: ChangeIntake
  readonly pauses: Pauses
  readonly report: StatusReport
  readonly pauseBeside: (code: string, reason: string) => void
}

/** What one mirror has in memory, and the ways to have less of it there. */
export class MirrorMemory {
  private readonly parts: MirrorMemoryParts

  constructor(parts: MirrorMemoryParts) {
    this.parts = parts
  }

  get byteSize(): number {
    return this.parts.report.byteSize
  }

  /** Gives memory back that only saves time. */
  releaseCaches(): void {
    const { state } = this.parts.core
    state.oldValues.clear()
    state.log.fold()
  }

  /** True where a flush has begun and not ended: one that failed is tried again. */
  get isFlushing(): boolean {
    const { core, flusher } = this.parts
    return flusher.isPending && core.phase === 'streaming'
  }

  /** Bytes of rows and deletes: a flush frees them. */
  get freeableBytes(): number {
    return this.parts.core.phase === 'streaming' ? this.uncommittedBytes : 0
  }

  /** Bytes of rows and deletes that a table which is paused, or failed, has in memory alone. */
  get stoppedBytes(): number {
    return this.parts.core.isStopped ? this.uncommittedBytes : 0
  }

  /**
   * Lets go of those: a table that is paused can be read up to its last commit then. False while something is under way with it. Throws `retry` where its last commit can't
   * be told just now.
   */
  async letGoOfStopped(): Promise<boolean> {
    const { core, early, flushes, pauses } = this.parts
    if (this.stoppedBytes === 0 || core.jobs.isBusy) return false
    await early.settled()
    await core.job(() => pauses.goBack())
    flushes.wake()
    return true
  }

  /** Flushes where the open transaction ends. */
  flushSoon(): void {
    this.parts.flusher.flushSoon()
  }

  /**
   * Writes a part of the open transaction as a data file, in no snapshot yet, so that its memory is free. Throws where the storage does
   * not take it; nothing is lost then. `leastBytes`: of rows that are worth a file; never more than an eighth of `earlyFileBytes`, the default.
   */
  async writeEarly(leastBytes = Infinity): Promise<EarlyOutcome> {
    const { core, early } = this.parts
    try {
      return await early.write(leastBytes)
    } catch (error) {
      if (!isMoonlinkError(error) || (error.kind !== 'retry' && error.kind !== 'invalid')) core.fail(error)
      throw error
    }
  }

  /** True while changes wait in memory, since they can't be written to disk. */
  get isHolding(): boolean {
    const { core, intake } = this.parts
    return !core.isClosed && intake.trouble !== null
  }

  /** Where that is so, tries again to write them. */
  async retrySpool(): Promise<void> {
    const { core, intake } = this.parts
    if (!this.isHolding) return
    await core.lock.run(async () => {
      if (!core.isClosed) await intake.retrySpool()
    })
  }

  /** Where changes wait in memory that others need: pauses the table, and lets go of them. */
  async pauseForRoom(): Promise<void> {
    const { core, intake, pauseBeside } = this.parts
    if (!this.isHolding) return
    const { name } = core
    pauseBeside(
      COPY_SPOOL_FULL,
      `changes of ${name} that waited for its copy found room neither on disk nor in memory: free space under stateDir; moonlink tables resume ${name} begins the copy again.`,
    )
    await core.lock.run(async () => {
      if (!core.isClosed) await intake.letGo()
    })
  }

  private get uncommittedBytes(): number {
    const { core, flusher } = this.parts
    return core.isClosed || flusher.isClean ? 0 : core.state.changeBytes
  }
}
