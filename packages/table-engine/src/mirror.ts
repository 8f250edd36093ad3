import {
  type ChangeBatch,
  type ColumnBatch,
  type CopyRange,
  type Lsn,
  type MoonlinkError,
  type ResumePoint,
  type TableName,
  type TableShape,
  type TimelineLsn,
} from '@moonlink/core'
import { CatchUp } from './catch-up.ts'
import { ChangeIntake } from './change-intake.ts'
import type { Refusal } from './outcomes.ts'
import type { CopySession } from './copy-record.ts'
import { DueWork } from './due-work.ts'
import { earlyWriteSizes } from './early-write.ts'
import { EarlyWriter } from './early-writer.ts'
import { FlushRequests } from './flush-requests.ts'
import { Flusher } from './flusher.ts'
import type { HeldChange } from './held-batches.ts'
import { Maintenance } from './maintenance.ts'
import { MirrorCore } from './mirror-core.ts'
import { MirrorMemory } from './mirror-memory.ts'
import { MirrorReads } from './mirror-reads.ts'
import { type MirrorHost, type MirrorPhase, type MirrorSpec, type MirrorStatus, type ResyncSource } from './mirror-spec.ts'
import { Pauses } from './pauses.ts'
import { rewind } from './rewind.ts'
import { StatusReport } from './status-report.ts'
import { StillReadable } from './still-readable.ts'
import { TableCopy, type ReadChanged } from './table-copy.ts'
import { tryStorage } from './try-storage.ts'

/** The mirror of one table: owns its segments, index, log and commits. */
export class Mirror {
  readonly name: string
  readonly table: TableName
  readonly reads: MirrorReads
  readonly memory: MirrorMemory
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly early: EarlyWriter
  private readonly flusher: Flusher
  private readonly copy: TableCopy
  private readonly catchUp: CatchUp
  private readonly pauses: Pauses
  private readonly maintenance: Maintenance
  private readonly flushes: FlushRequests
  private readonly dueWork: DueWork
  private readonly stillReadable: StillReadable
  private readonly report: StatusReport

  private constructor(spec: MirrorSpec, host: MirrorHost) {
    const core = new MirrorCore(spec, host)
    const sizes = earlyWriteSizes(host.limits.earlyFileBytes)
    this.core = core
    this.table = spec.table
    this.name = core.name
    this.intake = new ChangeIntake(core, sizes, (code, reason, openLsn) => this.pauseBeside(code, reason, openLsn))
    this.early = new EarlyWriter({
      lock: core.lock,
      state: () => (!core.isClosed && (core.phase === 'streaming' || core.resync !== null || core.isMerging) ? core.state : null),
      sizes,
      sealedFiles: host.sealedFiles,
      stagedFiles: core.staged,
    })
    this.maintenance = new Maintenance(core)
    this.flusher = new Flusher(core, this.early, this.maintenance)
    this.copy = new TableCopy(core, this.intake, this.flusher, this.early, sizes)
    this.catchUp = new CatchUp(core, this.intake, this.flusher, () => this.flushes.applied())
    core.isBehind = () => this.intake.isBehind
    this.pauses = new Pauses(core, this.intake, this.flusher)
    this.stillReadable = new StillReadable(core, this.intake, this.flusher)
    this.reads = new MirrorReads(core, this.maintenance, this.stillReadable)
    this.flushes = new FlushRequests(core, this.flusher, this.catchUp)
    this.dueWork = new DueWork(core, this.flusher, this.maintenance, this.pauses)
    this.report = new StatusReport(core, this.intake, this.flusher, this.copy, this.maintenance)
    const { early, flusher, flushes, intake, pauses, report } = this
    const pauseBeside = (code: string, reason: string) => this.pauseBeside(code, reason)
    this.memory = new MirrorMemory({ core, early, flusher, flushes, intake, pauses, report, pauseBeside })
  }

  /** Opens the mirror at its last Iceberg commit: files, vectors, key indexes (made again from the data where they are missing). */
  static async open(spec: MirrorSpec, host: MirrorHost): Promise<Mirror> {
    const mirror = new Mirror(spec, host)
    const { core } = mirror
    await host.sealedFiles.prepare()
    await core.staged.open(spec.storage, await mirror.copy.open())
    // Whoever opens a table has made sure that nothing of the owner before can be committed any more.
    await core.staged.settleDoubts()
    await core.staged.removeAbandoned(host.leasedPaths())
    if (core.committed.lsn === null) {
      core.phase = 'copying'
      // What changed since it began counts.
      if (mirror.copy.isBegun) await mirror.intake.restartAt(mirror.copy.holdLsn)
      mirror.intake.holdBack()
    } else await core.loadFiles()
    mirror.pauses.restore()
    if (spec.resyncReason !== undefined) mirror.pauses.awaitResync(spec.resyncReason)
    core.isRewinding = spec.joinsStream === true && core.phase === 'streaming'
    return mirror
  }

  get committedLsn(): Lsn | null {
    return this.core.committed.lsn
  }

  /** Up to where commits say of which of the source's timelines that is. */
  get committedTimeline(): TimelineLsn | null {
    return this.core.spec.storage.snapshot.sourceTimeline
  }

  /** True once it takes and shows nothing any more. */
  get isClosed(): boolean {
    return this.core.isClosed
  }

  /** True while it goes back to its last commit, or where that failed amid it: it shows nothing until it is there (`reload`). */
  get isRewinding(): boolean {
    return this.isStreaming && this.core.isRewinding
  }

  get currentPhase(): MirrorPhase {
    return this.core.phase
  }

  /** The shape of the rows that come next. */
  get shape(): TableShape {
    return this.intake.shape
  }

  /** The shape of copied rows: what came since may bring another, which is taken once those are in. */
  get copiedShape(): TableShape {
    return this.core.state.shape
  }

  /** Where a stream that begins now goes on for this table. */
  get resumePoint(): ResumePoint {
    const { copiedLsn } = this.copy
    const { readThroughLsn, takenThroughLsn: throughLsn } = this.intake
    const point = { table: this.table, shape: this.shape, throughLsn, ...(copiedLsn === null ? {} : { copiedLsn }) }
    return readThroughLsn === throughLsn ? point : { ...point, readThroughLsn }
  }

  get pauseReason(): string | null {
    return this.core.reason
  }

  get hasOpenTransaction(): boolean {
    return this.isStreaming && (this.core.state.openChanges > 0 || this.intake.isWaiting)
  }

  /** True while changes that came during the copy are being applied: what is applied of the stream is not the whole yet. */
  get isCatchingUp(): boolean {
    return this.isStreaming && this.intake.isBehind
  }

  /** Resolves once `isCatchingUp` is over. Throws `retry`/`TABLE_CLOSED` where the mirror is closed before. */
  async caughtUp(): Promise<void> {
    await this.catchUp.finished()
    if (this.catchUp.hasStopped) this.core.throwClosed()
  }

  /** How its commits or its copy are refused, or what its changes need to be applied; null where nothing is, or it takes no changes. */
  get refusal(): Refusal | null {
    const { core, flusher } = this
    return core.isStopped ? null : (core.reads.refusal ?? flusher.outcomes.refusal)
  }

  /** When this process last saw that its commits are not refused, by one or by a try. */
  get allowedAtMs(): number | null {
    return this.flusher.outcomes.allowedAtMs
  }

  /** Tries what commits need. Throws what is refused of that, and what keeps it from being tried. */
  async tryStorage(): Promise<void> {
    const { core, flusher } = this
    await core.job(() => tryStorage(core))
    flusher.outcomes.allowed(core.host.clock.nowMs())
  }

  /** Pauses it for its refusal: neither memory nor the source is kept for it then, and no other table waits for it. */
  pauseForRefusal(): void {
    const { refusal } = this
    if (refusal === null) return
    this.pauseBeside(
      refusal.code,
      `${refusal.message} It is tried again, and the table is made equal to its source once that succeeds; the others go on meanwhile.`,
    )
  }

  /** True where it is paused for a refusal of its store or catalog, or failed by one, and what was refused has been tried with success since: it can be made equal to its source. */
  get isAllowedAgain(): boolean {
    return !this.isClosed && this.pauses.isAllowedAgain
  }

  /** Every change up to here is safe in Iceberg; null where the mirror needs nothing of the stream any more. */
  durableLsn(): Lsn | null {
    return this.report.durableLsn()
  }

  /** Takes changes of the stream: applies them, or lets them wait while the table is copied. One that can't be applied fails the table, and does not throw. */
  async apply(batch: ChangeBatch): Promise<void> {
    await this.take(batch)
    this.flushes.applied()
  }

  /** Within the open transaction the table loses every row it has so far; a batch with the transaction's mark follows. */
  async truncate(openLsn: Lsn | undefined): Promise<void> {
    await this.take({ isTruncation: true, openLsn })
  }

  /** Within the open transaction the table's rows get another shape; a batch with the transaction's mark follows. */
  async reshape(shape: TableShape, openLsn: Lsn | undefined): Promise<void> {
    await this.take({ isReshape: true, shape, openLsn })
  }

  /** Within the open transaction the table's rows change unseen: it is paused for `code`, unless a copy under way is later. */
  async recopy(code: string, reason: string, openLsn: Lsn | undefined): Promise<void> {
    await this.take({ isRecopy: true, code, reason, openLsn })
  }

  /** Something of the open transaction can't be followed: it is paused for `code`. */
  unmirrorable(code: string, reason: string, openLsn: Lsn | undefined): void {
    // What waits was not applied.
    this.pauseBeside(code, reason, this.isCatchingUp ? undefined : openLsn)
  }

  /**
   * Goes back to the last commit and takes no change from here on, until copied rows (`appendCopied`, `finishCopy`) have made it equal to its source
   * again; what was readable so far stays so. For a table that may have missed changes, whatever its state. No stream may be open.
   * It is remembered across restarts until it is done. `source`: how the source's table is now; absent: as the mirror has it.
   */
  async beginResync(reason: string, source: ResyncSource | null = null): Promise<void> {
    this.copy.requireComparable()
    // What is applied beside the flush is not in its commit.
    const wasCatchingUp = this.isCatchingUp
    // Amid a transaction, what was applied and not committed goes with it.
    const isCommitted = this.isStreaming && !this.hasOpenTransaction && (await this.flushWhole())
    // What a pause leaves uncommitted is known once it has ended.
    if (this.core.phase === 'paused') await this.core.job(async () => {})
    const isCurrent = isCommitted && this.isStreaming && !wasCatchingUp && !this.isRewinding && source?.isJustOpened !== true
    const readableThroughLsn = this.stillReadable.atResync(isCurrent)
    await this.early.settled()
    await this.copy.beginResync(reason, source, readableThroughLsn)
    this.flushes.wake()
  }

  /** True where a copy that is cut off can go on in another snapshot. */
  get canGoOn(): boolean {
    return this.copy.canGoOn
  }

  /** True while copied rows are compared with what is there. */
  get isResyncing(): boolean {
    return this.core.resync !== null
  }

  /** Another number with each `beginResync`: who copies for an earlier one has to stop. */
  get copyAttempt(): number {
    return this.copy.attempt
  }

  /** A snapshot of the source is about to be taken, for `beginCopy`: until what it brings is committed, the source keeps what it sends after it. */
  awaitSnapshot(): void {
    this.copy.awaitSnapshot()
  }

  /** A snapshot of the source begins to be read; gives the ranges of it that are not to be, since earlier ones have read them. */
  async beginCopy(session: CopySession): Promise<readonly CopyRange[]> {
    return this.copy.begin(session)
  }

  /** Copied rows in `copiedShape`, before `finishCopy`; waits while files are being written. */
  async appendCopied(batch: ColumnBatch, range?: CopyRange): Promise<void> {
    await this.copy.append(batch, range)
    const { host, resync, state } = this.core
    // Much may differ; what does is one transaction until the end.
    if (resync !== null && state.changeBytes > host.limits.flushBytes) await this.memory.writeEarly()
  }

  /** Every row of the range was given to `appendCopied`. */
  async finishCopiedRange(range: CopyRange): Promise<void> {
    await this.copy.finishRange(range)
  }

  /** True where `finishCopy` has to wait until the stream has come to the last snapshot. */
  lacksChangesTo(boundaryLsn: Lsn): boolean {
    return this.copy.needsChanges && this.core.host.streamedLsn() < boundaryLsn
  }

  /**
   * Commits the copied rows at `boundaryLsn`, the last snapshot's LSN, and lets the changes that came meanwhile in. `readChanged` reads in that
   * snapshot; needed where there were several.
   */
  async finishCopy(boundaryLsn: Lsn, readChanged?: ReadChanged): Promise<void> {
    try {
      await this.copy.finish(boundaryLsn, readChanged)
    } finally {
      // It may have failed behind its commit.
      this.catchUp.start()
    }
  }

  /** Its copy failed, and is to be tried again: where that lasts for this table alone, it is paused. */
  copyFailed(error: MoonlinkError): void {
    this.flusher.outcomes.failed(error, this.core.host.clock.nowMs())
  }

  /** Where `finishCopy` failed at its commit: finds out whether that happened all the same, and then goes on behind it. Before the copy goes on in another snapshot. Throws what the storage throws. */
  async settleCopy(): Promise<boolean> {
    const isCopied = await this.copy.settle()
    if (isCopied) this.catchUp.start()
    return isCopied
  }

  /** Stops taking changes at once, commits what was applied between transactions, and is remembered across restarts. */
  async pause(code: string, reason: string, openLsn = 0n): Promise<void> {
    if (this.isClosed || this.core.isStopped) return
    const wasCopying = this.core.phase === 'copying' && !this.isResyncing
    const paused = this.pauses.pause(`${code} ${reason}`, openLsn)
    this.flushes.wake()
    await paused
    // It may just have been committed.
    if (wasCopying && this.committedLsn === null) await this.copy.abandon()
  }

  /**
   * As `pause`; but where it is paused already, or failed, this reason takes the place of the one before. Throws what the storage throws where a restart would not
   * find it so yet, which is tried again, and `retry`/`TABLE_CLOSED`.
   */
  async pauseFor(code: string, reason: string): Promise<void> {
    const wanted = `${code} ${reason}`
    this.core.requireOpen()
    const isFresh = !this.core.isStopped
    if (isFresh) await this.pause(code, reason)
    // It may be paused for something else, or have begun to be made equal to its source meanwhile.
    if ((!isFresh || this.pauseReason !== wanted) && !(await this.pauses.renew(wanted))) await this.pause(code, reason)
    this.pauses.requireRecorded()
  }

  /** Pauses without waiting for what that commits. */
  pauseBeside(code: string, reason: string, openLsn?: Lsn): void {
    this.pause(code, reason, openLsn).catch((error: unknown) => this.core.logFailure('a pause failed', error))
  }

  /** Makes what has been applied durable in Iceberg. Waits for an open transaction to end first. Throws `retry`/`TABLE_CLOSED` where the mirror is closed before. */
  flush(): Promise<void> {
    return this.flushes.flush()
  }

  /**
   * As `flush`, for while no stream is open: false where a transaction is open whose end nothing here brings, which keeps what came since the last flush from
   * being committed. Waits for what came during a copy only up to the end of such a transaction.
   */
  flushWhole(): Promise<boolean> {
    return this.flushes.flushWhole()
  }

  /** As `flush`, but never waits for a transaction to end: false where an open one keeps what came since the last flush from being committed. */
  tryFlush(): Promise<boolean> {
    return this.flushes.tryFlush()
  }

  /** Starts what is due: a flush, a compaction, an expiry. Never waits for it. */
  tick(): void {
    this.dueWork.tick()
  }

  /** Goes back to the last Iceberg commit; the stream has to bring the rest again. Throws `retry` where that commit can't be told just now; nothing has changed then. */
  async reload(readableFrom: Lsn): Promise<void> {
    const { core } = this
    if (!this.isStreaming || this.isClosed) return
    await this.early.settled()
    await core.job(() =>
      core.lock.run(async () => {
        await rewind(core, this.intake, this.flusher)
        core.readableFromLsn = readableFrom
        core.isRewinding = false
        this.flushes.wake()
      }),
    )
  }

  /** The stream starts again before `lsn`, which this mirror has applied: what comes up to there is skipped. */
  skipTo(lsn: Lsn): void {
    this.intake.skipTo(lsn)
  }

  /** The stream was lost: what waits of an open transaction is forgotten, for it comes again. */
  async rollBackWaiting(): Promise<void> {
    await this.core.lock.run(() => {
      if (!this.isClosed) this.intake.rollBackWaiting()
    })
  }

  /** Once it is closed: as it was then. */
  status(): MirrorStatus {
    return this.report.status()
  }

  /** Lets go of files and memory. Waits for a commit under way; flushes nothing. */
  async close(): Promise<void> {
    const { core } = this
    await this.catchUp.stop()
    await this.early.settled()
    await core.jobs.run(() =>
      core.lock.run(() => {
        if (this.isClosed) return
        this.report.keep()
        core.isClosed = true
        core.closeIndexes()
      }),
    )
    this.flushes.wake()
    await this.copy.close()
    await this.intake.close()
  }

  /** Lets go of files that no commit will take any more: of a transaction that does not come to its end here, or to a commit. */
  async abandonEarlyFiles(): Promise<void> {
    await this.flusher.abandonFiles()
    if (this.core.phase === 'copying') await this.copy.abandon()
  }

  private get isStreaming(): boolean {
    return this.core.phase === 'streaming'
  }

  private async take(change: HeldChange): Promise<void> {
    const { core, flusher, intake } = this
    await core.lock.run(async () => {
      // What comes while its state is no LSN's comes again.
      if (core.isClosed || core.isRewinding || (core.phase !== 'copying' && core.phase !== 'streaming')) return
      try {
        await intake.take(change)
        if (core.phase === 'streaming') flusher.freezeIfWanted()
      } catch (error) {
        core.applyFailed(error)
      }
    })
    if (flusher.isPending) this.tick()
  }
}
