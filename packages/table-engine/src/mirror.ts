import {
  formatLsn,
  formatTableName,
  isMoonlinkError,
  maxLsn,
  MoonlinkError,
  type ChangeBatch,
  type Clock,
  type ColumnBatch,
  type DataFile,
  type ExactRange,
  type Logger,
  type Lsn,
  type TableCommit,
  type TableName,
  type TableSchema,
  type TableShape,
  type TableStorage,
  type Telemetry,
} from '@moonlink/core'
import type { SealedKeyIndex } from '@moonlink/pk-index'
import type { TablePlan } from '@moonlink/union-read'
import { applyBatch } from './apply-batch.ts'
import { commitPhase } from './commit-phase.ts'
import { adoptCompaction, chooseCompaction, compactionLsn, writeCompaction } from './compaction.ts'
import { CopiedRows } from './copied-rows.ts'
import { adoptFlush, freeze, writeFlush, type FrozenFlush, type WrittenFlush } from './flush.ts'
import { Difference } from './difference.ts'
import { cutOpenSegment, earlyWriteSizes, type EarlyWriteSizes } from './early-write.ts'
import { EarlyWriter, type EarlyOutcome } from './early-writer.ts'
import { changeShape } from './change-shape.ts'
import { copyBatch, dropThrough, batchBytes, isBatch, isReshape, type HeldChange } from './held-batches.ts'
import type { Identity } from './identity.ts'
import type { EngineLimits } from './limits.ts'
import { MirrorState } from './mirror-state.ts'
import { Mutex } from './mutex.ts'
import { planMirror, planSnapshot } from './plan.ts'
import { rangesBelow } from './ranges-below.ts'
import type { SealedFiles } from './sealed-files.ts'
import { FileSegment } from './segment.ts'
import { StagedFiles } from './staged-files.ts'

export interface MirrorSpec {
  readonly table: TableName
  readonly schema: TableSchema
  /** What the source kept with the last commit (see `TableShape`); absent or null where it has to look at the table itself. */
  readonly sourceState?: string | null
  readonly storage: TableStorage
  /** True for a table whose source only ever inserts: no key index is kept. */
  readonly appendOnly: boolean
}

export type MirrorPhase = 'copying' | 'streaming' | 'paused' | 'failed'

export interface MirrorStatus {
  readonly table: TableName
  readonly state: MirrorPhase
  readonly reason: string | null
  readonly rows: number
  readonly copiedRows: number
  readonly appliedLsn: Lsn
  /** Every change up to here survives a crash of ours; null before the initial copy is committed. */
  readonly durableLsn: Lsn | null
  readonly committedLsn: Lsn | null
  /** Commit time in the source of the last change applied, ms since 1970. */
  readonly lastCommitTimeMs: number | null
  readonly metadataLocation: string
  readonly snapshotId: bigint | null
  readonly dataFiles: number
  readonly deletionVectors: number
  readonly memoryRows: number
  readonly memoryBytes: number
}

/** What a mirror needs of its engine. */
export interface MirrorHost {
  readonly clock: Clock
  readonly logger: Logger
  readonly telemetry: Telemetry
  readonly limits: EngineLimits
  readonly sealedFiles: SealedFiles
  appliedLsn(): Lsn
  /** How far the present stream has come: every change up to here has been given to the mirrors. Less than what was applied before it. */
  streamedLsn(): Lsn
  newIncarnation(): string
  /** Data files that running reads hold. */
  leasedPaths(): ReadonlySet<string>
  /** Another owner has taken the table over. */
  fenced(error: MoonlinkError): void
}

/** Table property that says why a mirror is paused; empty or absent while it is not. */
export const PAUSED_PROPERTY = 'moonlink.paused-reason'
/** Table property that keeps the source's own state of the table at the last commit (see `TableShape`). */
export const SOURCE_STATE_PROPERTY = 'moonlink.source-state'

/** Table property that says why a mirror has to be made equal to its source again; empty or absent where it need not. */
export const RESYNC_PROPERTY = 'moonlink.resync-reason'

/** Share of the memory limit for digests of rows while a mirror is made equal to its source. */
const DIGEST_SHARE = 0.1
/** Share of the memory limit for values that rows in the making take over from files. */
const OLD_VALUE_SHARE = 1 / 8
const RETRY_FIRST_MS = 200
const RETRY_MAX_MS = 30_000

interface OpenedIndexes {
  readonly identity: Identity
  readonly indexes: readonly (SealedKeyIndex | null)[]
}

/** The mirror of one table: owns its segments, index, log and commits. */
export class Mirror {
  readonly name: string
  readonly table: TableName
  private readonly spec: MirrorSpec
  private readonly host: MirrorHost
  private state: MirrorState
  private phase: MirrorPhase = 'streaming'
  private reason: string | null = null
  /** True once a restart would find the table paused: only then may the source forget what the table did not take. */
  private isPauseRecorded = false
  /** The table is another's, who may be told nothing by us. */
  private isFenced = false
  /** Orders everything that changes `state`. */
  private readonly lock = new Mutex()
  /** Orders flushes, compactions and other commits. */
  private readonly jobs = new Mutex()
  private jobRunning = false
  private readonly staged: StagedFiles
  private readonly earlySizes: EarlyWriteSizes
  private readonly early: EarlyWriter
  /** A flush that an open transaction kept from starting; it starts where that ends. */
  private wantsFlush = false

  private committed: Lsn | null
  /** The shape that the last commit left in Iceberg. */
  private committedShape: TableShape
  private exactFrom: Lsn
  /** Changes of transactions that end at or before this are in Iceberg already. */
  private skipThrough: Lsn
  private catchingUp = true
  private held: HeldChange[] = []
  private heldByteSize = 0
  /** While copying: the stream must be able to start again here. */
  private readonly copyHoldLsn: Lsn
  private readonly copied: CopiedRows
  /** While copied rows are compared with what is there, rather than taken for new. */
  private resync: { readonly difference: Difference; readonly readableThrough: Lsn } | null = null

  private frozen: { flush: FrozenFlush; written: WrittenFlush | null } | null = null
  private retryAtMs = 0
  private retryDelayMs = RETRY_FIRST_MS
  private dirtySinceMs: number | null = null
  private lastExpiryMs: number
  private snapshotHolds = 0
  private expiring: Promise<unknown> = Promise.resolve()
  private boundaryWaiters: (() => void)[] = []
  /** Reads need the stream to have come this far (again). */
  readableFrom: Lsn = 0n

  private constructor(spec: MirrorSpec, host: MirrorHost) {
    this.spec = spec
    this.host = host
    this.table = spec.table
    this.name = formatTableName(spec.table)
    this.committed = spec.storage.snapshot.committedLsn
    this.exactFrom = spec.storage.snapshot.exactFromLsn ?? 0n
    this.skipThrough = this.committed ?? 0n
    this.copyHoldLsn = host.appliedLsn()
    this.lastExpiryMs = host.clock.nowMs()
    this.committedShape = { schema: spec.schema, sourceState: spec.sourceState ?? null }
    this.state = this.newState()
    const identity = spec.appendOnly ? null : this.state.identity
    this.copied = new CopiedRows({
      schema: spec.schema,
      storage: spec.storage,
      identity,
      limits: host.limits,
      sealedFiles: host.sealedFiles,
    })
    this.staged = new StagedFiles(host.sealedFiles.directory, spec.storage, host.logger)
    this.earlySizes = earlyWriteSizes(host.limits.earlyFileBytes)
    this.early = new EarlyWriter({
      lock: this.lock,
      state: () => (this.phase === 'streaming' || this.resync !== null ? this.state : null),
      sizes: this.earlySizes,
      sealedFiles: host.sealedFiles,
      stagedFiles: this.staged,
    })
  }

  /** Opens the mirror at its last Iceberg commit: files, vectors, key indexes (made again from the data where they are missing). */
  static async open(spec: MirrorSpec, host: MirrorHost): Promise<Mirror> {
    const mirror = new Mirror(spec, host)
    await host.sealedFiles.prepare()
    await mirror.staged.open(spec.storage.snapshot.files.map((file) => file.path))
    if (mirror.committed === null) mirror.phase = 'copying'
    else await mirror.loadFiles()
    const pausedReason = spec.storage.snapshot.properties[PAUSED_PROPERTY]
    if (pausedReason) {
      mirror.phase = 'paused'
      mirror.reason = pausedReason
      mirror.isPauseRecorded = true
    }
    return mirror
  }

  get committedLsn(): Lsn | null {
    return this.committed
  }

  get currentPhase(): MirrorPhase {
    return this.phase
  }

  /** The schema of the rows that come next. */
  get schema(): TableSchema {
    return this.state.schema
  }

  get pauseReason(): string | null {
    return this.reason
  }

  /** The lowest LSN that memory and current files can show exactly: that of the newest change in Iceberg. */
  get floor(): Lsn {
    return this.exactFrom
  }

  get byteSize(): number {
    return this.state.byteSize + this.heldByteSize + this.copied.byteSize + (this.resync?.difference.byteSize ?? 0)
  }

  /** Gives memory back that only saves time. */
  releaseCaches(): void {
    this.state.oldValues.clear()
  }

  get hasOpenTransaction(): boolean {
    return this.state.openChanges > 0 || (this.held.length > 0 && this.phase === 'streaming')
  }

  /** True where a flush has begun and not ended: one that failed is tried again. */
  get isFlushing(): boolean {
    return this.frozen !== null && this.phase === 'streaming'
  }

  /** Bytes of rows and deletes in memory: a flush frees them. */
  get freeableBytes(): number {
    const isIdle = this.state.isClean && this.frozen === null
    return this.phase === 'streaming' && !isIdle ? this.state.changeBytes : 0
  }

  /** Flushes where the open transaction ends. */
  flushSoon(): void {
    this.wantsFlush = true
  }

  /** True while changes wait in memory for the table's copy to end. */
  get isHoldingForCopy(): boolean {
    return this.phase === 'copying' && this.held.length > 0
  }

  /** Every change up to here is safe in Iceberg; null where the mirror needs nothing of the stream any more. */
  durableLsn(): Lsn | null {
    if (this.phase === 'paused' || this.phase === 'failed') return this.isPauseRecorded ? null : (this.committed ?? this.copyHoldLsn)
    // A crash amid a re-synchronisation begins it anew, at a later LSN.
    if (this.phase === 'copying') return this.resync === null ? this.copyHoldLsn : null
    const idle = this.state.isClean && this.frozen === null && this.held.length === 0
    return idle ? maxLsn(this.committed!, this.host.streamedLsn()) : this.committed!
  }

  async apply(batch: ChangeBatch): Promise<void> {
    await this.take(batch)
    if (this.state.openChanges === 0 || this.phase !== 'streaming') this.wakeBoundaryWaiters()
  }

  /** Within the open transaction the table loses every row it has so far; a batch with the transaction's mark follows. */
  async truncate(openLsn: Lsn | undefined): Promise<void> {
    await this.take({ isTruncation: true, openLsn })
  }

  /** Within the open transaction the table's rows get another shape; a batch with the transaction's mark follows. */
  async reshape(shape: TableShape, openLsn: Lsn | undefined): Promise<void> {
    await this.take({ isReshape: true, shape, openLsn })
  }

  /**
   * Writes a part of the open transaction as a data file, in no snapshot yet, so that its memory is free. Throws where the storage does
   * not take it; nothing is lost then.
   */
  async writeEarly(): Promise<EarlyOutcome> {
    try {
      return await this.early.write()
    } catch (error) {
      if (!isMoonlinkError(error) || (error.kind !== 'retry' && error.kind !== 'invalid')) this.fail(error)
      throw error
    }
  }

  private async take(change: HeldChange): Promise<void> {
    await this.lock.run(async () => {
      if (this.phase === 'copying') return this.hold(change)
      if (this.phase !== 'streaming') return
      try {
        await this.applyInOrder(change)
        this.freezeIfWanted()
      } catch (error) {
        this.fail(error)
      }
    })
    if (this.frozen !== null && !this.jobRunning) this.tick()
  }

  /** Where transactions follow each other so closely that one is always open, only here is a chance to freeze. */
  private freezeIfWanted(): void {
    if (!this.wantsFlush && !this.isFull) return
    const isBusy = this.jobs.isBusy || this.early.isRunning || this.frozen !== null
    if (isBusy || this.state.openChanges > 0 || this.state.isClean) return
    this.wantsFlush = false
    this.frozen = { flush: freeze(this.state, this.takenThrough), written: null }
  }

  /**
   * Goes back to the last commit and takes no change from here on, until copied rows (`appendCopied`, `finishCopy`) have made it equal to its source
   * again; what was readable so far stays so. For a table that may have missed changes, whatever its state. No stream may be open.
   * It is remembered across restarts until it is done. `schema`: what the source's rows have now, where that is not what the mirror has.
   */
  async beginResync(reason: string, schema: TableSchema | null = null): Promise<void> {
    if (this.spec.appendOnly)
      throw new MoonlinkError(
        'invalid',
        'RESYNC_APPEND_ONLY',
        `${this.name} is append-only: it keeps no index to compare rows by. Drop and add it to copy it again.`,
      )
    if (this.phase === 'streaming' && !this.hasOpenTransaction) await this.flush()
    const readableThrough = this.phase === 'streaming' ? maxLsn(this.committed!, this.host.appliedLsn()) : this.committed!
    await this.early.settled()
    await this.jobs.run(async () => {
      await this.spec.storage.setProperties({ [RESYNC_PROPERTY]: reason, [PAUSED_PROPERTY]: '' })
      await this.lock.run(async () => {
        await this.reopen()
        this.phase = 'copying'
        this.isPauseRecorded = false
        this.reason = `RESYNC ${reason}`
        if (schema !== null) await changeShape(this.state, { schema, sourceState: null }, this.host.sealedFiles)
        const difference = new Difference(this.state, this.host.limits.memoryLimitBytes * DIGEST_SHARE)
        this.resync = { difference, readableThrough }
      })
    })
    this.wakeBoundaryWaiters()
    this.host.logger.warn('the table is made equal to its source again', { table: this.name, reason })
  }

  /** While it is made equal to its source: reads up to here are exact. Null otherwise. */
  get readableWhileResyncing(): Lsn | null {
    return this.resync?.readableThrough ?? null
  }

  /** Copied rows, before `finishCopy`; waits while files are being written. */
  async appendCopied(batch: ColumnBatch): Promise<void> {
    this.host.telemetry.count('moonlink_copied_rows_total', batch.length, { table: this.name })
    const { resync } = this
    if (resync === null) return this.copied.append(batch)
    await this.lock.run(() => resync.difference.add(batch))
    // Much may differ; what does is one transaction until the end.
    if (this.state.changeBytes > this.host.limits.flushBytes) await this.writeEarly()
  }

  /** Commits the copied rows at `boundaryLsn` and lets the changes that came meanwhile in. */
  async finishCopy(boundaryLsn: Lsn): Promise<void> {
    if (this.resync !== null) return this.finishResync(this.resync.difference, boundaryLsn)
    const addFiles = await this.copied.finish()
    await this.jobs.run(async () => {
      const { storage } = this.spec
      await storage.commit({
        kind: 'append',
        addFiles,
        removeFiles: storage.snapshot.files.map((file) => file.path),
        vectors: [],
        lsn: boundaryLsn,
        ...this.shapeToCommit(this.committedShape),
      })
      await this.lock.run(async () => {
        await this.loadFiles()
        await this.streamFrom(boundaryLsn)
      })
    })
    this.copied.release()
  }

  /** Commits what the difference changed at `boundaryLsn`, and lets the changes that came meanwhile in. */
  private async finishResync(difference: Difference, boundaryLsn: Lsn): Promise<void> {
    await this.jobs.run(async () => {
      this.frozen = await this.lock.run(async () => {
        await difference.finish(boundaryLsn, this.host.clock.nowMs())
        const flush = freeze(this.state, boundaryLsn)
        // What was missed changed at LSNs that nobody knows: the snapshots before are exact no longer than they are known to be.
        return { flush: { ...flush, firstChangeLsn: this.committed! + 1n }, written: null }
      })
      await this.commitFrozen(this.frozen, { [RESYNC_PROPERTY]: '' })
      await this.lock.run(async () => {
        this.resync = null
        this.reason = null
        await this.streamFrom(boundaryLsn)
      })
    })
    this.host.logger.info('the table is equal to its source again', { table: this.name, lsn: formatLsn(boundaryLsn), ...difference.counts })
  }

  /** Everything up to `lsn` is in Iceberg: what came meanwhile is applied, and what comes. Under the lock. */
  private async streamFrom(lsn: Lsn): Promise<void> {
    this.committed = this.exactFrom = this.skipThrough = lsn
    this.readableFrom = maxLsn(this.readableFrom, lsn)
    this.catchingUp = true
    this.phase = 'streaming'
    const held = this.held.splice(0)
    this.heldByteSize = 0
    for (const change of held) await this.applyInOrder(change)
  }

  /** Stops taking changes at once, commits what was applied between transactions, and is remembered across restarts. */
  async pause(code: string, reason: string): Promise<void> {
    if (this.phase === 'paused' || this.phase === 'failed') return
    const wasStreaming = this.phase === 'streaming'
    this.phase = 'paused'
    this.wakeBoundaryWaiters()
    this.reason = `${code} ${reason}`
    this.host.logger.warn('table paused', { table: this.name, reason: this.reason })
    await this.jobs.run(async () => {
      const error = wasStreaming ? await this.flushJob().catch((cause: unknown) => cause) : null
      if (error instanceof Error) this.host.logger.warn('the flush before a pause failed', { table: this.name, error: error.message })
      this.reason = `${code} ${reason}`
      await this.recordPause()
      await this.abandonEarlyFiles()
    })
  }

  /** Makes what has been applied durable in Iceberg. Waits for an open transaction to end first. */
  async flush(): Promise<void> {
    while (this.phase === 'streaming') {
      const done = await this.jobs.run(async () => {
        // A flush that failed earlier holds an older prefix; what came since is flushed after it.
        if (this.frozen !== null) await this.flushJob()
        return this.flushJob()
      })
      if (done) return
      // The transaction may have ended while the answer was on its way.
      if (this.state.openChanges > 0) await new Promise<void>((resolve) => this.boundaryWaiters.push(resolve))
    }
  }

  /** Starts what is due: a flush, a compaction, an expiry. Never waits for it. */
  tick(): void {
    if (this.jobRunning) return
    if (this.phase !== 'streaming') return this.recordPauseAgain()
    const now = this.host.clock.nowMs()
    if (this.state.isClean && this.frozen === null) this.dirtySinceMs = null
    else this.dirtySinceMs ??= now
    const isDue = now >= this.retryAtMs && (this.frozen !== null || this.isFlushDue(now))
    if (!isDue && !this.isMaintenanceDue(now)) return
    this.jobRunning = true
    void this.jobs
      .run(async () => {
        if (this.phase !== 'streaming') return
        if (isDue) await this.flushJob()
        if (this.frozen === null) await this.maintain()
      })
      .catch((error: unknown) => this.host.logger.error('a commit failed', { table: this.name, error: String(error) }))
      .finally(() => {
        this.jobRunning = false
      })
  }

  plan(lsn: Lsn): TablePlan {
    return planMirror(this.state, lsn)
  }

  /** Until what it gives is called no snapshot is expired: for a read on its way to a lease. */
  async holdSnapshots(): Promise<() => void> {
    this.snapshotHolds++
    await this.expiring
    return () => void this.snapshotHolds--
  }

  /** The retained Iceberg snapshot that is exact at `lsn`, or null. */
  async planRetained(lsn: Lsn): Promise<TablePlan | null> {
    const retained = this.spec.storage.retained().find(({ fromLsn, throughLsn }) => fromLsn <= lsn && lsn <= throughLsn)
    return retained ? planSnapshot(this.state, await this.spec.storage.loadSnapshot(retained.snapshotId), lsn) : null
  }

  /** The LSNs below the floor that retained Iceberg snapshots show, newest first. */
  retainedRanges(): readonly ExactRange[] {
    return rangesBelow(this.floor, this.spec.storage.retained())
  }

  /** Goes back to the last Iceberg commit; the stream has to bring the rest again. */
  async reload(readableFrom: Lsn): Promise<void> {
    if (this.phase !== 'streaming') return
    await this.early.settled()
    await this.jobs.run(() =>
      this.lock.run(async () => {
        await this.reopen()
        this.readableFrom = readableFrom
        this.wakeBoundaryWaiters()
      }),
    )
  }

  /** Begins again from the last commit. Under the lock. */
  private async reopen(): Promise<void> {
    const { storage } = this.spec
    await this.abandonEarlyFiles()
    this.closeIndexes()
    this.frozen = null
    this.held = []
    this.heldByteSize = 0
    this.state = this.newState()
    this.committed = storage.snapshot.committedLsn
    this.exactFrom = storage.snapshot.exactFromLsn!
    this.skipThrough = this.committed!
    this.catchingUp = true
    await this.loadFiles()
  }

  private wakeBoundaryWaiters(): void {
    for (const wake of this.boundaryWaiters.splice(0)) wake()
  }

  /** The stream starts again before `lsn`, which this mirror has applied: what comes up to there is skipped. */
  skipTo(lsn: Lsn): void {
    this.skipThrough = maxLsn(this.skipThrough, lsn)
    this.catchingUp = true
  }

  status(): MirrorStatus {
    const files = [...this.state.files()].filter((file) => file.staged === null)
    const { snapshot } = this.spec.storage
    const copiedRows = this.resync?.difference.counts.rows ?? this.copied.rowCount
    return {
      table: this.table,
      state: this.phase,
      reason: this.reason,
      rows: this.phase === 'copying' ? copiedRows : this.state.liveRows,
      copiedRows,
      appliedLsn: this.host.appliedLsn(),
      durableLsn: this.durableLsn() ?? this.committed,
      committedLsn: this.phase === 'streaming' ? this.durableLsn() : this.committed,
      lastCommitTimeMs: this.state.lastCommitTimeMs,
      metadataLocation: snapshot.metadataLocation,
      snapshotId: snapshot.snapshotId,
      dataFiles: files.length,
      deletionVectors: files.filter((file) => file.baseCount > 0).length,
      memoryRows: this.state.memoryRows + this.copied.bufferedRows,
      memoryBytes: this.byteSize,
    }
  }

  /** Lets go of files and memory. Waits for a commit under way; flushes nothing. */
  async close(): Promise<void> {
    await this.early.settled()
    await this.jobs.run(() => this.lock.run(() => this.closeIndexes()))
  }

  /** Lets go of files that no commit will take any more: of a transaction that does not come to its end here, or to a commit. */
  async abandonEarlyFiles(): Promise<void> {
    const tried = this.frozen
      ? [...this.frozen.flush.early.map(({ file }) => file), ...(this.frozen.written?.files ?? []).map(({ staged }) => staged)]
      : []
    this.staged.abandon(
      tried.map(({ path }) => path),
      true,
    )
    this.staged.abandon([...this.state.active.earlyFiles].map(({ file }) => file.path))
    await this.staged.removeAbandoned(this.host.leasedPaths())
  }

  private closeIndexes(): void {
    for (const file of this.state.files()) {
      file.index?.close()
      file.dead.dispose()
    }
  }

  private async loadFiles(): Promise<void> {
    const { storage } = this.spec
    const { files, vectors } = storage.snapshot
    const bitmaps = new Map(vectors.map((vector) => [vector.dataFile, vector.bitmap]))
    for (const file of files) {
      const index = this.spec.appendOnly ? null : await this.host.sealedFiles.openOrRebuild(file, this.state.identity, storage)
      const segment = new FileSegment(this.state.newSegmentId(), file, index, bitmaps.get(file.path) ?? null)
      this.state.segments.set(segment.id, segment)
      this.state.liveRows += file.recordCount - segment.baseCount
    }
    this.state.lastMarkLsn = this.committed ?? 0n
    await this.host.sealedFiles.removeOthers(
      files.map((file) => file.path),
      this.state.identity,
    )
  }

  /** Every change up to here has been applied. */
  private get takenThrough(): Lsn {
    return maxLsn(this.state.lastMarkLsn, this.host.streamedLsn())
  }

  private hold(change: HeldChange): void {
    if (!isBatch(change)) return void this.held.push(change)
    const copy = copyBatch(change)
    this.held.push(copy)
    this.heldByteSize += batchBytes(copy)
  }

  /** Drops what Iceberg has already; an open transaction of which nothing tells that waits for its end. */
  private async applyInOrder(change: HeldChange): Promise<void> {
    if (!this.catchingUp) return this.applyNow(change)
    const firstEnd = isBatch(change) ? change.marks.endLsns[0] : undefined
    if (!isBatch(change) || firstEnd === undefined) {
      if (change.openLsn === undefined) return this.hold(change)
      // Nothing committed lies within a transaction, so one that ends behind `skipThrough` has no position before it.
      if (change.openLsn < this.skipThrough) return
      this.catchingUp = false
      return this.applyNow(change)
    }
    const waiting = this.held.splice(0)
    this.heldByteSize = 0
    if (firstEnd > this.skipThrough) {
      this.catchingUp = false
      for (const earlier of waiting) await this.applyNow(earlier)
      return this.applyNow(change)
    }
    const rest = dropThrough(change, this.skipThrough)
    if (rest === null) return
    if (rest.marks.endLsns.length === 0) return this.applyInOrder(rest)
    this.catchingUp = false
    return this.applyNow(rest)
  }

  private async applyNow(change: HeldChange): Promise<void> {
    if (isReshape(change)) return changeShape(this.state, change.shape, this.host.sealedFiles)
    if (!isBatch(change)) return this.state.truncate()
    cutOpenSegment(this.state, this.earlySizes)
    await applyBatch(this.state, change)
  }

  private isFlushDue(now: number): boolean {
    if (this.state.isClean || this.state.openChanges > 0) return false
    return this.isFull || now - (this.dirtySinceMs ?? now) >= this.host.limits.flushIntervalMs
  }

  private get isFull(): boolean {
    const { limits } = this.host
    const { active, fileDeletes } = this.state
    return active.rowCount >= limits.flushRows || active.usedBytes >= limits.flushBytes || fileDeletes >= limits.flushDeletes
  }

  /** Flushes once; false where an open transaction keeps it from starting. A failed flush stays frozen and is tried again. */
  private async flushJob(): Promise<boolean> {
    if (this.frozen === null) {
      // What is being written early belongs to the generation that would be frozen.
      while (this.early.isRunning) await this.early.settled()
      const outcome = await this.lock.run(() => {
        if (this.state.openChanges > 0 || this.early.isRunning) {
          this.wantsFlush = true
          return 'open'
        }
        this.wantsFlush = false
        if (this.state.isClean) return 'clean'
        // At once with the freeze: a mirror that looks clean and flushes nothing would let the source forget what is not committed.
        this.frozen = { flush: freeze(this.state, this.takenThrough), written: null }
        return 'frozen'
      })
      if (outcome === 'open') return false
      if (outcome === 'clean') return true
    }
    try {
      const frozen = this.frozen!
      await this.host.telemetry.span('flush', { table: this.name, lsn: formatLsn(frozen.flush.lsn) }, () => this.commitFrozen(frozen))
      this.reason = null
      this.retryDelayMs = RETRY_FIRST_MS
      this.dirtySinceMs = null
      return true
    } catch (error) {
      // A restart before the next try would leave them behind.
      await this.staged.add(this.frozen?.written?.files.map(({ staged }) => staged.path) ?? [])
      if (isMoonlinkError(error) && (error.kind === 'retry' || error.kind === 'invalid')) this.retryLater(error)
      else this.fail(error)
      throw error
    }
  }

  private async commitFrozen(
    frozen: { flush: FrozenFlush; written: WrittenFlush | null },
    properties: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const { flush } = frozen
    const { storage } = this.spec
    frozen.written ??= await commitPhase(this.host, this.name, 'write', () => writeFlush(this.state, flush, this.host.sealedFiles))
    const { written } = frozen
    const snapshot = await commitPhase(this.host, this.name, 'commit', () =>
      storage.commit({
        kind: 'append',
        addFiles: [...flush.early.map(({ staged }) => staged!), ...written.files.map(({ staged }) => staged)],
        removeFiles: flush.removed.map(({ file }) => file.path),
        vectors: flush.vectors.map(({ vector }) => vector),
        lsn: flush.lsn,
        firstChangeLsn: flush.firstChangeLsn,
        lastChangeLsn: flush.lastChangeLsn,
        ...this.shapeToCommit(flush.shape, properties),
      }),
    )
    const rows = [...flush.early.map(({ file }) => file), ...written.files.map(({ staged }) => staged)].reduce(
      (sum, { recordCount }) => sum + recordCount,
      0,
    )
    this.host.telemetry.count('moonlink_commits_total', 1, { table: this.name, kind: 'flush' })
    this.host.telemetry.count('moonlink_flushed_rows_total', rows, { table: this.name })
    const paths = written.files.map(({ staged }) => staged.path)
    const opened = await this.openIndexes(paths, snapshot.files)
    await this.lock.run(async () => {
      adoptFlush(this.state, flush, written, snapshot, await this.indexesNow(opened, paths, snapshot.files))
      this.committed = flush.lsn
      this.committedShape = flush.shape
      this.exactFrom = flush.lastChangeLsn
      this.frozen = null
    })
    await this.staged.take([...flush.early.map(({ file }) => file.path), ...written.files.map(({ staged }) => staged.path)])
    this.staged.settleDoubts()
    this.staged.abandon(flush.useless.map(({ file }) => file.path))
    await this.letGoOf([...flush.removed, ...flush.useless])
    await this.staged.removeAbandoned(this.host.leasedPaths())
  }

  /** Frees what segments held that are no longer among those of the state. */
  private async letGoOf(files: readonly FileSegment[]): Promise<void> {
    for (const { index, dead, file } of files) {
      index?.close()
      dead.dispose()
      await this.host.sealedFiles.remove(file.path, this.state.identity)
    }
  }

  private async openIndexes(paths: readonly string[], files: readonly DataFile[]): Promise<OpenedIndexes> {
    const { identity, appendOnly } = this.state
    if (appendOnly) return { identity, indexes: paths.map(() => null) }
    const opening = paths.map((path) => {
      const file = files.find((candidate) => candidate.path === path)
      if (!file) throw new MoonlinkError('bug', 'FILE_NOT_COMMITTED', `${this.name}: ${path} is not in the snapshot that committed it`)
      return this.host.sealedFiles.openOrRebuild(file, identity, this.spec.storage)
    })
    return { identity, indexes: await Promise.all(opening) }
  }

  /** The indexes by the key that rows have now: it may have changed while a commit was made. Under the lock. */
  private async indexesNow(
    opened: OpenedIndexes,
    paths: readonly string[],
    files: readonly DataFile[],
  ): Promise<readonly (SealedKeyIndex | null)[]> {
    if (opened.identity.fingerprint === this.state.identity.fingerprint) return opened.indexes
    for (const index of opened.indexes) index?.close()
    return (await this.openIndexes(paths, files)).indexes
  }

  private newState(): MirrorState {
    const { appendOnly, storage, table } = this.spec
    const oldValueBytes = this.host.limits.memoryLimitBytes * OLD_VALUE_SHARE
    return new MirrorState(table, this.committedShape, storage, appendOnly, this.host.newIncarnation(), oldValueBytes)
  }

  /** What a commit says of the shape that holds at its LSN, where that is not what Iceberg has. */
  private shapeToCommit(
    shape: TableShape,
    properties: Readonly<Record<string, string>> = {},
  ): Required<Pick<TableCommit, 'properties'>> & Pick<TableCommit, 'schema'> {
    const { schema, sourceState } = shape
    const isKept = sourceState === null || this.spec.storage.snapshot.properties[SOURCE_STATE_PROPERTY] === sourceState
    return {
      ...(shape === this.committedShape ? {} : { schema }),
      properties: isKept ? properties : { ...properties, [SOURCE_STATE_PROPERTY]: sourceState },
    }
  }

  private isMaintenanceDue(now: number): boolean {
    return (
      this.frozen === null &&
      (now - this.lastExpiryMs >= this.host.limits.expiry.intervalMs ||
        chooseCompaction(this.state, this.host.limits.compaction).length > 0)
    )
  }

  private async maintain(): Promise<void> {
    const sources = chooseCompaction(this.state, this.host.limits.compaction)
    if (sources.length > 0)
      await this.host.telemetry.span('compaction', { table: this.name, files: sources.length }, () => this.compact(sources))
    const now = this.host.clock.nowMs()
    if (now - this.lastExpiryMs < this.host.limits.expiry.intervalMs || this.snapshotHolds > 0) return
    this.lastExpiryMs = now
    const { minSnapshots, maxAgeMs } = this.host.limits.expiry
    const expiry = this.spec.storage.expire({ minSnapshots, maxAgeMs, keepPaths: this.host.leasedPaths() })
    this.expiring = expiry.catch(() => undefined)
    await expiry
  }

  private async compact(sources: readonly FileSegment[]): Promise<void> {
    const { storage } = this.spec
    const written = await writeCompaction(this.state, this.committedShape.schema, sources, this.host.sealedFiles)
    const addFiles = written.staged ? [written.staged] : []
    const commit: TableCommit = {
      kind: 'replace',
      addFiles,
      removeFiles: sources.map((source) => source.file.path),
      vectors: [],
      lsn: compactionLsn(this.committed),
      lastChangeLsn: this.exactFrom,
    }
    const snapshot = await storage.commit(commit).catch(async (error: unknown) => {
      // The next compaction chooses anew.
      const paths = addFiles.map(({ path }) => path)
      await this.staged.add(paths)
      this.staged.abandon(paths, true)
      throw error
    })
    const paths = addFiles.map(({ path }) => path)
    const opened = await this.openIndexes(paths, snapshot.files)
    await this.lock.run(async () => {
      const [index] = await this.indexesNow(opened, paths, snapshot.files)
      adoptCompaction(this.state, written, snapshot, index ?? null)
    })
    await this.letGoOf(sources)
    this.host.telemetry.count('moonlink_commits_total', 1, { table: this.name, kind: 'compaction' })
    this.host.logger.info('files compacted', { table: this.name, files: sources.length, lsn: formatLsn(this.floor) })
  }

  private retryLater(error: MoonlinkError): void {
    this.host.telemetry.count('moonlink_errors_total', 1, { where: 'commit', kind: error.kind, code: error.code })
    this.reason = `${error.code} ${error.message}`
    this.retryAtMs = this.host.clock.nowMs() + this.retryDelayMs
    this.retryDelayMs = Math.min(this.retryDelayMs * 2, RETRY_MAX_MS)
  }

  /** Ends the mirror for good; other tables go on. `tick` records it, so that the slot is held until then. */
  private fail(error: unknown): void {
    this.phase = 'failed'
    const known = isMoonlinkError(error) ? error : { kind: 'bug', code: 'BUG' }
    this.host.telemetry.count('moonlink_errors_total', 1, { where: 'table', kind: known.kind, code: known.code })
    this.reason = isMoonlinkError(error) ? `${error.code} ${error.message}` : String(error)
    const stack = error instanceof Error ? error.stack : undefined
    this.host.logger.error('table failed', { table: this.name, reason: this.reason, stack })
    this.retryAtMs = 0
    if (!isMoonlinkError(error, 'fenced')) return
    this.isFenced = true
    this.host.fenced(error)
  }

  /** Where recording a pause failed, tries again now and then. */
  private recordPauseAgain(): void {
    const now = this.host.clock.nowMs()
    if (this.phase === 'copying' || this.isPauseRecorded || now < this.retryAtMs) return
    this.retryAtMs = now + this.retryDelayMs
    this.retryDelayMs = Math.min(this.retryDelayMs * 2, RETRY_MAX_MS)
    void this.jobs.run(() => this.recordPause())
  }

  private async recordPause(): Promise<void> {
    if (this.isPauseRecorded || this.isFenced) return
    try {
      await this.spec.storage.setProperties({ [PAUSED_PROPERTY]: this.reason ?? 'unknown' })
      this.isPauseRecorded = true
    } catch (error) {
      this.host.logger.error('the pause could not be recorded', { table: this.name, error: String(error) })
    }
  }
}
