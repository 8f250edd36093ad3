import type { Flusher } from './flusher.ts'
import type { Maintenance } from './maintenance.ts'
import type { MirrorCore } from './mirror-core.ts'
import type { Pauses } from './pauses.ts'

/** What a mirror does by the clock: flushes, compactions, expiries, and what a pause could not do at once. One at a time. */
export class DueWork {
  private readonly core: MirrorCore
  private readonly flusher: Flusher
  private readonly maintenance: Maintenance
  private readonly pauses: Pauses
  private isRunning = false

  constructor(core: MirrorCore, flusher: Flusher, maintenance: Maintenance, pauses: Pauses) {
    this.core = core
    this.flusher = flusher
    this.maintenance = maintenance
    this.pauses = pauses
  }

  /** Starts what is due. Never waits for it. */
  tick(): void {
    const { core, flusher, maintenance } = this
    if (this.isRunning || core.isClosed) return
    if (core.phase !== 'streaming') return this.pauses.tendSoon()
    const nowMs = core.host.clock.nowMs()
    const isFlushDue = flusher.checkDue(nowMs)
    if (!isFlushDue && !maintenance.isExpiryDue(nowMs) && (flusher.isPending || !maintenance.isDue(nowMs))) return
    this.isRunning = true
    void core
      .job(() => this.run(isFlushDue))
      .catch((error: unknown) => core.logFailure('a commit failed', error))
      .finally(() => {
        this.isRunning = false
      })
  }

  private async run(isFlushDue: boolean): Promise<void> {
    const { core, flusher, maintenance } = this
    if (core.phase !== 'streaming') return
    // What it removes may be the room that a flush waits for.
    await maintenance.expireIfDue()
    if (isFlushDue) await flusher.run()
    if (!flusher.isPending) await maintenance.compactIfDue()
  }
}
