import { maxLsn, type Lsn } from '@moonlink/core'
import type { ChangeIntake } from './change-intake.ts'
import type { Flusher } from './flusher.ts'
import type { Maintenance } from './maintenance.ts'
import type { MirrorCore } from './mirror-core.ts'
import type { MirrorStatus } from './mirror-spec.ts'
import type { TableCopy } from './table-copy.ts'

/** What a mirror says of itself. */
export class StatusReport {
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly flusher: Flusher
  private readonly copy: TableCopy
  private readonly maintenance: Maintenance
  /** What a quiet table was said to cover, it covers still when its next change waits for a commit. */
  private reportedLsn: Lsn = 0n
  /** What it was like when it was closed. */
  private last: MirrorStatus | null = null

  constructor(core: MirrorCore, intake: ChangeIntake, flusher: Flusher, copy: TableCopy, maintenance: Maintenance) {
    this.core = core
    this.intake = intake
    this.flusher = flusher
    this.copy = copy
    this.maintenance = maintenance
  }

  get byteSize(): number {
    if (this.core.isClosed) return 0
    const { copy, core, intake, maintenance } = this
    return core.state.byteSize + intake.byteSize + copy.byteSize + maintenance.byteSize
  }

  /** See `Mirror.durableLsn`. */
  durableLsn(): Lsn | null {
    const { committed, host, isLetGo, isRewinding, isStopped, phase, resync } = this.core
    const { copy, flusher, intake } = this
    if (isStopped) return isLetGo ? null : (committed.lsn ?? copy.holdLsn)
    if (phase === 'copying') return resync === null ? copy.holdLsn : resync.holdLsn
    const isIdle = flusher.isClean && !intake.isHolding && !isRewinding
    return isIdle ? maxLsn(committed.lsn!, host.streamedLsn()) : committed.lsn!
  }

  status(): MirrorStatus {
    if (this.last !== null) return this.last
    const { committed, host, isClosed, phase, reason, resync, spec, state } = this.core
    const { copy, intake } = this
    const { snapshot } = spec.storage
    const files = [...state.files()].filter((file) => file.staged === null)
    const durableLsn = resync === null ? this.durableLsn() : null
    if (durableLsn !== null) this.reportedLsn = maxLsn(this.reportedLsn, durableLsn)
    return {
      table: spec.table,
      state: phase === 'streaming' && intake.isBehind ? 'copying' : phase,
      reason: reason ?? intake.trouble ?? this.waitsFor,
      rows: phase === 'copying' ? copy.rowCount : state.liveRows,
      copiedRows: copy.rowCount,
      appliedLsn: host.appliedLsn(),
      durableLsn: durableLsn === null ? committed.lsn : this.reportedLsn,
      committedLsn: phase === 'streaming' ? this.reportedLsn : committed.lsn,
      lastCommitTimeMs: state.lastCommitTimeMs,
      metadataLocation: snapshot.metadataLocation,
      snapshotId: snapshot.snapshotId,
      dataFiles: files.length,
      deletionVectors: files.filter((file) => file.baseCount > 0).length,
      memoryRows: state.memoryRows + copy.bufferedRows,
      memoryBytes: this.byteSize,
      spooledBytes: isClosed ? 0 : intake.spooledBytes,
    }
  }

  /** What changes wait for that its store does not give; null where they do not. */
  private get waitsFor(): string | null {
    const { refusal } = this.core.reads
    return (
      refusal && `${refusal.code} ${refusal.message} Changes of all tables wait for it; where it is so of this table alone, it is paused.`
    )
  }

  /** The mirror is about to be closed: what it is like now is said from here on. */
  keep(): void {
    this.last = this.status()
  }
}
