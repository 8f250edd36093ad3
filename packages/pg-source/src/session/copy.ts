import {
  assert,
  formatTableName,
  MoonlinkError,
  type Clock,
  type CopiedTable,
  type CopyRange,
  type CopyReadOptions,
  type Logger,
  type Lsn,
  type TableCopy,
  type TableName,
  type TakeCopied,
} from '@moonlink/core'
import pg from 'pg'
import type { MappedColumn } from '../types/index.ts'
import type { DescribedTable } from './catalog.ts'
import type { PgSourceSettings } from './config.ts'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import { fromClause, PAGES_AND_BYTES, partitionParts, rangesOfParts, type CopyPart } from './copy-parts.ts'
import { bytesOfPage, joined, rangesLeft } from './copy-ranges.ts'
import { givingWay, lockAlike, lockTables } from './copy-locks.ts'
import { CopyThrottle } from './copy-throttle.ts'
import { CopyWorker } from './copy-worker.ts'
import { messageOf } from './errors.ts'
import { LaneBatches } from './lane-batches.ts'
import { RawConnection } from './raw-connection.ts'
import { readRowFilter } from './row-filter.ts'
import { historyServer, type FollowedHistory } from './server-history.ts'
import { atOnce, sessionOf, type Session } from './server-session.ts'
import { exportSnapshot } from './slot.ts'
import type { SourceWaits } from './source-waits.ts'
import { unlessSilent } from './unless-silent.ts'
import { unlessGone, watchSilence } from './watch-silence.ts'

export interface CopyDependencies {
  readonly connector: Connector
  readonly connection: CatalogConnection
  readonly history: FollowedHistory
  readonly settings: PgSourceSettings
  readonly waits: SourceWaits
  readonly logger: Logger
  readonly clock: Clock
}

/** How often a snapshot that has been held for long is spoken of. */
const LONG_SNAPSHOT_MS = 3_600_000

/**
 * Reads tables as one exported snapshot shows them, over several connections, each taking one range of a table's pages at a time.
 *
 * A guard connection holds ACCESS SHARE locks from before the snapshot until the end: nobody rewrites, truncates or alters a table meanwhile. Whoever
 * wants to waits for the guard, and each connection that asks for a lock later would wait behind him, for ever: so the others take theirs at once or
 * not at all, as those of a parallel pg_dump do.
 */
export class SnapshotCopy implements TableCopy {
  readonly boundaryLsn: Lsn
  private readonly tables: ReadonlyMap<string, TableOfCopy>
  private readonly guard: pg.Client
  private readonly workers: CopyWorker[]
  private readonly dependencies: CopyDependencies
  private readonly free: CopyWorker[]
  private readonly waiting: ((worker: CopyWorker | null) => void)[] = []
  private readonly signal: AbortSignal
  private readonly onAbort = () => void this.close()
  private readonly openedMs: number
  private readonly ended = new AbortController()
  private isClosed = false

  private constructor(
    boundaryLsn: Lsn,
    tables: readonly TableOfCopy[],
    guard: pg.Client,
    workers: CopyWorker[],
    dependencies: CopyDependencies,
    signal: AbortSignal,
  ) {
    this.boundaryLsn = boundaryLsn
    this.tables = new Map(tables.map((table) => [formatTableName(table.described.table), table]))
    this.guard = guard
    this.workers = workers
    this.free = [...workers]
    this.dependencies = dependencies
    this.signal = signal
    this.openedMs = dependencies.clock.nowMs()
    signal.addEventListener('abort', this.onAbort, { once: true })
    // Without its locks the tables could be rewritten under us.
    guard.once('end', this.onAbort)
    void this.watchAge()
  }

  /** Locks, takes the snapshot, and calls `describe` under the locks for what the tables are like in it. */
  static async open(
    dependencies: CopyDependencies,
    tables: readonly TableName[],
    describe: () => Promise<readonly DescribedTable[]>,
    signal: AbortSignal,
  ): Promise<SnapshotCopy> {
    const { clock, connector, connection, history, settings, waits } = dependencies
    const opened: pg.Client[] = []
    const { patienceMs } = connector
    const silence = { connection, patienceMs }
    try {
      signal.throwIfAborted()
      const guard = await connector.connect('copy guard', false)
      opened.push(guard)
      const guarding = await sessionOf(guard, patienceMs)
      const work = (pid: number) => ({ pid, what: 'the copy', tables })
      const locking = (names: readonly TableName[], withPartitions = false) =>
        unlessGone(guarding, silence, () => lockTables(guard, names, settings.copyLockTimeoutMs, withPartitions))
      await atOnce(guard, patienceMs, 'beginning a copy', () => guard.query('BEGIN'))
      await waits.during(work(guarding.pid), () => locking(tables))
      const described = await describe()
      // Not its partitions yet, for want of knowing that it has some.
      const partitioned = described.filter(({ partitions }) => partitions !== null).map(({ table }) => table)
      await locking(partitioned, true)
      const exporter = await connector.connectReplication('copy snapshot')
      opened.push(exporter)
      const slot = `${settings.slot}_copy_${guarding.pid.toString(36)}`
      const exporting = await sessionOf(exporter, patienceMs)
      // Before the snapshot is exported, which lasts until the next command.
      const timeline = await unlessSilent(exporter, patienceMs, () => history.beginCopy(historyServer(exporter)))
      const snapshot = await givingWay(connection, guarding.pid, exporting.pid, tables, () =>
        exportSnapshot(exporting, silence, slot, waits, work(exporting.pid)),
      )
      signal.throwIfAborted()
      const sessions = await openSessions(dependencies, snapshot.name, described, opened)
      const facts = await unlessGone(sessions[0], silence, () => readFacts(sessions[0].client, described, settings))
      history.copied(timeline, snapshot.lsn)
      // The workers hold the snapshot now; the slot would only keep log.
      await disconnect(exporter)
      // From here on the copy hears of it itself.
      signal.throwIfAborted()
      const throttle = settings.copyBytesPerSecond === 0 ? null : new CopyThrottle(settings.copyBytesPerSecond, clock)
      const workers = sessions.map(({ client }) => new CopyWorker(new RawConnection(client), settings, throttle))
      const copy = new SnapshotCopy(snapshot.lsn, facts, guard, workers, dependencies, signal)
      for (const [index, session] of sessions.entries()) {
        const stop = watchSilence(session, silence, () => workers[index].isWaiting)
        copy.ended.signal.addEventListener('abort', stop, { once: true })
      }
      return copy
    } catch (error) {
      await Promise.all(opened.map(disconnect))
      throw error instanceof MoonlinkError || signal.aborted ? error : copyFailed(error)
    }
  }

  table(table: TableName): CopiedTable {
    return this.known(table).facts
  }

  async read(table: TableName, take: TakeCopied, options: CopyReadOptions = {}): Promise<void> {
    const { described, facts, parts } = this.known(table)
    const stepOf = (pageBytes: number) => Math.max(1, Math.floor(this.dependencies.settings.copyRangeBytes / pageBytes))
    // Another access method may number its pages otherwise.
    const step = described.isHeap ? stepOf(facts.pageBytes) : Number.MAX_SAFE_INTEGER
    const ranges =
      parts === null
        ? rangesLeft(facts.pages, step, options.done ?? [])
        : rangesOfParts(parts, ({ pages, bytes }) => stepOf(bytesOfPage(pages, bytes, facts.pageBytes)))
    await this.readRanges(this.known(table), ranges, take, options)
  }

  async readChanged(table: TableName, ranges: readonly CopyRange[], horizon: string, take: TakeCopied): Promise<void> {
    // A row's transaction was visible to the earlier copy, or is none of those before its horizon.
    const isNew = `age(xmin) <= age('${BigInt.asUintN(32, BigInt(horizon))}'::xid)`
    await this.readRanges(this.known(table), joined(ranges), take, {}, isNew)
  }

  private async readRanges(
    table: TableOfCopy,
    ranges: CopyRange[],
    take: TakeCopied,
    options: CopyReadOptions,
    further: string | null = null,
  ): Promise<void> {
    if (this.isClosed) throw this.reasonOfEnd()
    const count = Math.min(ranges.length, this.workers.length)
    const lanes = Array.from({ length: count }, () => this.lane(table, ranges, take, options, further))
    // All of them, so that none has a batch out when this ends; the first to fail leaves the others no range.
    const failed = (await Promise.allSettled(lanes)).find((lane) => lane.status === 'rejected')
    if (failed) throw failed.reason
    if (ranges.length > 0) throw snapshotOld(table.described.table)
  }

  private known(table: TableName): TableOfCopy {
    const known = this.tables.get(formatTableName(table))
    assert(known !== undefined, 'only tables of this copy are read from it', { table: formatTableName(table) })
    return known
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.ended.abort(new Error('closed'))
    this.signal.removeEventListener('abort', this.onAbort)
    for (const wake of this.waiting.splice(0)) wake(null)
    await Promise.all([...this.workers.map((worker) => worker.close(this.reasonOfEnd())), disconnect(this.guard)])
  }

  /** Takes ranges one after the other, until none is left, or the next is for another snapshot. */
  private async lane(
    table: TableOfCopy,
    ranges: CopyRange[],
    take: TakeCopied,
    options: CopyReadOptions,
    further: string | null,
  ): Promise<void> {
    const batches = new LaneBatches(table.described, this.dependencies.settings, take)
    try {
      for (;;) {
        const worker = await this.acquire()
        try {
          if (options.mayGoOn && this.isOld) break
          const range = ranges.shift()
          if (range === undefined) break
          worker.start(copyCommand(table, range, further), batches.decoder)
          while (await worker.fill()) await batches.handOut(range)
          await batches.endRange(range, options.finished)
        } finally {
          await worker.drain()
          this.release(worker)
        }
      }
      await batches.settled()
    } catch (error) {
      ranges.length = 0
      await batches.settled().catch(() => {})
      throw error
    }
  }

  private get ageMs(): number {
    return this.dependencies.clock.nowMs() - this.openedMs
  }

  private get isOld(): boolean {
    const { copySnapshotMaxMs } = this.dependencies.settings
    return copySnapshotMaxMs > 0 && this.ageMs >= copySnapshotMaxMs
  }

  /** Says now and then that the snapshot is held. */
  private async watchAge(): Promise<void> {
    const { clock, logger } = this.dependencies
    const tables = [...this.tables.keys()]
    for (;;) {
      await clock.sleep(LONG_SNAPSHOT_MS, this.ended.signal).catch(() => undefined)
      if (this.isClosed) return
      const minutes = Math.round(this.ageMs / 60_000)
      logger.warn('a copy has held its snapshot for long: vacuum keeps rows that died since, in every table of the database', {
        minutes,
        tables,
      })
    }
  }

  private async acquire(): Promise<CopyWorker> {
    if (this.isClosed) throw this.reasonOfEnd()
    const worker = this.free.pop() ?? (await new Promise<CopyWorker | null>((resolve) => this.waiting.push(resolve)))
    if (worker === null || this.isClosed) throw this.reasonOfEnd()
    return worker
  }

  private release(worker: CopyWorker): void {
    if (worker.isBroken) {
      // Nobody waits for a worker that never comes.
      if (this.workers.every((each) => each.isBroken)) for (const wake of this.waiting.splice(0)) wake(null)
      return
    }
    const next = this.waiting.shift()
    if (next) next(worker)
    else this.free.push(worker)
  }

  private reasonOfEnd(): Error {
    if (this.signal.aborted) return this.signal.reason as Error
    return new MoonlinkError('retry', 'PG_COPY_STOPPED', 'the copy has ended: it was closed, or its connections were lost. Start it again.')
  }
}

/** A table and what the snapshot's connection says of it. */
interface TableOfCopy {
  readonly described: DescribedTable
  readonly facts: CopiedTable
  /** The publication's row filter; null where all rows are published. */
  readonly filter: string | null
  /** Of a partitioned table. */
  readonly parts: readonly CopyPart[] | null
}

/** One session for each worker, in the snapshot, with locks of its own. Their clients are in `opened` as soon as they are there. */
async function openSessions(
  { connector, settings }: CopyDependencies,
  snapshotName: string,
  described: readonly DescribedTable[],
  opened: pg.Client[],
): Promise<Session[]> {
  const { patienceMs } = connector
  const sessions: Session[] = []
  for (let index = 0; index < settings.copyWorkers; index++) {
    const client = await connector.connectBulk('copy')
    opened.push(client)
    sessions.push(await sessionOf(client, patienceMs))
    await unlessSilent(client, patienceMs, async () => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
      await client.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshotName)}`)
      await lockAlike(client, described)
    })
  }
  return sessions
}

/** Under the locks, in the snapshot. */
async function readFacts(client: pg.Client, described: readonly DescribedTable[], { origin }: PgSourceSettings): Promise<TableOfCopy[]> {
  const sql = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon, current_setting('block_size')::int AS size,
    ${PAGES_AND_BYTES}, pg_relation_filenode(wanted.oid::regclass)::text AS node
    FROM unnest($1::oid[]) WITH ORDINALITY AS wanted (oid, position) LEFT JOIN pg_class c ON c.oid = wanted.oid ORDER BY position`
  const oids = described.map(({ relationOid }) => relationOid)
  const { rows } = await client.query<{ horizon: string; size: number; pages: number; bytes: number; node: string | null }>(sql, [oids])
  const found: TableOfCopy[] = []
  for (const [index, table] of described.entries()) {
    const { horizon, size, node } = rows[index]
    const filter = await readRowFilter(client, table.table, table.filterOid)
    const parts = table.partitions === null ? null : await partitionParts(client, table)
    const { pages, bytes } = parts === null ? rows[index] : totalOf(parts)
    const pageBytes = bytesOfPage(pages, bytes, size)
    // What another snapshot's rows were once is not known of rows that may have left a filter, or of partitions that may have come and gone; nor
    // where the stream leaves out what moved rows to other pages.
    const isLasting = origin === 'any' && table.isHeap && node !== null && parts === null && filter === null
    const storage = isLasting ? `${table.relationOid}/${node}` : null
    found.push({ described: table, facts: { estimatedRows: table.estimatedRows, pages, pageBytes, storage, horizon }, filter, parts })
  }
  return found
}

function totalOf(parts: readonly CopyPart[]): { pages: number; bytes: number } {
  const sum = (of: (part: CopyPart) => number) => parts.reduce((total, part) => total + of(part), 0)
  return { pages: sum(({ pages }) => pages), bytes: sum(({ bytes }) => bytes) }
}

function copyCommand({ described, filter, parts }: TableOfCopy, range: CopyRange, further: string | null): string {
  const columns = described.columns.map(copyExpression).join(', ')
  return `COPY (SELECT ${columns} ${fromClause(described, parts, range, [further, filter === null ? null : `(${filter})`])}) TO STDOUT (FORMAT binary)`
}

/** `format` prints a value by its type's output function, as a stream does; a cast to text may print another text. */
function copyExpression({ name, copyForm }: MappedColumn): string {
  const column = pg.escapeIdentifier(name)
  return copyForm === 'binary' ? column : `CASE WHEN ${column} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', ${column}) END`
}

function snapshotOld(table: TableName): MoonlinkError {
  const message = `the copy of ${formatTableName(table)} goes on in another snapshot: this one has been held for as long as it may.`
  return new MoonlinkError('retry', 'COPY_SNAPSHOT_OLD', message)
}

function copyFailed(error: unknown): MoonlinkError {
  return new MoonlinkError('retry', 'PG_COPY_FAILED', `the copy could not start or go on: ${messageOf(error)}. Start it again.`, {
    cause: error,
  })
}
