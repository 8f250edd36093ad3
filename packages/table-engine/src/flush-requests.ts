import type { CatchUp } from './catch-up.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'

/** Flushes that somebody asks for. They wait for the end of a transaction, which is where a flush can begin. */
export class FlushRequests {
  private readonly core: MirrorCore
  private readonly flusher: Flusher
  private readonly catchUp: CatchUp
  private waiters: (() => void)[] = []

  constructor(core: MirrorCore, flusher: Flusher, catchUp: CatchUp) {
    this.core = core
    this.flusher = flusher
    this.catchUp = catchUp
  }

  /** See `Mirror.flush`. */
  async flush(): Promise<void> {
    const { core } = this
    while (core.phase === 'streaming') {
      if (await this.tryFlush()) return
      // The transaction may have ended while the answer was on its way.
      if (core.state.openChanges > 0) await this.boundary()
    }
  }

  /** See `Mirror.flushWhole`. */
  async flushWhole(): Promise<boolean> {
    const { catchUp, core } = this
    while (core.phase === 'streaming') {
      if (await this.tryFlush()) return true
      if (core.state.openChanges === 0) continue
      if (!catchUp.isRunning) return false
      await Promise.race([this.boundary(), catchUp.settled()])
    }
    return false
  }

  /** See `Mirror.tryFlush`. */
  tryFlush(): Promise<boolean> {
    const { core, flusher } = this
    return core.job(() => flusher.runAll())
  }

  /** Something was applied: whoever waits goes on where a transaction has ended. */
  applied(): void {
    if (this.core.state.openChanges === 0 || this.core.phase !== 'streaming') this.wake()
  }

  /** The open transaction is forgotten, or the mirror takes nothing any more. */
  wake(): void {
    for (const wake of this.waiters.splice(0)) wake()
  }

  /** Resolves where the open transaction ends, or is forgotten, or where the mirror takes nothing any more. */
  private boundary(): Promise<void> {
    if (this.core.phase !== 'streaming') return Promise.resolve()
    return new Promise((resolve) => this.waiters.push(resolve))
  }
}
