import type { ExactRange, Lsn, TableShape } from '@moonlink/core'
import type { TablePlan } from '@moonlink/union-read'
import type { Maintenance } from './maintenance.ts'
import type { MirrorCore } from './mirror-core.ts'
import { planMirror, planRetained } from './plan.ts'
import { rangesBelow } from './ranges-below.ts'
import type { StillReadable } from './still-readable.ts'

/** What can be read of one table, and at which LSNs. */
export class MirrorReads {
  private readonly core: MirrorCore
  private readonly maintenance: Maintenance
  private readonly stillReadable: StillReadable

  constructor(core: MirrorCore, maintenance: Maintenance, stillReadable: StillReadable) {
    this.core = core
    this.maintenance = maintenance
    this.stillReadable = stillReadable
  }

  /** The lowest LSN that memory and current files can show exactly: that of the newest change in Iceberg. */
  get floor(): Lsn {
    return this.core.committed.exactFromLsn
  }

  /** Reads need the stream to have come this far (again). */
  get readableFrom(): Lsn {
    return this.core.readableFromLsn
  }

  /** True while the state is no LSN's, whatever the mirror's phase: it goes back to its last commit, or that failed amid it. */
  get showsNothing(): boolean {
    return this.core.isRewinding
  }

  /** Why what is to be read is not there: the mirror went back to its last commit, and could not read that. Null otherwise. */
  get rewindTrouble(): string | null {
    return this.core.isRewinding ? this.core.rewindTrouble : null
  }

  /** While the table is made equal to its source: reads up to here are exact. Null otherwise. */
  get whileResyncing(): Lsn | null {
    return this.stillReadable.whileResyncing
  }

  /** While it is paused: reads up to here are exact. Null otherwise. */
  get whilePaused(): Lsn | null {
    return this.stillReadable.whilePaused
  }

  /** The shape that reads at an LSN from `floor` on show. */
  shapeAt(lsn: Lsn): TableShape {
    return this.core.state.shapeAt(lsn)
  }

  /** Throws `retry`/`TABLE_CLOSED`. */
  requireOpen(): void {
    this.core.requireOpen()
  }

  /** Throws `retry`/`TABLE_CLOSED`. */
  plan(lsn: Lsn): TablePlan {
    this.core.requireOpen()
    return planMirror(this.core.state, lsn)
  }

  /** Until what it gives is called no snapshot is expired: for a read on its way to a lease. */
  holdSnapshots(): Promise<() => void> {
    return this.maintenance.holdSnapshots()
  }

  /** The retained Iceberg snapshot that is exact at `lsn`, or null. */
  planRetained(lsn: Lsn): Promise<TablePlan | null> {
    return planRetained(this.core.state, this.core.spec.storage, lsn)
  }

  /** The LSNs below the floor that retained Iceberg snapshots show, newest first. */
  retainedRanges(): readonly ExactRange[] {
    return rangesBelow(this.floor, this.core.spec.storage.retained())
  }
}
