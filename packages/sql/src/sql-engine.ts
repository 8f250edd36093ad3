import {
  isMoonlinkError,
  MoonlinkError,
  systemClock,
  type Clock,
  type LocalFileSets,
  type TextCopies,
  type Logger,
  type Lsn,
} from '@moonlink/core'
import type { DuckDBInstance, DuckDBResult } from '@duckdb/node-api'
import type { ReadLease, ReadLeaseSource } from '@moonlink/union-read'
import { FileClusters } from './file-clusters.ts'
import { FileShapes } from './file-shapes.ts'
import { Gate } from './gate.ts'
import { NativeCache } from './native-cache.ts'
import { openDuckdb, OWN_DATABASES } from './open-duckdb.ts'
import { PlanViews } from './plan-views.ts'
import { QueryResult } from './query-result.ts'
import { ReaderPool } from './reader-pool.ts'
import type { Reader, Scene } from './reader.ts'
import { resolveTable } from './resolve-table.ts'
import { RunningStatement } from './running-statement.ts'
import { sqlError } from './sql-error.ts'
import { quoteText } from './sql-text.ts'
import { StatementParser, type Statement } from './statement.ts'
import { Holds } from './holds.ts'
import type { ViewSql } from './view-sql.ts'
import { enoughOf } from './wanted-rows.ts'

export interface SqlEngineOptions {
  readonly leases: ReadLeaseSource
  readonly files: LocalFileSets
  /**
   * Files of tables with variants, which DuckDB reads without telling a JSON null from none; needed for such tables alone. Where they lie has to be among `allowedDirectories`.
   */
  readonly textCopies?: TextCopies
  /** What DuckDB may hold in memory, its copies of memory segments included. */
  readonly memoryLimitBytes: number
  /** Threads of one query. */
  readonly threads: number
  /** Where DuckDB spills to; made if missing. */
  readonly tempDirectory: string
  /** What it may spill, all queries together. Default: nine tenths of the disk's room, as DuckDB has it. */
  readonly spillLimitBytes?: number
  /** The only directories files are read from: the warehouse's, where it is local, and the cache's. Absolute. */
  readonly allowedDirectories: readonly string[]
  /** Queries at once; further ones wait. Default 16. */
  readonly maxQueries?: number
  /** DuckDB calls at once, each on a thread of libuv's pool, which has four by default. Default 3. */
  readonly maxRunning?: number
  /** Copies of memory segments and prepared statements that no query used for this long are dropped. Default 60,000. */
  readonly keepUnusedMs?: number
  /**
   * Files with dead rows are read beside a live mask where they have at least this many rows. Default 50,000: below, making the mask
   * takes longer than it saves.
   */
  readonly minMaskedRows?: number
  /** From this many dead rows of a table on, statements that look at few of its rows find the dead ones in bitmaps. Default 20,000. */
  readonly minDeadBits?: number
  readonly clock?: Clock
  readonly logger?: Logger
}

export interface SqlRequest {
  readonly sql: string
  /** Null: everything applied by now. */
  readonly lsn: Lsn | null
  /** How long to wait for an LSN that is not applied yet, and for room in the file cache that other queries hold, in ms each. Execution has no limit but `signal`. */
  readonly timeoutMs: number
  /** Rows beyond this are not computed; `truncated` tells. Default: all. */
  readonly maxRows?: number
  readonly signal?: AbortSignal
}

/** The share of DuckDB's memory that live masks may take. */
const MASKS_SHARE = 0.25

/** SQL that only reads, over union reads, in one embedded DuckDB. */
export class SqlEngine {
  private readonly options: SqlEngineOptions
  private readonly clock: Clock
  private readonly instance: DuckDBInstance
  private readonly readers: ReaderPool
  private readonly parser: StatementParser
  private readonly shapes: FileShapes
  private readonly clusters: FileClusters
  private readonly cache: NativeCache
  private readonly gate: Gate
  private readonly planViews: PlanViews
  private readonly keepUnusedMs: number
  private readonly active = new Set<Holds>()
  private closed = false

  private constructor(
    options: SqlEngineOptions,
    instance: DuckDBInstance,
    parser: StatementParser,
    shapes: FileShapes,
    clusters: FileClusters,
  ) {
    this.options = options
    this.clock = options.clock ?? systemClock
    this.instance = instance
    this.parser = parser
    this.shapes = shapes
    this.clusters = clusters
    this.readers = new ReaderPool(instance, options.maxQueries ?? 16)
    this.keepUnusedMs = options.keepUnusedMs ?? 60_000
    this.cache = new NativeCache(instance, this.clock, {
      keepUnusedMs: this.keepUnusedMs,
      maskLimitBytes: options.memoryLimitBytes * MASKS_SHARE,
      threads: options.threads,
      minBitFacts: options.minDeadBits ?? 20_000,
    })
    this.gate = new Gate(options.maxRunning ?? 3)
    this.planViews = new PlanViews({
      files: options.files,
      textCopies: options.textCopies ?? null,
      parser,
      shapes,
      clusters,
      cache: this.cache,
      staging: { instance, gate: this.gate, clock: this.clock },
      minMaskedRows: options.minMaskedRows ?? 50_000,
    })
  }

  /** Starts the DuckDB instance. A process should have one: two that open the same file lose rows silently. */
  static async create(options: SqlEngineOptions): Promise<SqlEngine> {
    try {
      const instance = await openDuckdb(options)
      const parser = new StatementParser(await instance.connect())
      const shapes = new FileShapes(await instance.connect())
      const clusters = new FileClusters(await instance.connect())
      return new SqlEngine(options, instance, parser, shapes, clusters)
    } catch (error) {
      throw sqlError(error)
    }
  }

  /**
   * Runs one statement over one consistent cut of the tables it names. Resolves when the first rows are there.
   *
   * Throws `invalid`: `SQL_ERROR` (DuckDB's message), `SQL_NOT_ALLOWED` (it does more than read), `TABLE_UNKNOWN`,
   * `TABLE_AMBIGUOUS`, `SCHEMA_RESERVED`, `SQL_OUT_OF_MEMORY`, `SQL_SPILL_FULL`; what `ReadLeaseSource.acquire` and `LocalFileSets.pinAll` throw; the signal's reason.
   */
  async query(request: SqlRequest): Promise<QueryResult> {
    if (this.closed) throw closedError()
    request.signal?.throwIfAborted()
    const holds = new Holds()
    this.active.add(holds)
    holds.add(() => void this.active.delete(holds))
    try {
      const statement = await this.parser.parse(request.sql)
      if (statement.kind === 'show-tables')
        return await this.run(tableListSql(this.options.leases.readableTables()), null, new Map(), request, holds)
      const { lsn, views } = await this.plan(statement, request, holds)
      return await this.run(statement.sql, lsn, views, request, holds)
    } catch (error) {
      await holds.release()
      if (request.signal?.aborted === true && !isMoonlinkError(error)) throw request.signal.reason
      throw sqlError(error)
    }
  }

  /** Drops what is kept of tables whose incarnation ended, once no query uses it. */
  async releaseIncarnation(incarnation: string): Promise<void> {
    await this.cache.release(incarnation)
  }

  /** Drops what no query used for `keepUnusedMs`. Call it now and then, so that memory comes back when queries stop. */
  async housekeep(): Promise<void> {
    this.readers.sweep(this.clock.nowMs() - this.keepUnusedMs)
    await this.cache.sweep()
  }

  /** Ends running queries (`retry`/`SQL_CLOSED`), then DuckDB. */
  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    this.readers.close(closedError())
    await Promise.allSettled([...this.active].map((holds) => holds.release()))
    await this.cache.close()
    this.parser.close()
    this.shapes.close()
    this.clusters.close()
    this.instance.closeSync()
  }

  /** Takes the lease and brings files and native tables up to it. */
  private async plan(
    statement: Statement,
    request: SqlRequest,
    holds: Holds,
  ): Promise<{ lsn: Lsn | null; views: ReadonlyMap<Place, ViewSql> }> {
    const views = new Map<Place, ViewSql>()
    if (statement.tables.length === 0) return { lsn: null, views }
    const readable = this.options.leases.readableTables()
    const places = statement.tables.map((place) => ({ place, table: resolveTable(place, readable) }))
    rejectReserved(places)
    rejectClashes(places)
    const tables = [...new Set(places.map(({ table }) => table))]
    const lease: ReadLease = await this.options.leases.acquire({ tables, lsn: request.lsn, timeoutMs: request.timeoutMs })
    holds.add(() => lease.release())
    request.signal?.throwIfAborted()
    const plans = tables.map((table) => {
      const whole = lease.tables.get(table)!
      return statement.wantedRows === null ? whole : enoughOf(whole, statement.wantedRows)
    })
    const pinning = { waitMs: request.timeoutMs, ...(request.signal ? { signal: request.signal } : {}) }
    const made = await this.planViews.of(plans, statement, pinning, holds)
    for (const { place, table } of places) views.set(place, made[tables.indexOf(table)])
    return { lsn: lease.lsn, views }
  }

  private async run(
    sql: string,
    lsn: Lsn | null,
    views: ReadonlyMap<Place, ViewSql>,
    request: SqlRequest,
    holds: Holds,
  ): Promise<QueryResult> {
    const reader = await this.readers.take(request.signal)
    const running = new RunningStatement(reader, this.gate, this.clock, request.signal)
    holds.add(() => this.finish(running, reader))
    const result = await running.execute(sql, sceneOf(views))
    const source = { fetch: () => running.fetch(), release: () => holds.release() }
    return new QueryResult(lsn, columnsOf(result), source, request.maxRows ?? Number.POSITIVE_INFINITY)
  }

  private async finish(running: RunningStatement, reader: Reader): Promise<void> {
    try {
      await running.stop()
      this.readers.give(reader)
    } catch (error) {
      this.options.logger?.warn('a query could not be ended, its connection is closed', { error })
      this.readers.discard(reader)
    }
    await this.cache.sweepIfDue()
  }
}

type Place = Statement['tables'][number]

function sceneOf(views: ReadonlyMap<Place, ViewSql>): Scene {
  const distinct = [...new Set(views.values())]
  return {
    views: [...views].map(([place, { text }]) => ({ place, text })),
    variables: new Map(distinct.flatMap((view) => [...view.variables])),
    growing: distinct.flatMap((view) => view.growing),
    fileCount: distinct.reduce((sum, view) => sum + view.fileCount, 0),
    readsFiles: distinct.some((view) => view.readsFiles),
  }
}

function columnsOf(result: DuckDBResult): { name: string; type: string }[] {
  return result.columnNames().map((name, index) => ({ name, type: result.columnType(index).toString() }))
}

/** DuckDB could not tell such a schema from the database of that name. */
function rejectReserved(places: readonly { readonly place: Place }[]): void {
  for (const { schema, name } of places.map(({ place }) => place)) {
    if (schema === null || !OWN_DATABASES.has(schema.toLowerCase())) continue
    throw new MoonlinkError(
      'invalid',
      'SCHEMA_RESERVED',
      `SQL takes "${schema}" for a database of its own. Write ${name} without its schema.`,
    )
  }
}

/** DuckDB's names do not differ by case; Postgres' may. */
function rejectClashes(places: readonly { readonly place: Place; readonly table: string }[]): void {
  const seen = new Map<string, string>()
  for (const { place, table } of places) {
    const key = JSON.stringify([place.schema, place.name]).toLowerCase()
    const other = seen.get(key)
    seen.set(key, table)
    if (other === undefined || other === table) continue
    throw new MoonlinkError('invalid', 'TABLE_AMBIGUOUS', `${other} and ${table} differ only by case. Read them in separate statements.`)
  }
}

function tableListSql(tables: readonly string[]): string {
  if (tables.length === 0) return `SELECT NULL::VARCHAR AS "table" WHERE false`
  return `SELECT * FROM (VALUES ${tables.map((table) => `(${quoteText(table)})`).join(', ')}) t("table") ORDER BY 1`
}

function closedError(): MoonlinkError {
  return new MoonlinkError('retry', 'SQL_CLOSED', 'SQL is shutting down.')
}
