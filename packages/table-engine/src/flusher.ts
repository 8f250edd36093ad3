import { formatLsn, isMoonlinkError, type MoonlinkError, type TableSnapshot } from '@moonlink/core'
import { Outcomes } from './outcomes.ts'
import { commitPhase } from './commit-phase.ts'
import { indexesNow, letGoOf, openIndexes } from './committed-files.ts'
import type { EarlyWriter } from './early-writer.ts'
import { adoptFlush, freeze, writeFlush, type FrozenFlush, type WrittenFlush } from './flush.ts'
import type { Maintenance } from './maintenance.ts'
import type { MirrorCore } from './mirror-core.ts'
import { RetryDelay } from './retry-delay.ts'

interface PendingFlush {
  readonly flush: FrozenFlush
  written: WrittenFlush | null
  /** Once it is committed: what fails behind that is tried again, and the commit is not. */
  snapshot: TableSnapshot | null
}

/** Commits what was applied. One flush at a time: it is frozen between two transactions, and stays so, with the same content, until it is committed. */
export class Flusher {
  private readonly core: MirrorCore
  private readonly early: EarlyWriter
  private readonly maintenance: Maintenance
  private pending: PendingFlush | null = null
  /** A flush that an open transaction kept from starting; it starts where that ends. */
  private isWanted = false
  private readonly retry = new RetryDelay()
  private dirtySinceMs: number | null = null
  readonly outcomes = new Outcomes()

  constructor(core: MirrorCore, early: EarlyWriter, maintenance: Maintenance) {
    this.core = core
    this.early = early
    this.maintenance = maintenance
  }

  /** True where a flush has begun and not ended: one that failed is tried again. */
  get isPending(): boolean {
    return this.pending !== null
  }

  /** True where nothing applied waits for a commit. */
  get isClean(): boolean {
    return this.core.state.isClean && this.pending === null
  }

  /** Flushes where the open transaction ends. */
  flushSoon(): void {
    this.isWanted = true
  }

  /** Where transactions follow each other so closely that one is always open, only here is a chance to freeze. Under the lock. */
  freezeIfWanted(): void {
    if (!this.isWanted && !this.isFull) return
    const { jobs, state } = this.core
    const isBusy = jobs.isBusy || this.early.isRunning || this.pending !== null || this.maintenance.isPending
    if (!isBusy && state.openChanges === 0 && !state.isClean) this.freeze()
  }

  /** Whether a flush should start at `nowMs`; call it regularly, since it also notes since when there is something to flush. */
  checkDue(nowMs: number): boolean {
    if (this.isClean) this.dirtySinceMs = null
    else this.dirtySinceMs ??= nowMs
    if (!this.retry.isOver(nowMs)) return false
    if (this.pending !== null) return true
    const { host, state } = this.core
    if (state.isClean || state.openChanges > 0) return false
    return this.isFull || nowMs - (this.dirtySinceMs ?? nowMs) >= host.limits.flushIntervalMs
  }

  /**
   * Flushes once; false where an open transaction, or that the mirror has failed, keeps it from starting. A failed flush stays frozen and is tried again. Throws what the
   * storage throws. Among the jobs.
   */
  async run(): Promise<boolean> {
    const { core } = this
    try {
      if (this.pending === null) {
        // Deaths are frozen by the files that hold the rows: which those are has to be certain.
        await this.maintenance.finish()
        const outcome = await this.begin()
        if (outcome !== 'frozen') return outcome === 'clean'
      }
      const pending = this.pending!
      const attributes = { table: core.name, lsn: formatLsn(pending.flush.lsn) }
      await core.host.telemetry.span('flush', attributes, () => this.commit(pending))
      // One that failed meanwhile has its own.
      if (core.phase === 'streaming') core.reason = null
      this.retry.succeeded()
      this.outcomes.succeeded(core.host.clock.nowMs())
      this.dirtySinceMs = null
      return true
    } catch (error) {
      if (isMoonlinkError(error) && mayBeRetried(error)) this.retryLater(error)
      else core.fail(error)
      throw error
    }
  }

  /** As `run`; what a flush that failed earlier holds is committed first, and what came since is too. */
  async runAll(): Promise<boolean> {
    if (this.isPending) await this.run()
    return this.run()
  }

  /** Commits a flush that the caller froze, with table properties of its own. Among the jobs. */
  async commitFrozen(flush: FrozenFlush, properties: Readonly<Record<string, string>>): Promise<void> {
    this.pending = { flush, written: null, snapshot: null }
    await this.commit(this.pending, properties)
  }

  /** Lets go of files that no commit will take any more: of a transaction that does not come to its end here, or to a commit. Not of those to keep. */
  async abandonFiles(keep: ReadonlySet<string> = new Set()): Promise<void> {
    const { host, staged, state } = this.core
    const tried = this.pending === null ? [] : pathsOf(this.pending)
    staged.abandon(
      tried.filter((path) => !keep.has(path)),
      true,
    )
    staged.abandon(state.active.earlyFiles.map(({ file }) => file.path).filter((path) => !keep.has(path)))
    await staged.removeAbandoned(host.leasedPaths())
  }

  /** As `abandonFiles`, where what was applied stays readable: those of whole transactions are kept. */
  async abandonOpenFiles(): Promise<void> {
    const closed = this.core.state.active.earlyFiles.filter(({ visibleFrom }) => visibleFrom?.lsn !== null)
    await this.abandonFiles(new Set(closed.map(({ file }) => file.path)))
  }

  /**
   * Makes certain what came of a commit that failed: what did happen is the last commit from here on, what did not can't any more. Throws what the storage throws.
   * Among the jobs; the state has to go back to the last commit then.
   */
  async settle(): Promise<void> {
    const { core, maintenance, pending } = this
    const hasLanded = await core.spec.storage.settle()
    // No flush begins before it is settled, so the doubt was about it.
    if (maintenance.isPending) return maintenance.forget(hasLanded)
    if (pending === null || (!hasLanded && pending.snapshot === null)) return
    this.forget()
    core.committed.shape = pending.flush.shape
    await core.staged.take(pathsOf(pending))
  }

  /** Gives the flush that has begun up: the state goes back to the last commit. */
  forget(): void {
    // Whether it happened or not, it did not take them.
    if (this.pending !== null) this.core.staged.abandon(this.pending.flush.useless.map(({ file }) => file.path))
    this.pending = null
  }

  private get isFull(): boolean {
    const { limits } = this.core.host
    const { active, fileDeletes } = this.core.state
    return active.rowCount >= limits.flushRows || active.usedBytes >= limits.flushBytes || fileDeletes >= limits.flushDeletes
  }

  private freeze(): void {
    this.isWanted = false
    this.pending = { flush: freeze(this.core.state, this.core.takenThroughLsn), written: null, snapshot: null }
  }

  private async begin(): Promise<'failed' | 'open' | 'clean' | 'frozen'> {
    const { core, early } = this
    // What is being written early belongs to the generation that would be frozen.
    while (early.isRunning) await early.settled()
    return core.lock.run(() => {
      // Since it was asked for: it does not have all that the stream has brought, or has a change in part.
      if (core.phase === 'failed' || (core.phase === 'paused' && core.isRewinding)) return 'failed'
      if (core.state.openChanges > 0 || early.isRunning) {
        this.isWanted = true
        return 'open'
      }
      this.isWanted = false
      if (core.state.isClean) return 'clean'
      // At once with the freeze: a mirror that looks clean and flushes nothing would let the source forget what is not committed.
      this.freeze()
      return 'frozen'
    })
  }

  private async commit(pending: PendingFlush, properties: Readonly<Record<string, string>> = {}): Promise<void> {
    const { core } = this
    const { host, name, staged } = core
    const { flush } = pending
    pending.written ??= await commitPhase(host, name, 'write', () => writeFlush(core.state, flush, host.sealedFiles, staged))
    const { written } = pending
    pending.snapshot ??= await commitPhase(host, name, 'commit', async () => {
      await host.beforeCommit(name)
      return core.spec.storage.commit({
        kind: 'append',
        addFiles: [...flush.early.map((segment) => segment.staged!), ...written.files.map((file) => file.staged)],
        removeFiles: flush.removed.map(({ file }) => file.path),
        vectors: flush.vectors.map(({ vector }) => vector),
        lsn: flush.lsn,
        firstChangeLsn: flush.firstChangeLsn,
        lastChangeLsn: flush.lastChangeLsn,
        ...core.shapeToCommit(flush.shape, properties),
      })
    })
    const { snapshot } = pending
    const paths = written.files.map((file) => file.staged.path)
    const opened = await openIndexes(core, paths, snapshot.files)
    await core.lock.run(async () => {
      const files = await indexesNow(core, opened, paths, snapshot.files)
      try {
        const { state } = core
        const adopt = () => {
          adoptFlush(state, flush, written, snapshot, files)
          // At once: reads go by the floor.
          core.committed.lsn = flush.lsn
          core.committed.shape = flush.shape
          core.committed.exactFromLsn = flush.lastChangeLsn
        }
        await state.mender.with(state, adopt, files)
      } catch (error) {
        // Another attempt opens them anew.
        for (const { index } of files) index?.close()
        throw error
      }
      this.pending = null
    })
    this.countCommit(flush, written)
    await staged.take([...flush.early.map(({ file }) => file.path), ...paths])
    await staged.settleDoubts()
    staged.abandon(flush.useless.map(({ file }) => file.path))
    await letGoOf(core, [...flush.removed, ...flush.useless])
    await staged.removeAbandoned(host.leasedPaths())
  }

  private countCommit(flush: FrozenFlush, written: WrittenFlush): void {
    const { name, host } = this.core
    const files = [...flush.early.map(({ file }) => file), ...written.files.map(({ staged }) => staged)]
    const rows = files.reduce((sum, { recordCount }) => sum + recordCount, 0)
    host.telemetry.count('moonlink_commits_total', 1, { table: name, kind: 'flush' })
    host.telemetry.count('moonlink_flushed_rows_total', rows, { table: name })
  }

  private retryLater(error: MoonlinkError): void {
    const { host } = this.core
    host.telemetry.count('moonlink_errors_total', 1, { where: 'commit', kind: error.kind, code: error.code })
    if (this.core.phase === 'streaming') this.core.reason = `${error.code} ${error.message}`
    const nowMs = host.clock.nowMs()
    this.outcomes.failed(error, nowMs)
    this.retry.failed(nowMs)
  }
}

/** Others may commit to the table all the time, and leave our files alone. */
function mayBeRetried({ code, kind }: MoonlinkError): boolean {
  return kind === 'retry' || kind === 'invalid' || code === 'COMMIT_CONFLICT'
}

function pathsOf({ flush, written }: PendingFlush): string[] {
  return [...flush.early.map(({ file }) => file.path), ...(written?.files ?? []).map(({ staged }) => staged.path)]
}
