import { formatLsn, maxLsn, MoonlinkError, type ColumnBatch, type Lsn } from '@moonlink/core'
import type { ChangeIntake } from './change-intake.ts'
import { changeShape } from './change-shape.ts'
import { CopiedRows } from './copied-rows.ts'
import { Difference } from './difference.ts'
import { freeze } from './flush.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'
import { PAUSED_PROPERTY, RESYNC_PROPERTY, type ResyncSource } from './mirror-spec.ts'
import { rewind } from './rewind.ts'

/** Share of the memory limit for digests of rows while a mirror is made equal to its source. */
const DIGEST_SHARE = 0.1

/** A mirror takes the rows of its source as of one LSN: as new ones (the initial copy), or to be compared with what it has (a re-synchronisation). */
export class TableCopy {
  private readonly core: MirrorCore
  private readonly intake: ChangeIntake
  private readonly flusher: Flusher
  private readonly copied: CopiedRows

  constructor(core: MirrorCore, intake: ChangeIntake, flusher: Flusher) {
    const { host, spec, state } = core
    const { appendOnly, schema, storage } = spec
    this.core = core
    this.intake = intake
    this.flusher = flusher
    const identity = appendOnly ? null : state.identity
    this.copied = new CopiedRows({ schema, storage, identity, limits: host.limits, sealedFiles: host.sealedFiles })
  }

  get byteSize(): number {
    return this.copied.byteSize + (this.core.resync?.difference.byteSize ?? 0)
  }

  /** Rows of the source taken so far. */
  get rowCount(): number {
    return this.core.resync?.difference.counts.rows ?? this.copied.rowCount
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
    await core.jobs.run(async () => {
      await core.spec.storage.setProperties({ [RESYNC_PROPERTY]: reason, [PAUSED_PROPERTY]: '' })
      await core.lock.run(async () => {
        await rewind(core, this.intake, this.flusher)
        core.phase = 'copying'
        this.intake.holdBack()
        core.isPauseRecorded = false
        core.reason = `RESYNC ${reason}`
        if (source !== null) {
          if (source.isAnew) core.state.truncate()
          await changeShape(core.state, source.shape, host.sealedFiles)
          // What changed before comes in shapes that do not matter any more: the copy is later.
          this.intake.skipTo(source.asOfLsn)
        }
        const difference = new Difference(core.state, host.limits.memoryLimitBytes * DIGEST_SHARE)
        core.resync = { difference, readableThroughLsn }
      })
    })
    host.logger.warn('the table is made equal to its source again', { table: core.name, reason })
  }

  /** Takes rows; waits while files are being written. */
  async append(batch: ColumnBatch): Promise<void> {
    const { host, lock, name, resync } = this.core
    host.telemetry.count('moonlink_copied_rows_total', batch.length, { table: name })
    if (resync === null) await this.copied.append(batch)
    else await lock.run(() => resync.difference.add(batch))
  }

  /** Commits at `boundaryLsn` and lets the changes that came meanwhile in. */
  async finish(boundaryLsn: Lsn): Promise<void> {
    const { resync } = this.core
    if (resync === null) await this.finishCopy(boundaryLsn)
    else await this.finishResync(resync.difference, boundaryLsn)
  }

  private async finishCopy(boundaryLsn: Lsn): Promise<void> {
    const { core } = this
    const addFiles = await this.copied.finish()
    await core.jobs.run(async () => {
      const { storage } = core.spec
      await storage.commit({
        kind: 'append',
        addFiles,
        removeFiles: storage.snapshot.files.map((file) => file.path),
        vectors: [],
        lsn: boundaryLsn,
        ...core.shapeToCommit(core.committed.shape),
      })
      await core.lock.run(async () => {
        await core.loadFiles()
        this.streamFrom(boundaryLsn)
      })
    })
    this.copied.release()
  }

  private async finishResync(difference: Difference, boundaryLsn: Lsn): Promise<void> {
    const { core } = this
    const { clock, logger } = core.host
    await core.jobs.run(async () => {
      const flush = await core.lock.run(async () => {
        await difference.finish(boundaryLsn, clock.nowMs())
        return freeze(core.state, boundaryLsn)
      })
      // What was missed changed at LSNs that nobody knows: the snapshots before are exact no longer than they are known to be.
      await this.flusher.commitFrozen({ ...flush, firstChangeLsn: core.committed.lsn! + 1n }, { [RESYNC_PROPERTY]: '' })
      await core.lock.run(() => {
        core.resync = null
        core.reason = null
        this.streamFrom(boundaryLsn)
      })
    })
    logger.info('the table is equal to its source again', { table: core.name, lsn: formatLsn(boundaryLsn), ...difference.counts })
  }

  /** Everything up to `lsn` is in Iceberg. Under the lock. */
  private streamFrom(lsn: Lsn): void {
    const { committed } = this.core
    committed.lsn = committed.exactFromLsn = lsn
    this.core.readableFromLsn = maxLsn(this.core.readableFromLsn, lsn)
    this.core.phase = 'streaming'
    this.intake.startAt(lsn)
  }
}
