import { isBatch, batchBytes } from './held-batches.ts'
import type { ChangeIntake } from './change-intake.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'

/** Applies the changes that waited for a copy, beside the stream, until nothing waits any more. */
export class CatchUp {
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly flusher: Flusher
  private readonly onApplied: () => void
  private running: Promise<void> | null = null
  private isStopped = false

  /** `onApplied`: called after each change. */
  constructor(core: MirrorCore, intake: ChangeIntake, flusher: Flusher, onApplied: () => void) {
    this.onApplied = onApplied
    this.core = core
    this.intake = intake
    this.flusher = flusher
  }

  /** What waits is applied no more. */
  get hasStopped(): boolean {
    return this.isStopped
  }

  get isRunning(): boolean {
    return this.running !== null
  }

  /** Begins, where there is something to do and it has not begun. */
  start(): void {
    if (this.isStopped || this.running !== null || !this.intake.isBehind || this.core.phase !== 'streaming') return
    this.running = this.run().finally(() => {
      this.running = null
      // The mirror may have begun anew meanwhile.
      this.start()
    })
  }

  /** Resolves once nothing waits any more, or this was stopped. */
  async finished(): Promise<void> {
    for (;;) {
      // A mirror is behind a moment before its copy is over.
      this.start()
      if (this.running === null) return
      await this.running
    }
  }

  /** Resolves once nothing runs. */
  async settled(): Promise<void> {
    while (this.running !== null) await this.running
  }

  /** Ends for good, where it is. */
  async stop(): Promise<void> {
    this.isStopped = true
    await this.running
  }

  private async run(): Promise<void> {
    const { core, flusher, intake } = this
    for (;;) {
      const change = await core.lock.run(async () => {
        if (this.isStopped || core.phase !== 'streaming' || !intake.isBehind) return null
        try {
          const applied = await intake.applyNext()
          flusher.freezeIfWanted()
          return applied
        } catch (error) {
          core.applyFailed(error)
          return null
        }
      })
      this.onApplied()
      if (change === null) return
      if (isBatch(change)) await core.host.appliedBeside(change.ops.length, batchBytes(change))
    }
  }
}
