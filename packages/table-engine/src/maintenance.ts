import { formatLsn, type TableCommit } from '@moonlink/core'
import { indexesNow, letGoOf, openIndexes } from './committed-files.ts'
import { adoptCompaction, chooseCompaction, compactionLsn, writeCompaction } from './compaction.ts'
import type { MirrorCore } from './mirror-core.ts'
import type { FileSegment } from './segment.ts'

/** Keeps the Iceberg table in shape: compacts files, expires snapshots. */
export class Maintenance {
  private readonly core: MirrorCore
  private lastExpiryMs: number
  private snapshotHolds = 0
  private expiring: Promise<unknown> = Promise.resolve()

  constructor(core: MirrorCore) {
    this.core = core
    this.lastExpiryMs = core.host.clock.nowMs()
  }

  isDue(nowMs: number): boolean {
    return this.isExpiryDue(nowMs) || this.chosen().length > 0
  }

  /** Until what it gives is called no snapshot is expired: for a read on its way to a lease. */
  async holdSnapshots(): Promise<() => void> {
    this.snapshotHolds++
    await this.expiring
    return () => void this.snapshotHolds--
  }

  /** Does what is due. Among the jobs, while no flush is pending. */
  async run(): Promise<void> {
    const { host, name } = this.core
    const sources = this.chosen()
    if (sources.length > 0) await host.telemetry.span('compaction', { table: name, files: sources.length }, () => this.compact(sources))
    const nowMs = host.clock.nowMs()
    if (this.isExpiryDue(nowMs) && this.snapshotHolds === 0) await this.expire(nowMs)
  }

  private chosen(): FileSegment[] {
    return chooseCompaction(this.core.state, this.core.host.limits.compaction)
  }

  private isExpiryDue(nowMs: number): boolean {
    return nowMs - this.lastExpiryMs >= this.core.host.limits.expiry.intervalMs
  }

  private async expire(nowMs: number): Promise<void> {
    const { host, spec } = this.core
    this.lastExpiryMs = nowMs
    const { minSnapshots, maxAgeMs } = host.limits.expiry
    const expiry = spec.storage.expire({ minSnapshots, maxAgeMs, keepPaths: host.leasedPaths() })
    this.expiring = expiry.catch(() => undefined)
    await expiry
  }

  private async compact(sources: readonly FileSegment[]): Promise<void> {
    const { core } = this
    const { committed, host, name, spec, staged } = core
    const written = await writeCompaction(core.state, committed.shape.schema, sources, host.sealedFiles, staged)
    const addFiles = written.staged ? [written.staged] : []
    const paths = addFiles.map(({ path }) => path)
    const commit: TableCommit = {
      kind: 'replace',
      addFiles,
      removeFiles: sources.map((source) => source.file.path),
      vectors: [],
      lsn: compactionLsn(committed.lsn),
      lastChangeLsn: committed.exactFromLsn,
    }
    const snapshot = await spec.storage.commit(commit).catch(async (error: unknown) => {
      // The next compaction chooses anew.
      staged.abandon(paths, true)
      throw error
    })
    await staged.take(paths)
    const opened = await openIndexes(core, paths, snapshot.files)
    await core.lock.run(async () => {
      const [index] = await indexesNow(core, opened, paths, snapshot.files)
      adoptCompaction(core.state, written, snapshot, index ?? null)
    })
    await letGoOf(core, sources)
    host.telemetry.count('moonlink_commits_total', 1, { table: name, kind: 'compaction' })
    host.logger.info('files compacted', { table: name, files: sources.length, lsn: formatLsn(committed.exactFromLsn) })
  }
}
