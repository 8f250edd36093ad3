import { formatTableName, isMoonlinkError, maxLsn, MoonlinkError, type Lsn, type TableCommit, type TableShape } from '@moonlink/core'
import type { Difference } from './difference.ts'
import { IndexMender } from './index-mender.ts'
import { MirrorState } from './mirror-state.ts'
import { SOURCE_STATE_PROPERTY, type MirrorHost, type MirrorPhase, type MirrorSpec } from './mirror-spec.ts'
import { Mutex } from './mutex.ts'
import { FileSegment } from './segment.ts'
import { PatientReads } from './patient-reads.ts'
import type { StagedFiles } from './staged-files.ts'

/** Share of the memory limit for values that rows in the making take over from files. */
const OLD_VALUE_SHARE = 1 / 8

/** What Iceberg has of the table. */
interface Committed {
  /** Null before the initial copy is committed. */
  lsn: Lsn | null
  /** End LSN of the newest change. */
  exactFromLsn: Lsn
  shape: TableShape
}

/** While copied rows are compared with what is there, rather than taken for new. */
interface Resync {
  readonly difference: Difference
  /** What was readable before stays so. */
  readonly readableThroughLsn: Lsn
  /** The stream must be able to start again here; null before a snapshot is about to be taken: a crash begins anew with a later one. */
  holdLsn: Lsn | null
}

/** What the parts of one mirror share. Whoever changes `state`, `phase` or `committed` after a commit holds `lock`; whoever commits holds `jobs`. */
export class MirrorCore {
  readonly spec: MirrorSpec
  readonly host: MirrorHost
  readonly name: string
  /** Orders everything that changes `state`. */
  readonly lock = new Mutex()
  /** Orders flushes, compactions and other commits. */
  readonly jobs = new Mutex()
  readonly staged: StagedFiles
  readonly reads: PatientReads
  private readonly mender: IndexMender
  readonly committed: Committed
  state: MirrorState
  phase: MirrorPhase = 'streaming'
  /** Why it is in its phase, or what a commit failed by. */
  reason: string | null = null
  resync: Resync | null = null
  /** Where it was paused while it streamed: nothing is missing up to here. What was being applied then may bring its state further (`takenThroughLsn`). */
  pausedThroughLsn: Lsn | null = null
  /** While what several snapshots of a copy brought becomes one state. */
  isMerging = false
  /** True once a restart would find that a table which is stopped is so, or that it misses changes: only then may the source forget what the table did not take. */
  isLetGo = false
  /** True once what it held is let go of: its state must not be touched any more. */
  isClosed = false
  /** While it goes back to its last commit, or that failed amid it: its state is no LSN's. */
  isRewinding = false
  /** What that failed by, where it did. */
  rewindTrouble: string | null = null
  /** Set once the table is another's, who may be told nothing by us. */
  fencedBy: MoonlinkError | null = null
  /** Changes that came during a copy wait yet: less is applied than the stream has brought. */
  isBehind = (): boolean => false
  /** Reads need the stream to have come this far (again). */
  readableFromLsn: Lsn = 0n

  constructor(spec: MirrorSpec, host: MirrorHost) {
    const { schema, sourceState, storage } = spec
    this.spec = spec
    this.host = host
    this.name = formatTableName(spec.table)
    this.committed = {
      lsn: storage.snapshot.committedLsn,
      exactFromLsn: storage.snapshot.exactFromLsn ?? 0n,
      shape: { schema, sourceState: sourceState ?? null },
    }
    this.staged = host.stagedFiles
    const { clock, logger, sealedFiles, telemetry } = host
    this.reads = new PatientReads({ storage, table: this.name, clock, logger, isEnding: () => this.isImpatient })
    this.mender = new IndexMender({ sealedFiles, table: this.name, logger, telemetry })
    this.state = this.newState()
  }

  /** True where it takes no changes until it is made equal to its source. */
  get isStopped(): boolean {
    return this.phase === 'paused' || this.phase === 'failed'
  }

  /** True where nothing is waited for that its changes need. */
  get isImpatient(): boolean {
    return this.isStopped || this.host.isEnding()
  }

  /** Every change up to here has been applied. What a pause commits may be committed once the stream is beyond it. */
  get takenThroughLsn(): Lsn {
    if (this.phase === 'paused') return maxLsn(this.pausedThroughLsn ?? 0n, this.state.lastMarkLsn)
    return this.isBehind() ? this.state.lastMarkLsn : maxLsn(this.state.lastMarkLsn, this.host.streamedLsn())
  }

  /** Makes segments of the snapshot's files, with their vectors and key indexes (made again from the data where they are missing). */
  async loadFiles(): Promise<void> {
    const { host, state } = this
    const { appendOnly, storage } = this.spec
    const { files, vectors } = storage.snapshot
    const bitmaps = new Map(vectors.map((vector) => [vector.dataFile, vector.bitmap]))
    const indexes = appendOnly ? [] : await host.sealedFiles.openOrRebuildAll(files, state.identity, storage)
    for (const [at, file] of files.entries()) {
      const segment = new FileSegment(state.newSegmentId(), file, indexes[at] ?? null, bitmaps.get(file.path) ?? null)
      state.segments.set(segment.id, segment)
      state.liveRows += file.recordCount - segment.baseCount
    }
    state.lastMarkLsn = this.committed.lsn ?? 0n
    await host.sealedFiles.removeOthers(
      files.map((file) => file.path),
      state.identity,
    )
  }

  /** Begins anew as of the last commit, without its files. Under the lock. */
  resetState(): void {
    const { snapshot } = this.spec.storage
    this.state = this.newState()
    this.committed.lsn = snapshot.committedLsn
    this.committed.exactFromLsn = snapshot.exactFromLsn ?? 0n
  }

  /** Runs `work` among the jobs. Throws `retry`/`TABLE_CLOSED` where the mirror was closed first. */
  job<T>(work: () => Promise<T>): Promise<T> {
    return this.jobs.run(() => {
      this.requireOpen()
      return work()
    })
  }

  /** Throws `retry`/`TABLE_CLOSED`. */
  requireOpen(): void {
    if (this.isClosed) this.throwClosed()
  }

  throwClosed(): never {
    throw new MoonlinkError(
      'retry',
      'TABLE_CLOSED',
      `${this.name} was dropped, is being opened again, or the backend is stopping; try again`,
    )
  }

  closeIndexes(): void {
    for (const file of this.state.files()) {
      file.index?.close()
      file.dead.dispose()
    }
  }

  /** What a commit says of the shape that holds at its LSN, where that is not what Iceberg has. */
  shapeToCommit(
    shape: TableShape,
    properties: Readonly<Record<string, string>> = {},
  ): Required<Pick<TableCommit, 'properties'>> & Pick<TableCommit, 'schema'> {
    const { schema, sourceState } = shape
    const isKept = sourceState === null || this.spec.storage.snapshot.properties[SOURCE_STATE_PROPERTY] === sourceState
    return {
      ...(shape === this.committed.shape ? {} : { schema }),
      properties: isKept ? properties : { ...properties, [SOURCE_STATE_PROPERTY]: sourceState },
    }
  }

  /** A change could not be applied, or only in part: the mirror fails, unless it was stopped meanwhile, so that nobody waits for what would pass. Under the lock. */
  applyFailed(error: unknown): void {
    if (!this.isStopped || !isMoonlinkError(error, 'retry')) return this.fail(error)
    this.isRewinding = true
    this.pausedThroughLsn = null
  }

  /** Ends the mirror for good; other tables go on. It is recorded later, and holds the slot until then. */
  fail(error: unknown): void {
    this.phase = 'failed'
    const known = isMoonlinkError(error) ? error : { kind: 'bug', code: 'BUG' }
    this.reason = isMoonlinkError(error) ? `${error.code} ${error.message}` : String(error)
    if (this.host.isEnding() && known.kind === 'retry') {
      const message = 'the engine ends while changes wait for what can not be read now; the next one takes them up'
      return this.host.logger.info(message, { table: this.name, reason: this.reason })
    }
    this.host.telemetry.count('moonlink_errors_total', 1, { where: 'table', kind: known.kind, code: known.code })
    const stack = error instanceof Error ? error.stack : undefined
    this.host.logger.error('table failed', { table: this.name, reason: this.reason, stack })
    if (!isMoonlinkError(error, 'fenced')) return
    this.fencedBy = error
    this.host.fenced(error)
  }

  /** Of work that nobody waits for. That the mirror was closed first is no failure. */
  logFailure(what: string, error: unknown): void {
    if (isMoonlinkError(error) && error.code === 'TABLE_CLOSED') return
    this.host.logger.error(what, { table: this.name, error: String(error) })
  }

  private newState(): MirrorState {
    const { appendOnly, storage, table } = this.spec
    const oldValueBytes = this.host.limits.memoryLimitBytes * OLD_VALUE_SHARE
    const { committed, host, mender, reads } = this
    return new MirrorState(table, committed.shape, storage, reads, mender, appendOnly, host.newIncarnation(), oldValueBytes)
  }
}
