import { maxLsn, type Lsn } from '@moonlink/core'
import type { ChangeIntake } from './change-intake.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'

/** What a mirror shows exactly while it takes no changes: reads up to these LSNs are right, and nothing later is known. */
export class StillReadable {
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly flusher: Flusher

  constructor(core: MirrorCore, intake: ChangeIntake, flusher: Flusher) {
    this.core = core
    this.intake = intake
    this.flusher = flusher
  }

  /** Null unless it is made equal to its source. */
  get whileResyncing(): Lsn | null {
    return this.core.resync?.readableThroughLsn ?? null
  }

  /** Null unless it is paused. */
  get whilePaused(): Lsn | null {
    const { committed, pausedThroughLsn, phase, takenThroughLsn } = this.core
    if (phase !== 'paused') return null
    return pausedThroughLsn === null ? committed.lsn : takenThroughLsn
  }

  /** What stays readable where it begins to be made equal now. `isCurrent`: all that was taken of the stream has been committed. */
  atResync(isCurrent: boolean): Lsn {
    const { core, flusher, intake } = this
    const committedLsn = core.committed.lsn!
    // A stream that had to start again earlier may be behind what was taken.
    if (isCurrent) return [committedLsn, intake.takenThroughLsn, core.host.streamedLsn()].reduce(maxLsn)
    const pausedThroughLsn = core.phase === 'paused' && flusher.isClean ? core.pausedThroughLsn : null
    // One that is begun anew finds what the one before went back to.
    return this.whileResyncing ?? pausedThroughLsn ?? committedLsn
  }
}
