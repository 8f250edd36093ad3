import { join } from 'node:path'
import {
  assert,
  formatLsn,
  isMoonlinkError,
  maxLsn,
  MoonlinkError,
  typesEqual,
  type ColumnBatch,
  type CopyRange,
  type Field,
  type Lsn,
  type TableShape,
  type TakeCopied,
} from '@moonlink/core'
import type { ChangeIntake } from './change-intake.ts'
import { changeShape } from './change-shape.ts'
import { ChangeReplay } from './change-replay.ts'
import { CopiedRows } from './copied-rows.ts'
import { CopyMerge } from './copy-merge.ts'
import { CopyRecord, type CopySession } from './copy-record.ts'
import { Difference } from './difference.ts'
import type { EarlyWriteSizes } from './early-write.ts'
import type { EarlyWriter } from './early-writer.ts'
import { freeze } from './flush.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'
import { PAUSED_PROPERTY, RESYNC_PROPERTY, type ResyncSource } from './mirror-spec.ts'
import { rewind } from './rewind.ts'

/** Share of the memory limit for digests of rows while a mirror is made equal to its source. */
const DIGEST_SHARE = 0.1

const RECORD_FILE = 'copy-record'
/** Of rows that nobody says a range of. */
const WHOLE: CopyRange = { from: 0, to: null }

/** Reads rows of ranges that came or changed since the copy of that horizon. */
export type ReadChanged = (ranges: readonly CopyRange[], horizon: string, take: TakeCopied) => Promise<void>

const noneChanged: ReadChanged = async () => {
  throw new MoonlinkError('bug', 'COPY_INCOMPLETE', 'a copy in several snapshots needs its last one to be finished')
}

/** A mirror takes the rows of its source as of one LSN: as new ones (the initial copy), or to be compared with what it has (a re-synchronisation). */
export class TableCopy {
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly flusher: Flusher
  private readonly early: EarlyWriter
  private readonly earlySizes: EarlyWriteSizes
  private readonly record: CopyRecord
  private copied: CopiedRows
  /** A commit of what was copied failed, and may have happened all the same. */
  private isInDoubt = false
  /** What that commit brings. */
  private triedLsn: Lsn | null = null
  private triedShape: TableShape
  /** Of the commit since which the table was made anew: what that has is of another table, however often the comparison begins. */
  private outlivedShape: TableShape | null = null
  /** Rows that earlier snapshots brought. */
  private rowsBefore = 0
  /** While copying: the stream must be able to start again here. */
  holdLsn: Lsn
  /** Grows where the table begins to be compared: what an earlier comparison still brings does not belong to it. */
  attempt = 0

  constructor(core: MirrorCore, intake: ChangeIntake, flusher: Flusher, early: EarlyWriter, earlySizes: EarlyWriteSizes) {
    const { host, spec, state } = core
    this.core = core
    this.intake = intake
    this.flusher = flusher
    this.early = early
    this.earlySizes = earlySizes
    const fingerprint = JSON.stringify([spec.schema.fields, state.identity.fingerprint, spec.origin], withBigints)
    this.record = new CopyRecord(host.sealedFiles.disk, join(host.sealedFiles.directory, RECORD_FILE), fingerprint, host.logger)
    this.copied = this.newCopiedRows()
    this.triedShape = core.committed.shape
    this.holdLsn = host.appliedLsn()
  }

  /** Finds what an earlier process copied; the changes after that have to be there. Returns the files that are wanted. */
  async open(): Promise<readonly string[]> {
    const { committed, spec } = this.core
    await this.record.load()
    const [first] = this.record.sessions
    if (committed.lsn !== null || first === undefined || first.boundaryLsn < (spec.changesFromLsn ?? 0n)) {
      await this.record.clear()
      return []
    }
    this.holdLsn = first.boundaryLsn
    this.rowsBefore = this.recordedRows()
    return this.record.files.map(({ staged }) => staged.path)
  }

  get byteSize(): number {
    return this.copied.byteSize + (this.core.resync?.difference.byteSize ?? 0)
  }

  /** Rows of the source taken so far. */
  get rowCount(): number {
    return this.core.resync?.difference.counts.rows ?? this.rowsBefore + this.copied.rowCount
  }

  /** Rows whose file is not written yet. */
  get bufferedRows(): number {
    return this.copied.bufferedRows
  }

  /** Throws `invalid`/`RESYNC_APPEND_ONLY`. */
  requireComparable(): void {
    const { name, spec } = this.core
    if (!spec.appendOnly) return
    const message = `${name} is append-only: it keeps no index to compare rows by. Drop and add it to copy it again.`
    throw new MoonlinkError('invalid', 'RESYNC_APPEND_ONLY', message)
  }

  /** Goes back to the last commit and takes no change from here on; `readableThroughLsn` is what stays readable. */
  async beginResync(reason: string, source: ResyncSource | null, readableThroughLsn: Lsn): Promise<void> {
    const { core } = this
    const { host } = core
    await core.job(async () => {
      await core.spec.storage.setProperties({ [RESYNC_PROPERTY]: reason, [PAUSED_PROPERTY]: '' })
      await core.lock.run(async () => {
        await rewind(core, this.intake, this.flusher)
        core.phase = 'copying'
        this.intake.holdBack()
        core.isLetGo = false
        this.flusher.outcomes.over()
        core.reason = `RESYNC ${reason}`
        if (source !== null) {
          if (source.isAnew) this.outlivedShape = core.committed.shape
          if (this.outlivedShape === core.committed.shape) core.state.truncate()
          await changeShape(core.state, source.shape, host.sealedFiles)
          // What changed before comes in shapes that do not matter any more: the copy is later.
          this.intake.skipToLook(source.asOfLsn)
        }
        this.attempt++
        const difference = new Difference(core.state, host.limits.memoryLimitBytes * DIGEST_SHARE)
        // A pause may just have committed what was left to.
        core.resync = { difference, readableThroughLsn: maxLsn(readableThroughLsn, core.committed.lsn!), holdLsn: null }
        core.isRewinding = false
      })
    })
    host.logger.warn('the table is made equal to its source again', { table: core.name, reason })
  }

  /** A snapshot is about to be taken. What is compared with it is committed as of its LSN, which is none that the source was told of before: what comes after it counts. */
  awaitSnapshot(): void {
    const { host, resync } = this.core
    if (resync !== null) resync.holdLsn = host.streamedLsn()
  }

  /** True where a snapshot has begun to be read, by an earlier process too. */
  get isBegun(): boolean {
    return this.record.sessions.length > 0
  }

  /** Of the last snapshot that was begun, by an earlier process too; null where none was. */
  get copiedLsn(): Lsn | null {
    return this.record.sessions.at(-1)?.boundaryLsn ?? null
  }

  /** True where another snapshot can go on with what one has left. */
  get canGoOn(): boolean {
    const { resync, spec, state } = this.core
    return resync === null && !spec.appendOnly && !state.identity.keyless
  }

  /**
   * A snapshot of the source begins to be read. Returns the ranges that earlier ones have read, which are not to be read again; none where what
   * they brought can't be joined with it.
   */
  async begin(session: CopySession): Promise<readonly CopyRange[]> {
    const { record } = this
    const { resync } = this.core
    if (resync !== null) {
      resync.holdLsn = session.boundaryLsn
      return []
    }
    await this.copied.finish()
    const first = record.sessions[0]
    const isSame = first === undefined || (first.storage !== null && first.storage === session.storage)
    if (!this.canGoOn || !isSame) await this.beginAnew()
    if (record.sessions.length === 0) this.holdLsn = session.boundaryLsn
    this.rowsBefore = this.recordedRows()
    this.copied = this.newCopiedRows()
    await record.begin(session)
    return record.done
  }

  /** Takes rows of a range; waits while files are being written. */
  async append(batch: ColumnBatch, range: CopyRange = WHOLE): Promise<void> {
    const { core } = this
    const { host, name, resync } = core
    this.requireCopying()
    host.telemetry.count('moonlink_copied_rows_total', batch.length, { table: name })
    if (resync === null) {
      this.requireColumns(batch)
      return this.copied.append(batch, range)
    }
    await core.lock.run(() => {
      core.requireOpen()
      this.requireCompared(resync.difference)
      this.requireColumns(batch)
      return resync.difference.add(batch)
    })
  }

  /** Every row of the range was taken: it is not read again, once its rows are written. */
  async finishRange(range: CopyRange): Promise<void> {
    this.requireCopying()
    if (this.core.resync === null) await this.copied.finishRange(range)
  }

  /** True where `finish` needs the stream to have come to the last snapshot's LSN. */
  get needsChanges(): boolean {
    return this.core.resync === null && this.record.sessions.length > 1
  }

  /** Commits at `boundaryLsn` and lets the changes that came meanwhile in. */
  async finish(boundaryLsn: Lsn, readChanged: ReadChanged = noneChanged): Promise<void> {
    const { resync } = this.core
    this.requireCopying()
    if (resync === null) await this.copied.finish()
    this.triedLsn = boundaryLsn
    this.triedShape = this.core.committed.shape
    try {
      if (resync !== null) await this.finishResync(resync.difference, boundaryLsn)
      else if (this.record.sessions.length > 1) await this.finishMerge(boundaryLsn, readChanged)
      else await this.finishCopy(boundaryLsn)
    } catch (error) {
      this.isInDoubt ||= isMoonlinkError(error, 'retry')
      throw error
    }
    await this.record.clear()
  }

  /** Where a commit of what was copied failed, finds out what came of it; true where it happened. To be called before the copy goes on. Throws what the storage throws. */
  async settle(): Promise<boolean> {
    if (!this.isInDoubt || this.core.phase !== 'copying') return false
    const { core, flusher, record } = this
    const { staged } = core
    const { storage } = core.spec
    return core.job(async () => {
      await storage.settle()
      const { committedLsn, files } = storage.snapshot
      // What is compared has a commit from before.
      const hasLanded = committedLsn !== null && committedLsn === this.triedLsn
      if (hasLanded) {
        await core.lock.run(async () => {
          core.closeIndexes()
          flusher.forget()
          core.committed.shape = this.triedShape
          core.resetState()
          await core.loadFiles()
          this.streamFrom(committedLsn)
        })
        const paths = new Set(files.map(({ path }) => path))
        staged.abandon(record.files.map((file) => file.staged.path).filter((path) => !paths.has(path)))
        await staged.take([...paths])
        await staged.settleDoubts()
        await record.clear()
        await staged.removeAbandoned(core.host.leasedPaths())
      }
      this.isInDoubt = false
      return hasLanded
    })
  }

  /** Lets go of what was copied, for good. */
  async abandon(): Promise<void> {
    await this.copied.finish().catch(() => undefined)
    await this.beginAnew()
  }

  async close(): Promise<void> {
    await this.copied.finish().catch(() => undefined)
  }

  /** Throws `retry`/`COPY_STOPPED` where the table was paused, or failed, meanwhile. */
  private requireCopying(): void {
    const { name, phase } = this.core
    if (phase !== 'copying') throw new MoonlinkError('retry', 'COPY_STOPPED', `${name} is ${phase}: its copy has stopped.`)
  }

  /** By place alone, values would come into columns that they are not of. */
  private requireColumns({ fields }: ColumnBatch): void {
    const { name, state } = this.core
    assert(haveSameColumns(fields, state.schema.fields), 'copied rows have the columns of the copy', { table: name })
  }

  /** Throws `retry`/`COPY_STOPPED` where the comparison is over, or begun anew. */
  private requireCompared(difference: Difference): void {
    const { name, resync } = this.core
    if (resync?.difference !== difference) throw new MoonlinkError('retry', 'COPY_STOPPED', `${name} is compared anew.`)
  }

  private async finishCopy(boundaryLsn: Lsn): Promise<void> {
    const { core } = this
    const addFiles = this.record.files.map(({ staged }) => staged)
    await core.job(async () => {
      const { storage } = core.spec
      await core.host.beforeCommit(core.name)
      this.requireCopying()
      await storage.commit({
        kind: 'append',
        addFiles,
        removeFiles: storage.snapshot.files.map((file) => file.path),
        vectors: [],
        lsn: boundaryLsn,
        ...core.shapeToCommit(core.committed.shape),
      })
      await core.staged.take(addFiles.map(({ path }) => path))
      await core.staged.settleDoubts()
      await core.lock.run(async () => {
        await core.loadFiles()
        this.streamFrom(boundaryLsn)
      })
      core.host.telemetry.count('moonlink_commits_total', 1, { table: core.name, kind: 'copy' })
      await core.staged.removeAbandoned(core.host.leasedPaths())
    })
  }

  /** Joins what several snapshots brought, and commits it as of the last one. */
  private async finishMerge(boundaryLsn: Lsn, readChanged: ReadChanged): Promise<void> {
    const { core, early, earlySizes, flusher, intake, record } = this
    const { clock, logger } = core.host
    const { sessions } = record
    await core.job(async () => {
      this.requireCopying()
      await core.lock.run(() => core.resetState())
      core.isMerging = true
      try {
        const replay = new ChangeReplay(intake.waiting(), sessions[0].boundaryLsn)
        const merge = new CopyMerge({ core, early, earlySizes, replay })
        await merge.run(sessions)
        if (merge.lacksRows) {
          const before = sessions.slice(0, -1).flatMap(({ done }) => done)
          logger.info('rows of ranges that were read are read again where they changed, for the stream leaves out unchanged values', {
            table: core.name,
          })
          await readChanged(before, sessions[0].horizon, (rows) => merge.put(rows))
        }
        await early.settled()
        const flush = await core.lock.run(async () => {
          await merge.finish(boundaryLsn, clock.nowMs())
          return freeze(core.state, boundaryLsn)
        })
        this.triedShape = flush.shape
        await flusher.commitFrozen(flush, {})
      } catch (error) {
        await this.undoMerge()
        if (isMoonlinkError(error) && error.code === 'COPY_CHANGED') await this.beginAnew()
        throw error
      } finally {
        core.isMerging = false
      }
      await core.lock.run(() => this.streamFrom(boundaryLsn))
    })
    logger.info('the copy was joined from several snapshots', { table: core.name, snapshots: sessions.length, lsn: formatLsn(boundaryLsn) })
  }

  /** What was copied stays for another attempt; what else was written goes. */
  private async undoMerge(): Promise<void> {
    const { core, early, flusher } = this
    await early.settled()
    await flusher.abandonFiles(new Set(this.record.files.map(({ staged }) => staged.path)))
    await core.lock.run(() => {
      core.closeIndexes()
      flusher.forget()
      core.resetState()
    })
  }

  private async finishResync(difference: Difference, boundaryLsn: Lsn): Promise<void> {
    const { core } = this
    const { clock, logger } = core.host
    await core.job(async () => {
      this.requireCopying()
      this.requireCompared(difference)
      const flush = await core.lock.run(async () => {
        await difference.finish(boundaryLsn, clock.nowMs())
        return freeze(core.state, boundaryLsn)
      })
      this.triedShape = flush.shape
      // What was missed changed at LSNs that nobody knows: the snapshots before are exact no longer than they are known to be.
      await this.flusher.commitFrozen({ ...flush, firstChangeLsn: core.committed.lsn! + 1n }, { [RESYNC_PROPERTY]: '' })
      await core.lock.run(() => this.streamFrom(boundaryLsn))
    })
    logger.info('the table is equal to its source again', { table: core.name, lsn: formatLsn(boundaryLsn), ...difference.counts })
  }

  private async beginAnew(): Promise<void> {
    const { host, name, staged, state } = this.core
    const files = this.record.files.map((file) => file.staged.path)
    if (files.length > 0) host.logger.warn('what was copied of the table is of no use any more: its copy begins anew', { table: name })
    await this.record.clear()
    this.rowsBefore = 0
    this.copied = this.newCopiedRows()
    for (const path of files) await host.sealedFiles.remove(path, state.identity)
    staged.abandon(files, this.isInDoubt)
    await staged.removeAbandoned(host.leasedPaths())
  }

  private newCopiedRows(): CopiedRows {
    const { host, spec, staged, state } = this.core
    const { appendOnly, schema, storage } = spec
    return new CopiedRows({
      schema,
      storage,
      identity: appendOnly ? null : state.identity,
      limits: host.limits,
      sealedFiles: host.sealedFiles,
      write: (path, put) =>
        staged.write(async (onPath) => {
          await onPath(path)
          return put()
        }),
      onFile: (file) => this.record.addFile(file),
      onDone: async (range) => {
        await this.record.addDone(range)
        // It gets on, however often it fails.
        this.flusher.outcomes.over()
      },
    })
  }

  /** Rows of ranges that are done. */
  private recordedRows(): number {
    let rows = 0
    for (const { done, files } of this.record.sessions) {
      const ranges = new Set(done.map(({ from }) => from))
      for (const { runs } of files) for (const { count, range } of runs) if (ranges.has(range.from)) rows += count
    }
    return rows
  }

  /** Everything up to `lsn` is in Iceberg. Under the lock. */
  private streamFrom(lsn: Lsn): void {
    const { committed } = this.core
    committed.lsn = committed.exactFromLsn = lsn
    this.core.readableFromLsn = maxLsn(this.core.readableFromLsn, lsn)
    // It may have been paused meanwhile.
    if (this.core.phase === 'copying') this.core.phase = 'streaming'
    if (this.core.phase === 'streaming' && this.core.resync !== null) this.core.reason = null
    this.core.resync = null
    this.flusher.outcomes.succeeded(this.core.host.clock.nowMs())
    this.intake.startAt(lsn)
  }
}

function haveSameColumns(some: readonly Field[], others: readonly Field[]): boolean {
  return some.length === others.length && some.every(({ id, type }, at) => id === others[at].id && typesEqual(type, others[at].type))
}

/** JSON has no bigint, which a field's default may be. */
function withBigints(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value
}
