import { assert, formatTableName, MoonlinkError, type Logger, type Lsn, type TableCopy, type TableName } from '@moonlink/core'
import pg from 'pg'
import type { MappedColumn } from '../types/index.ts'
import { quoted, type DescribedTable } from './catalog.ts'
import type { PgSourceSettings } from './config.ts'
import { disconnect, explained, type CatalogConnection, type Connector } from './connect.ts'
import { CopyWorker } from './copy-worker.ts'
import { messageOf, sqlState } from './errors.ts'
import { LaneBatches, type TakeRows } from './lane-batches.ts'
import { RawConnection } from './raw-connection.ts'
import { exportSnapshot } from './slot.ts'

export interface CopyDependencies {
  readonly connector: Connector
  readonly connection: CatalogConnection
  readonly settings: PgSourceSettings
  readonly logger: Logger
}

/**
 * Reads tables as one exported snapshot shows them, over several connections, each taking one range of a table's pages at a time.
 *
 * A guard connection holds ACCESS SHARE locks from before the snapshot until the end: nobody rewrites, truncates or alters a table meanwhile.
 */
export class SnapshotCopy implements TableCopy {
  readonly boundaryLsn: Lsn
  private readonly tables: ReadonlyMap<string, DescribedTable>
  private readonly guard: pg.Client
  private readonly workers: CopyWorker[]
  private readonly settings: PgSourceSettings
  private readonly free: CopyWorker[]
  private readonly waiting: ((worker: CopyWorker | null) => void)[] = []
  private readonly signal: AbortSignal
  private readonly onAbort = () => void this.close()
  private isClosed = false

  private constructor(
    boundaryLsn: Lsn,
    tables: readonly DescribedTable[],
    guard: pg.Client,
    workers: CopyWorker[],
    settings: PgSourceSettings,
    signal: AbortSignal,
  ) {
    this.boundaryLsn = boundaryLsn
    this.tables = new Map(tables.map((described) => [formatTableName(described.table), described]))
    this.guard = guard
    this.workers = workers
    this.free = [...workers]
    this.settings = settings
    this.signal = signal
    signal.addEventListener('abort', this.onAbort, { once: true })
    // Without its locks the tables could be rewritten under us.
    guard.once('end', this.onAbort)
  }

  /** Locks, takes the snapshot, and calls `describe` under the locks for what the tables are like in it. */
  static async open(
    dependencies: CopyDependencies,
    tables: readonly TableName[],
    describe: () => Promise<readonly DescribedTable[]>,
    signal: AbortSignal,
  ): Promise<SnapshotCopy> {
    const { connector, connection, settings, logger } = dependencies
    const opened: pg.Client[] = []
    try {
      signal.throwIfAborted()
      const guard = await connector.connect('copy guard', false)
      opened.push(guard)
      await lock(guard, tables)
      const described = await describe()
      const exporter = await connector.connectReplication('copy snapshot')
      opened.push(exporter)
      const slot = `${settings.slot}_copy_${(await processId(guard)).toString(36)}`
      const snapshot = await exportSnapshot(exporter, connection, slot, logger)
      signal.throwIfAborted()
      const clients: pg.Client[] = []
      for (let index = 0; index < settings.copyWorkers; index++) {
        const client = await connector.connectBulk('copy')
        opened.push(client)
        clients.push(client)
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
        await client.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot.name)}`)
      }
      // The workers hold the snapshot now; the slot would only keep log.
      await disconnect(exporter)
      const workers = clients.map((client) => new CopyWorker(new RawConnection(client), settings))
      return new SnapshotCopy(snapshot.lsn, described, guard, workers, settings, signal)
    } catch (error) {
      await Promise.all(opened.map(disconnect))
      throw error instanceof MoonlinkError || signal.aborted ? error : copyFailed(error)
    }
  }

  async read(table: TableName, take: TakeRows): Promise<void> {
    const described = this.tables.get(formatTableName(table))
    assert(described !== undefined, 'only tables of this copy are read from it', { table: formatTableName(table) })
    const ranges = await this.ranges(described)
    const lanes = Array.from({ length: Math.min(ranges.length, this.workers.length) }, () => this.lane(described, ranges, take))
    // All of them, so that none has a batch out when this ends; the first to fail leaves the others no range.
    const failed = (await Promise.allSettled(lanes)).find((lane) => lane.status === 'rejected')
    if (failed) throw failed.reason
  }

  estimatedRows(table: TableName): number | null {
    return this.tables.get(formatTableName(table))?.estimatedRows ?? null
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.signal.removeEventListener('abort', this.onAbort)
    for (const wake of this.waiting.splice(0)) wake(null)
    await Promise.all([...this.workers.map((worker) => worker.close(this.reasonOfEnd())), disconnect(this.guard)])
  }

  /** Takes ranges one after the other, until none is left. */
  private async lane(table: DescribedTable, ranges: string[], take: TakeRows): Promise<void> {
    const batches = new LaneBatches(table, this.settings, take)
    try {
      for (;;) {
        const worker = await this.acquire()
        try {
          const range = ranges.shift()
          if (range === undefined) break
          worker.start(copyCommand(table, range), batches.decoder)
          while (await worker.fill()) await batches.handOut()
        } finally {
          await worker.drain()
          this.release(worker)
        }
      }
      await batches.handOut()
      await batches.settled()
    } catch (error) {
      ranges.length = 0
      await batches.settled().catch(() => {})
      throw error
    }
  }

  /** WHERE clauses that together cover the table. The last has no end, for pages that came since. */
  private async ranges(table: DescribedTable): Promise<string[]> {
    if (this.isClosed) throw this.reasonOfEnd()
    if (!table.isHeap) return ['']
    const sql = `SELECT (pg_relation_size($1::oid) / current_setting('block_size')::int8)::float8 AS pages, current_setting('block_size')::int AS size`
    const { rows } = await this.guard.query<{ pages: number; size: number }>(sql, [table.relationOid]).catch((error: unknown) => {
      throw this.isClosed ? this.reasonOfEnd() : copyFailed(error)
    })
    const { pages, size } = rows[0]
    const step = Math.max(1, Math.floor(this.settings.copyRangeBytes / size))
    const count = Math.max(1, Math.ceil(pages / step))
    if (count === 1) return ['']
    return Array.from({ length: count }, (_, index) => {
      const from = `ctid >= '(${index * step},0)'::tid`
      return index === count - 1 ? ` WHERE ${from}` : ` WHERE ${from} AND ctid < '(${(index + 1) * step},0)'::tid`
    })
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

function copyCommand(table: DescribedTable, range: string): string {
  return `COPY (SELECT ${table.columns.map(copyExpression).join(', ')} FROM ONLY ${quoted(table.table)}${range}) TO STDOUT (FORMAT binary)`
}

/** `format` prints a value by its type's output function, as a stream does; a cast to text may print another text. */
function copyExpression({ name, copyForm }: MappedColumn): string {
  const column = pg.escapeIdentifier(name)
  return copyForm === 'binary' ? column : `CASE WHEN ${column} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', ${column}) END`
}

async function lock(guard: pg.Client, tables: readonly TableName[]): Promise<void> {
  await guard.query('BEGIN')
  if (tables.length === 0) return
  const list = tables.map((table) => `ONLY ${quoted(table)}`).join(', ')
  await explained(
    'locking the tables to copy',
    () => guard.query(`LOCK TABLE ${list} IN ACCESS SHARE MODE`),
    (error) => {
      if (sqlState(error) === '42501')
        return new MoonlinkError('invalid', 'PG_SELECT_PRIVILEGE', `${messageOf(error)}. GRANT SELECT on it to the user.`, { cause: error })
      if (sqlState(error) === '42P01')
        return new MoonlinkError('invalid', 'TABLE_UNKNOWN', `${messageOf(error)}: it was dropped or renamed meanwhile.`, { cause: error })
      return null
    },
  )
}

async function processId(client: pg.Client): Promise<number> {
  return (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0].pid
}

function copyFailed(error: unknown): MoonlinkError {
  return new MoonlinkError('retry', 'PG_COPY_FAILED', `the copy could not start or go on: ${messageOf(error)}. Start it again.`, {
    cause: error,
  })
}
