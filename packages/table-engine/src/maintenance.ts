import { formatLsn, isMoonlinkError, type TableCommit, type TableSnapshot } from '@moonlink/core'
import { indexesNow, letGoOf, openIndexes } from './committed-files.ts'
import { CompactedFile } from './compacted-file.ts'
import {
  adoptCompaction,
  chooseCompaction,
  compactionBounds,
  compactionLsn,
  writeCompaction,
  type WrittenCompaction,
} from './compaction.ts'
import type { MirrorCore } from './mirror-core.ts'
import { RetryDelay } from './retry-delay.ts'
import type { FileSegment } from './segment.ts'

interface PendingCompaction {
  readonly written: WrittenCompaction
  readonly commit: TableCommit
  /** Once it is committed: what fails behind that is tried again, and the commit is not. */
  snapshot: TableSnapshot | null
}

/** Keeps the Iceberg table in shape: compacts files, expires snapshots. */
export class Maintenance {
  private readonly core: MirrorCore
  private lastExpiryMs: number
  private snapshotHolds = 0
  /** What is being written. */
  private target: CompactedFile | null = null
  private expiring: Promise<unknown> = Promise.resolve()
  /** Its commit was tried, and may have happened: nothing else is committed before that is known. */
  private pending: PendingCompaction | null = null
  private readonly retry = new RetryDelay()

  constructor(core: MirrorCore) {
    this.core = core
    this.lastExpiryMs = core.host.clock.nowMs()
  }

  isDue(nowMs: number): boolean {
    if (this.pending === null && this.isExpiryDue(nowMs)) return true
    return this.retry.isOver(nowMs) && (this.pending !== null || this.chosen().length > 0)
  }

  /** True where the commit of a compaction is to be tried again. */
  get isPending(): boolean {
    return this.pending !== null
  }

  /** Bytes held by a compaction that is being written. */
  get byteSize(): number {
    return this.target?.byteSize ?? 0
  }

  /** Until what it gives is called no snapshot is expired: for a read on its way to a lease. */
  async holdSnapshots(): Promise<() => void> {
    this.snapshotHolds++
    await this.expiring
    return () => void this.snapshotHolds--
  }

  isExpiryDue(nowMs: number): boolean {
    return nowMs - this.lastExpiryMs >= this.core.host.limits.expiry.intervalMs
  }

  /** Compacts what is worth it. Among the jobs, while no flush is pending. */
  async compactIfDue(): Promise<void> {
    const { host, name } = this.core
    await this.finish()
    if (!this.retry.isOver(host.clock.nowMs())) return
    const sources = this.chosen()
    if (sources.length > 0) await host.telemetry.span('compaction', { table: name, files: sources.length }, () => this.compact(sources))
  }

  /** Expires snapshots, also while a flush is pending: it needs none of those. What fails is tried again when it is due again. Among the jobs. */
  async expireIfDue(): Promise<void> {
    const { host, name } = this.core
    const nowMs = host.clock.nowMs()
    if (!this.isExpiryDue(nowMs) || this.snapshotHolds > 0) return
    await this.expire(nowMs).catch((error: unknown) => host.logger.error('an expiry failed', { table: name, error: String(error) }))
  }

  /** Commits the compaction whose commit failed before, if there is one: the same again, so that it is recognised where it did happen. Among the jobs. */
  async finish(): Promise<void> {
    if (this.pending !== null) await this.commit(this.pending)
  }

  /** The state goes back to the last commit, which `hasLanded` of the pending compaction or not. */
  async forget(hasLanded: boolean): Promise<void> {
    if (this.pending === null) return
    const paths = this.pending.commit.addFiles.map(({ path }) => path)
    const isCommitted = hasLanded || this.pending.snapshot !== null
    this.pending = null
    this.retry.succeeded()
    if (isCommitted) await this.core.staged.take(paths)
    else this.core.staged.abandon(paths, true)
  }

  private chosen(): FileSegment[] {
    const { limits } = this.core.host
    return chooseCompaction(this.core.state, limits.compaction, compactionBounds(limits))
  }

  private async expire(nowMs: number): Promise<void> {
    const { host, spec, state } = this.core
    this.lastExpiryMs = nowMs
    const { minSnapshots, maxAgeMs } = host.limits.expiry
    // Where what a commit brought could not be taken over yet, reads still go by the files from before it.
    const keepPaths = new Set([...host.leasedPaths(), ...[...state.files()].map(({ file }) => file.path)])
    const expiry = spec.storage.expire({ minSnapshots, maxAgeMs, keepPaths })
    this.expiring = expiry.catch(() => undefined)
    await expiry
  }

  private async write(sources: readonly FileSegment[]): Promise<WrittenCompaction> {
    const { committed, host, spec, staged, state } = this.core
    const { schema } = committed.shape
    const { groupBytes } = compactionBounds(host.limits)
    const identity = state.appendOnly ? null : state.identity
    this.target = new CompactedFile({ storage: spec.storage, fields: schema.fields, identity, groupBytes })
    try {
      return await writeCompaction(state, this.target, schema, sources, host.sealedFiles, staged)
    } finally {
      this.target = null
    }
  }

  private async compact(sources: readonly FileSegment[]): Promise<void> {
    const { core } = this
    const { committed } = core
    const written = await this.write(sources).catch((error: unknown) => {
      this.retry.failed(core.host.clock.nowMs())
      throw error
    })
    const commit: TableCommit = {
      kind: 'replace',
      addFiles: written.staged ? [written.staged] : [],
      removeFiles: sources.map((source) => source.file.path),
      vectors: [],
      lsn: compactionLsn(committed.lsn),
      lastChangeLsn: committed.exactFromLsn,
    }
    this.pending = { written, commit, snapshot: null }
    await this.commit(this.pending)
  }

  private async commit(pending: PendingCompaction): Promise<void> {
    const { commit, written } = pending
    const { core } = this
    const { committed, host, name, spec, staged } = core
    const { sources } = written
    const paths = commit.addFiles.map(({ path }) => path)
    pending.snapshot ??= await spec.storage.commit(commit).catch(async (error: unknown) => {
      if (isMoonlinkError(error, 'retry')) this.retry.failed(host.clock.nowMs())
      // The next compaction chooses anew.
      else await this.forget(false)
      throw error
    })
    const { snapshot } = pending
    this.retry.succeeded()
    await staged.take(paths)
    await staged.settleDoubts()
    const opened = await openIndexes(core, paths, snapshot.files)
    await core.lock.run(async () => {
      const [file] = await indexesNow(core, opened, paths, snapshot.files)
      adoptCompaction(core.state, written, snapshot, file?.index ?? null)
      this.pending = null
    })
    await letGoOf(core, sources)
    await staged.removeAbandoned(host.leasedPaths())
    host.telemetry.count('moonlink_commits_total', 1, { table: name, kind: 'compaction' })
    host.logger.info('files compacted', { table: name, files: sources.length, lsn: formatLsn(committed.exactFromLsn) })
  }
}
