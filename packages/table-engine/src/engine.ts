import { createHash } from 'node:crypto'
import { join } from 'node:path'
import {
  formatLsn,
  formatTableName,
  minLsn,
  MoonlinkError,
  randomUuid,
  silentTelemetry,
  systemDisk,
  type Clock,
  type FileLedger,
  type LocalDisk,
  type Logger,
  type Lsn,
  type Random,
  type ResumePoint,
  type SourceEvent,
  type Telemetry,
} from '@moonlink/core'
import type { AcquireRequest, ReadLease, ReadLeaseSource } from '@moonlink/union-read'
import { batchBytes } from './held-batches.ts'
import { ReadLeases } from './read-leases.ts'
import { withDeadline } from './deadline.ts'
import type { EngineLimits } from './limits.ts'
import { RefusedMirrors } from './refused-mirrors.ts'
import { MemoryGovernor } from './memory-governor.ts'
import { Mirror } from './mirror.ts'
import type { MirrorSpec, MirrorStatus } from './mirror-spec.ts'
import { Reads } from './reads.ts'
import { REBUILT_ROWS, SealedFiles } from './sealed-files.ts'
import { Semaphore } from './semaphore.ts'
import { isStagedList, StagedFiles } from './staged-files.ts'
import { StreamPosition } from './stream-position.ts'

export interface EngineOptions {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly telemetry?: Telemetry
  /** Local directory for sealed key indexes; they can be made again from the data. */
  readonly indexDirectory: string
  /** Where that is. Default: the system's. */
  readonly disk?: LocalDisk
  readonly limits: EngineLimits
}

const POLL_MS = 20

/**
 * All mirrors of one source, on one LSN line. `apply` takes the stream's events in order; readers get leases over a consistent
 * cut. Everything runs on one thread; flushes and compactions run beside applying.
 */
export class Engine implements ReadLeaseSource {
  private readonly options: EngineOptions
  private readonly telemetry: Telemetry
  private readonly disk: LocalDisk
  private readonly mirrors = new Map<string, Mirror>()
  /** Mirrors that are gone for a moment, as they were. */
  private readonly reopening = new Map<string, MirrorStatus>()
  private readonly leases = new ReadLeases()
  private readonly staged = new Map<string, StagedFiles>()
  private readonly position: StreamPosition
  private readonly refused: RefusedMirrors
  private readonly memory: MemoryGovernor
  private readonly reads: Reads
  private readonly rebuilding = new Semaphore(REBUILT_ROWS)
  private lastFreshnessMs: number | null = null
  /** Mirrors that go back to their last commit before a stream can begin, and whether they have. */
  private readonly rewinding = new Map<Mirror, boolean>()
  private isEnding = false
  /** Called when another owner has taken a table over: this engine should stop. */
  onFenced: (error: MoonlinkError) => void = () => {}
  /** Asked before "latest" is answered: throws where another may have taken over and gone on. */
  requireCurrent: () => Promise<void> = async () => {}
  /** Waited for before rows of a table are committed. Where it throws, they are not: it is tried again as a commit that fails. */
  beforeCommit: (table: string) => Promise<void> = async () => {}

  constructor(options: EngineOptions) {
    const { clock, limits, logger } = options
    this.options = options
    this.telemetry = options.telemetry ?? silentTelemetry
    this.disk = options.disk ?? systemDisk
    this.position = new StreamPosition(clock)
    this.refused = new RefusedMirrors(this.mirrors, clock)
    this.memory = new MemoryGovernor({
      refused: this.refused,
      limitBytes: limits.memoryLimitBytes,
      pausesOnFullSpool: limits.pausesOnFullSpool,
      mirrors: this.mirrors,
      clock,
      logger,
      telemetry: this.telemetry,
    })
    this.reads = new Reads(this.mirrors, this.reopening, this.position, this.leases, options.clock, () => this.requireCurrent())
  }

  get appliedLsn(): Lsn {
    return this.position.appliedLsn
  }

  /** How far the stream has come; behind `appliedLsn` where a lost one had to start again earlier. */
  get streamedLsn(): Lsn {
    return this.position.streamedLsn
  }

  get sourceLsn(): Lsn {
    return this.position.sourceLsn
  }

  /** From the newest transaction's commit in the source to when reads showed it, in ms of two clocks; null before the first. */
  get freshnessMs(): number | null {
    return this.lastFreshnessMs
  }

  /** Bytes that rows, indexes and logs take in memory. */
  get memoryBytes(): number {
    return this.memory.usedBytes
  }

  /** Opens the mirror at its last commit. Where its `committedLsn` is null, copy it: `appendCopied`, then `finishCopy`. */
  async addMirror(spec: MirrorSpec): Promise<Mirror> {
    const { clock, logger, limits } = this.options
    const name = formatTableName(spec.table)
    if (this.mirrors.has(name)) throw new MoonlinkError('invalid', 'TABLE_EXISTS', `${name} is mirrored already`)
    const mirror = await Mirror.open(spec, {
      clock,
      logger,
      telemetry: this.telemetry,
      limits,
      sealedFiles: new SealedFiles(this.disk, this.indexDirectoryOf(name), this.memory.blockCache, this.memory.filters, this.rebuilding),
      appliedLsn: () => this.position.appliedLsn,
      streamedLsn: () => this.position.streamedLsn,
      appliedBeside: (changes, bytes) => this.memory.applied(changes, bytes),
      newIncarnation: () => randomUuid(this.options.random),
      leasedPaths: () => this.leases.paths(),
      stagedFiles: this.stagedFilesOf(name),
      isEnding: () => this.isEnding,
      beforeCommit: (table) => this.beforeCommit(table),
      fenced: (error) => this.onFenced(error),
    })
    this.mirrors.set(name, mirror)
    return mirror
  }

  /** Removes the mirror, if there is one, and lets `open` add it again. Reads are told to try again until that has succeeded. */
  async reopenMirror(name: string, open: () => Promise<void>): Promise<void> {
    const status = this.mirrors.get(name)?.status()
    if (status !== undefined) this.reopening.set(name, { ...status, state: 'copying' })
    await this.forget(name)
    await open()
    this.reopening.delete(name)
  }

  /** Forgets the mirror and its local indexes; its Iceberg table stays. */
  async removeMirror(name: string): Promise<void> {
    this.reopening.delete(name)
    await this.forget(name)
  }

  private async forget(name: string): Promise<void> {
    const mirror = this.mirrors.get(name)
    if (!mirror) return
    this.mirrors.delete(name)
    await mirror.close()
    await mirror.abandonEarlyFiles()
    await this.removeLocalFiles(this.indexDirectoryOf(name))
  }

  /** All but the lists of files that may be in no snapshot: whoever opens the table again removes them, once it is certain that nobody needs them. */
  private async removeLocalFiles(directory: string): Promise<void> {
    for (const file of await this.disk.list(directory).catch(() => [])) {
      if (!isStagedList(file)) await this.disk.remove(join(directory, file)).catch(() => undefined)
    }
  }

  /** Where the storage of a table that is to be mirrored keeps account of its files: give it to that before anything is committed. */
  ledger(name: string): FileLedger {
    return this.stagedFilesOf(name)
  }

  /** Removes whatever files are listed of a table that is there no more, and is not mirrored. */
  async removeListedFiles(name: string, remove: (path: string) => Promise<void>): Promise<void> {
    if (!this.mirrors.has(name)) await this.stagedFilesOf(name).removeAll(remove)
  }

  /** The mirror of a table, by `schema.name`. */
  mirror(name: string): Mirror | undefined {
    return this.mirrors.get(name)
  }

  /** "Latest" answers only once `sourceLsn`, the source's position at the start, is applied: no reader sees time go back. */
  requireCatchUp(sourceLsn: Lsn): void {
    this.position.requireCatchUp(sourceLsn)
  }

  /** Applies the stream's next event. Resolves when its memory may be reused; waits where memory nears its limit. */
  async apply(event: SourceEvent): Promise<void> {
    switch (event.kind) {
      case 'batch': {
        const mirror = this.mirrors.get(formatTableName(event.batch.table))
        await mirror?.apply(event.batch)
        if (mirror) this.telemetry.count('moonlink_changes_total', event.batch.ops.length, { table: mirror.name })
        await this.memory.applied(event.batch.ops.length, batchBytes(event.batch))
        return
      }
      case 'watermark':
        this.position.reached(event.lsn, event.sourceLsn)
        if (event.commitTimeMs !== null) this.noteFreshness(event.commitTimeMs)
        return
      case 'truncate':
        for (const table of event.tables) await this.mirrors.get(formatTableName(table))?.truncate(event.openLsn)
        return
      case 'schema':
        return this.mirrors.get(formatTableName(event.table))?.reshape(event.shape, event.openLsn)
      case 'recopy':
        return this.mirrors.get(formatTableName(event.table))?.recopy(event.code, event.reason, event.openLsn)
      case 'unmirrorable':
        return this.mirrors.get(formatTableName(event.table))?.unmirrorable(event.code, event.reason, event.openLsn)
    }
  }

  /**
   * After a lost stream, or one that could not be opened: true where the next may open at `streamedLsn`; false where an open transaction had to be rolled back, so
   * that it must open at `restartLsn()`. Throws `retry` where a mirror's last commit can't be told just now; to be called again then.
   */
  async resetOpenTransaction(): Promise<boolean> {
    const all = [...this.mirrors.values()]
    this.noteOpenTransactions()
    for (const mirror of all) await mirror.rollBackWaiting()
    // What waited was applied until just now, where a table is catching up.
    this.noteOpenTransactions()
    const open = all.filter((mirror) => this.rewinding.has(mirror))
    if (open.length === 0) return true
    const { appliedLsn, streamedLsn } = this.position
    // Not to `appliedLsn`: one that went back to its last commit before may not have come there again.
    for (const mirror of all) if (!open.includes(mirror)) mirror.skipTo(streamedLsn)
    const restart = () =>
      all
        .map((mirror) => (open.includes(mirror) && mirror.currentPhase === 'streaming' ? mirror.committedLsn : mirror.durableLsn()))
        .filter((lsn) => lsn !== null)
        .reduce(minLsn, appliedLsn)
    // Before they go back: without what they had they look as if they needed nothing, and the source would be told so.
    this.position.restartAt(restart())
    for (const mirror of open) {
      if (!this.rewinding.get(mirror)) await mirror.reload(appliedLsn)
      this.rewinding.set(mirror, true)
    }
    this.position.restartAt(restart())
    this.rewinding.clear()
    return false
  }

  /** Where a stream must open so that no mirror misses a change. */
  restartLsn(): Lsn {
    let lsn: Lsn | null = null
    for (const mirror of this.mirrors.values()) {
      const needed = mirror.durableLsn()
      if (needed !== null) lsn = lsn === null ? needed : minLsn(lsn, needed)
    }
    return lsn ?? this.position.appliedLsn
  }

  /** Where each mirror goes on in a stream that begins now. */
  resumePoints(): readonly ResumePoint[] {
    return [...this.mirrors.values()].map((mirror) => mirror.resumePoint)
  }

  /** What the source may forget. */
  acknowledgeableLsn(): Lsn {
    return minLsn(this.restartLsn(), this.position.streamedLsn)
  }

  /** Throws `retry`/`TIMED_OUT` and `retry`/`ENGINE_CLOSED`. */
  async waitApplied(lsn: Lsn, timeoutMs: number): Promise<void> {
    await this.position.wait(lsn, timeoutMs)
  }

  /** Waits until Iceberg commits of the tables (default: all) cover `lsn`, flushing what is due to it. Throws `retry`/`TIMED_OUT` and `retry`/`ENGINE_CLOSED`. */
  async waitCommitted(lsn: Lsn, timeoutMs: number, tables?: readonly string[]): Promise<void> {
    const { clock } = this.options
    const deadline = clock.nowMs() + timeoutMs
    await this.waitApplied(lsn, timeoutMs)
    for (const mirror of this.chosen(tables)) {
      for (;;) {
        this.position.requireOpen()
        const durable = mirror.durableLsn()
        if (durable === null || (mirror.currentPhase === 'streaming' && durable >= lsn)) break
        if (clock.nowMs() >= deadline)
          throw new MoonlinkError('retry', 'TIMED_OUT', `${mirror.name}: no Iceberg commit covers ${formatLsn(lsn)} after ${timeoutMs} ms`)
        if (mirror.currentPhase === 'streaming' && !mirror.isCatchingUp)
          await withDeadline(
            clock,
            deadline - clock.nowMs(),
            mirror.flush(),
            () => `${mirror.name}: no Iceberg commit covers ${formatLsn(lsn)} after ${timeoutMs} ms`,
          )
        // One that gets again what a lost stream brought has nothing to flush until then, and all else needs its turn.
        if (mirror.durableLsn() === durable) await clock.sleep(POLL_MS)
      }
    }
  }

  /** Commits what was applied when called. */
  async flush(tables?: readonly string[]): Promise<void> {
    await Promise.all(this.chosen(tables).map((mirror) => mirror.flush()))
  }

  /** As `flush`, for while no stream is open: leaves out a transaction that is open, and what it keeps from being committed. */
  async flushWhole(tables?: readonly string[]): Promise<void> {
    await Promise.all(this.chosen(tables).map((mirror) => mirror.flushWhole()))
  }

  /** How each table is now. */
  status(): readonly MirrorStatus[] {
    const open = [...this.mirrors.values()].filter(({ name }) => !this.reopening.has(name))
    return [...open.map((mirror) => mirror.status()), ...this.reopening.values()]
  }

  /** Starts due flushes, compactions, expiries and removals; call it every 100 ms or so. */
  async tick(): Promise<void> {
    for (const mirror of this.mirrors.values()) mirror.tick()
    for (const staged of this.staged.values()) staged.tick()
    for (const mirror of this.mirrors.values()) await mirror.memory.retrySpool()
    await this.memory.loadFilter()
  }

  /**
   * Pauses tables whose commits or copies alone have been refused for `patienceMs`, or for somewhat longer where no permission is missing: the source need keep nothing for them then. One whose
   * files alone can't be read for its changes keeps all others waiting, and is paused after half a minute.
   */
  pauseRefused(patienceMs: number): void {
    for (const mirror of this.refused.alone(patienceMs)) mirror.pauseForRefusal()
  }

  readableTables(): readonly string[] {
    return this.reads.readableTables()
  }

  acquire(request: AcquireRequest): Promise<ReadLease> {
    return this.reads.acquire(request)
  }

  /** Where changes wait for a store that does not answer, they wait no longer: their tables fail, and begin at their last commit when they are opened again. */
  hurry(): void {
    this.isEnding = true
  }

  /** Closes every mirror: waits for commits under way, and flushes nothing. Who waits for an LSN is told so (`retry`/`ENGINE_CLOSED`). */
  async close(): Promise<void> {
    this.hurry()
    this.position.close()
    for (const mirror of this.mirrors.values()) await mirror.close()
    this.mirrors.clear()
    for (const staged of this.staged.values()) await staged.settled()
  }

  private noteOpenTransactions(): void {
    for (const mirror of this.mirrors.values())
      if ((mirror.hasOpenTransaction || mirror.isRewinding) && !this.rewinding.has(mirror)) this.rewinding.set(mirror, false)
  }

  private noteFreshness(commitTimeMs: number): void {
    this.lastFreshnessMs = Math.max(0, this.options.clock.nowMs() - commitTimeMs)
    this.telemetry.observe('moonlink_freshness_seconds', this.lastFreshnessMs / 1000)
  }

  private chosen(tables?: readonly string[]): Mirror[] {
    if (!tables) return [...this.mirrors.values()]
    return tables.map((name) => {
      const mirror = this.mirrors.get(name)
      if (!mirror) throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `no table ${name} is mirrored; moonlink tables list shows what is`)
      return mirror
    })
  }

  private stagedFilesOf(name: string): StagedFiles {
    let staged = this.staged.get(name)
    if (staged === undefined) {
      const { clock, limits, logger } = this.options
      const { lateWriteMs } = limits
      staged = new StagedFiles({ disk: this.disk, directory: this.indexDirectoryOf(name), clock, logger, lateWriteMs })
      this.staged.set(name, staged)
    }
    return staged
  }

  private indexDirectoryOf(name: string): string {
    return join(this.options.indexDirectory, createHash('sha256').update(name).digest('hex').slice(0, 16))
  }
}
