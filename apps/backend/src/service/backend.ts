import { formatTableName, maxLsn, MoonlinkError, type Clock, type Logger, type Lsn, type Random } from '@moonlink/core'
import type { Engine, Mirror } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import type { FlushReport, ListedTable, ReadyReport, StatusReport } from '../http/schemas.ts'
import { toMoonlinkError } from '../http/errors.ts'
import { Acknowledger } from './acknowledger.ts'
import { copyTables } from './initial-copy.ts'
import { isTableError, openMirror, type Coverage } from './mirrors.ts'
import type { Operations, QueryRequest, RunningQuery } from './operations.ts'
import type { ListedSourceTable, QueryEngine, SourceHandle, Warehouse } from './parts.ts'
import { StateFile, type BackendState } from './state-file.ts'
import { statusReport } from './status.ts'
import { StreamLoop } from './stream-loop.ts'
import { chooseTables, mirrorable } from './table-set.ts'

/** What a backend is composed of. It closes none of these; whoever composed it does. */
export interface BackendParts {
  readonly config: Config
  readonly source: SourceHandle
  readonly warehouse: Warehouse
  readonly engine: Engine
  readonly sql: QueryEngine
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

const tickMs = 100
const acknowledgeMs = 1000
const copyPollMs = 50
const nudgeFirstMs = 30
const nudgeMs = 500

/** A running mirror of one source: opens the tables, copies what is new, follows the stream, and does what `Operations` says. */
export class MoonlinkBackend implements Operations {
  readonly #parts: BackendParts
  readonly #stateFile: StateFile
  readonly #mirrored = new Map<string, ListedSourceTable>()
  readonly #unopened = new Map<string, string>()
  readonly #estimates = new Map<string, number | null>()
  readonly #ended = Promise.withResolvers<Error | null>()
  readonly #copyAbort = new AbortController()
  readonly #copies = new Set<Promise<void>>()
  readonly #acknowledger: Acknowledger
  readonly #loop: StreamLoop
  readonly #coverage: Coverage
  #added: readonly string[]
  #dropped: readonly string[]
  #timer: NodeJS.Timeout | null = null
  #lastAcknowledgeMs = 0
  #caughtUpAtMs: number
  #closing = false
  #changing: Promise<unknown> = Promise.resolve()

  private constructor(parts: BackendParts, stateFile: StateFile, state: BackendState | null, slotLsn: Lsn) {
    const { clock, engine, logger, random, source } = parts
    this.#parts = parts
    this.#stateFile = stateFile
    this.#added = state?.added ?? []
    this.#dropped = state?.dropped ?? []
    this.#caughtUpAtMs = clock.nowMs()
    const known = state !== null && slotLsn <= state.acknowledgedLsn
    this.#coverage = { slotLsn, covered: new Set(known ? state.mirrored : []) }
    this.#loop = new StreamLoop({
      source,
      engine,
      clock,
      random,
      logger,
      firstLsn: slotLsn,
      onFailure: (error) => this.#ended.resolve(error),
    })
    this.#acknowledger = new Acknowledger(engine, maxLsn(slotLsn, state?.acknowledgedLsn ?? 0n), (lsn) => this.#remember(lsn))
  }

  /** Opens every table and begins to mirror; copies go on after it resolves. */
  static async start(parts: BackendParts): Promise<MoonlinkBackend> {
    const { config, engine, source, warehouse } = parts
    const stateFile = new StateFile(config.stateDir)
    const state = stateOf(stateFile.read(), source)
    await warehouse.checkWritable()
    const wanted = {
      configured: config.source.tables,
      added: state?.added ?? [],
      dropped: state?.dropped ?? [],
      known: state?.mirrored ?? [],
    }
    const { chosen, refused } = chooseTables(await source.listTables(), wanted)
    const slotLsn = await source.prepare(chosen.map(({ table }) => table))
    const backend = new MoonlinkBackend(parts, stateFile, state, slotLsn)
    for (const [name, reason] of refused) backend.#unopened.set(name, reason)
    engine.requireCatchUp(await source.currentLsn())
    for (const table of chosen) await backend.#open(table)
    await backend.#begin()
    return backend
  }

  /** Resolves when the backend wants to end: null where asked to, the error where it can't go on. Then `close` it. */
  get ended(): Promise<Error | null> {
    return this.#ended.promise
  }

  requestStop(): void {
    this.#ended.resolve(null)
  }

  async status(): Promise<StatusReport> {
    const { clock, engine, source, warehouse } = this.#parts
    const lastKnown = { sourceLsn: engine.sourceLsn, confirmedFlushLsn: this.#acknowledger.acknowledgedLsn, retainedBytes: 0 }
    const position = await source.position().catch(() => lastKnown)
    return statusReport({
      identity: source.identity,
      warehouse: warehouse.uri,
      trouble: this.#loop.trouble,
      position: { ...position, sourceLsn: maxLsn(position.sourceLsn, engine.sourceLsn) },
      behindMs: this.#isCaughtUp() ? 0 : Math.max(0, clock.nowMs() - this.#caughtUpAtMs),
      mirrors: engine.status(),
      estimates: this.#estimates,
      unopened: this.#unopened,
    })
  }

  ready(): ReadyReport {
    const copying = this.#parts.engine.status().filter((mirror) => mirror.state === 'copying')
    const waitingFor = [
      ...(this.#loop.trouble === null ? [] : [`the change stream: ${this.#loop.trouble}`]),
      ...copying.map((mirror) => `the copy of ${formatTableName(mirror.table)}`),
    ]
    return { ready: waitingFor.length === 0, waitingFor }
  }

  async query(request: QueryRequest): Promise<RunningQuery> {
    this.#refuseWhileClosing()
    return this.#nudging(this.#parts.sql.query(request.sql, request.atLsn, request.timeoutMs))
  }

  async wait(request: { readonly lsn: Lsn | null; readonly iceberg: boolean; readonly timeoutMs: number }): Promise<Lsn> {
    this.#refuseWhileClosing()
    const { clock, engine, source } = this.#parts
    const deadlineMs = clock.nowMs() + request.timeoutMs
    const lsn = request.lsn ?? (await source.currentLsn())
    const leftMs = () => Math.max(0, deadlineMs - clock.nowMs())
    await this.#waitCopied(deadlineMs)
    await this.#nudging(request.iceberg ? engine.waitCommitted(lsn, leftMs()) : engine.waitApplied(lsn, leftMs()))
    return lsn
  }

  async flush(tables: readonly string[] | null): Promise<FlushReport> {
    this.#refuseWhileClosing()
    const { engine } = this.#parts
    await engine.flush(tables ?? undefined)
    const report = (await this.status()).tables.filter((table) => tables === null || tables.includes(table.name))
    return { tables: report.map(({ name, committedLsn, snapshotId }) => ({ name, committedLsn, snapshotId })) }
  }

  async listTables(): Promise<readonly ListedTable[]> {
    const { engine, source } = this.#parts
    const mirrors = new Map(engine.status().map((mirror) => [formatTableName(mirror.table), mirror]))
    const listed = await source.listTables()
    return listed.map(({ table, refusal }) => {
      const name = formatTableName(table)
      const mirror = mirrors.get(name)
      if (mirror !== undefined) return { name, mirrored: true, state: mirror.state, reason: mirror.reason }
      const unopened = this.#unopened.get(name)
      return {
        name,
        mirrored: unopened !== undefined,
        state: unopened === undefined ? null : 'failed',
        reason: unopened ?? refusal?.reason ?? null,
      }
    })
  }

  async addTables(tables: readonly string[]): Promise<void> {
    await this.#alone(async () => {
      const listed = await this.#parts.source.listTables()
      const chosen = [...new Set(tables)].map((name) => mirrorable(listed, name))
      const names = chosen.map(({ table }) => formatTableName(table))
      const twice = names.find((name) => this.#mirrored.has(name))
      if (twice !== undefined) throw new MoonlinkError('conflict', 'TABLE_EXISTS', `${twice} is mirrored already.`)
      await this.#loop.pausedFor(() => this.#addAll(chosen))
      this.#added = [...new Set([...this.#added, ...names])]
      this.#dropped = this.#dropped.filter((name) => !names.includes(name))
      this.#remember(this.#acknowledger.acknowledgedLsn)
      void this.#copy(names, false)
    })
  }

  async dropTable(table: string, purge: boolean): Promise<void> {
    await this.#alone(async () => {
      const { engine, warehouse } = this.#parts
      const dropped = this.#mirrored.get(table)
      if (dropped === undefined && !(purge && this.#dropped.includes(table))) {
        throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `${table} is not mirrored; moonlink tables list shows what is.`, {
          context: { table },
        })
      }
      if (dropped !== undefined) {
        await this.#loop.pausedFor(async () => {
          const mirror = engine.mirror(table)
          if (!purge && mirror?.currentPhase === 'streaming' && !mirror.hasOpenTransaction) await mirror.flush()
          await engine.removeMirror(table)
          this.#mirrored.delete(table)
          this.#unopened.delete(table)
          await this.#publish()
        })
        this.#added = this.#added.filter((name) => name !== table)
        this.#dropped = [...new Set([...this.#dropped, table])]
        this.#remember(this.#acknowledger.acknowledgedLsn)
      }
      const [schema, name] = table.split('.') as [string, string]
      if (purge) await warehouse.catalog.drop({ namespace: schema, name }, true)
    })
  }

  async uninstall(): Promise<void> {
    await this.#alone(async () => {
      await this.#end()
      await this.#parts.source.uninstall()
    })
    this.requestStop()
  }

  /** Stops reading, commits everything that was read, tells the source, and lets go. Throws where a commit failed. */
  async close(): Promise<void> {
    await this.#alone(() => this.#end())
    await this.#parts.engine.close()
  }

  /** All or none. */
  async #addAll(chosen: readonly ListedSourceTable[]): Promise<void> {
    const names = chosen.map(({ table }) => formatTableName(table))
    try {
      await this.#publish(chosen)
      for (const table of chosen) await this.#open(table, true)
    } catch (error) {
      for (const name of names) {
        await this.#parts.engine.removeMirror(name)
        this.#mirrored.delete(name)
      }
      await this.#publish().catch(() => undefined)
      throw error
    }
    for (const name of names) this.#unopened.delete(name)
  }

  async #open(listed: ListedSourceTable, again = false): Promise<void> {
    const { engine, logger, source, warehouse } = this.#parts
    const name = formatTableName(listed.table)
    try {
      await openMirror(listed, { engine, logger, source, warehouse, coverage: this.#coverage, again })
    } catch (error) {
      if (again || !isTableError(error)) throw error
      this.#unopened.set(name, `${toMoonlinkError(error).code} ${toMoonlinkError(error).message}`)
      logger.error('the table could not be opened', { table: name, error: String(error) })
    }
    this.#mirrored.set(name, listed)
  }

  /** Copies what is new and follows the stream. Where nothing streams yet, the stream waits for the copy: nobody needs it sooner. */
  async #begin(): Promise<void> {
    const { engine } = this.#parts
    await this.#publish()
    this.#remember(this.#acknowledger.acknowledgedLsn)
    const states = engine.status()
    const copying = states.filter((mirror) => mirror.state === 'copying').map((mirror) => formatTableName(mirror.table))
    const copied = this.#copy(copying, true)
    if (states.some((mirror) => mirror.state === 'streaming') || copying.length === 0) this.#loop.start()
    else void copied.then(() => this.#closing || this.#loop.start())
    this.#timer = setInterval(() => void this.#tick(), tickMs)
  }

  #copy(names: readonly string[], failing: boolean): Promise<void> {
    if (names.length === 0) return Promise.resolve()
    const { clock, config, engine, logger, source } = this.#parts
    const tables = names.map((name) => ({ mirror: engine.mirror(name)!, from: sourceTable(this.#mirrored.get(name)!) }))
    const options = {
      source,
      clock,
      logger,
      parallelTables: config.copy.parallelTables,
      onEstimate: (table: string, rows: number | null) => this.#estimates.set(table, rows),
      reset: (table: string) => this.#resetCopy(table),
    }
    const copy = copyTables(tables, options, this.#copyAbort.signal)
      .catch(async (error: Error) => {
        if (failing) return this.#ended.resolve(error)
        for (const name of names) await engine.mirror(name)?.pause(toMoonlinkError(error).code, error.message)
      })
      .catch((error: unknown) => logger.error('a failed copy could not be recorded', { error: String(error) }))
      .finally(() => this.#copies.delete(copy))
    this.#copies.add(copy)
    return copy
  }

  async #resetCopy(name: string): Promise<Mirror> {
    await this.#parts.engine.removeMirror(name)
    await this.#open(this.#mirrored.get(name)!)
    return this.#parts.engine.mirror(name)!
  }

  /** Publishes what takes changes, and `more`. */
  async #publish(more: readonly ListedSourceTable[] = []): Promise<void> {
    const live = this.#live().map((name) => this.#mirrored.get(name)!)
    await this.#parts.source.prepare([...live, ...more].map(({ table }) => table))
  }

  /** Names of the tables that take changes, now or once they are copied. */
  #live(): string[] {
    const { engine } = this.#parts
    return [...this.#mirrored.keys()].filter((name) => ['copying', 'streaming'].includes(engine.mirror(name)?.currentPhase ?? ''))
  }

  async #tick(): Promise<void> {
    const { clock, engine, logger } = this.#parts
    try {
      await engine.tick()
      const now = clock.nowMs()
      if (this.#isCaughtUp()) this.#caughtUpAtMs = now
      if (now - this.#lastAcknowledgeMs < acknowledgeMs) return
      this.#lastAcknowledgeMs = now
      this.#acknowledger.acknowledge(this.#loop)
    } catch (error) {
      logger.error('housekeeping failed', { error: String(error) })
    }
  }

  #isCaughtUp(): boolean {
    return this.#loop.trouble === null && this.#parts.engine.appliedLsn >= maxLsn(this.#loop.sourceLsn, this.#parts.engine.sourceLsn)
  }

  /** While the work waits, asks the source now and then where it is: an idle one says so only when asked. */
  async #nudging<T>(work: Promise<T>): Promise<T> {
    const { clock, source } = this.#parts
    const done = new AbortController()
    const nudge = async () => {
      for (let pauseMs = nudgeFirstMs; !done.signal.aborted; pauseMs = nudgeMs) {
        await clock.sleep(pauseMs, done.signal).catch(() => undefined)
        if (!done.signal.aborted) await source.currentLsn().catch(() => undefined)
      }
    }
    void nudge()
    try {
      return await work
    } finally {
      done.abort(new Error('done'))
    }
  }

  async #waitCopied(deadlineMs: number): Promise<void> {
    const { clock, engine } = this.#parts
    for (;;) {
      const copying = engine.status().find((mirror) => mirror.state === 'copying')
      if (copying === undefined) return
      if (clock.nowMs() >= deadlineMs) {
        throw new MoonlinkError(
          'retry',
          'TIMED_OUT',
          `${formatTableName(copying.table)} is still being copied; wait longer with --timeout.`,
        )
      }
      await clock.sleep(copyPollMs)
    }
  }

  async #end(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    const { engine } = this.#parts
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#copyAbort.abort(new Error('stopped'))
    await this.#loop.stop()
    await Promise.allSettled(this.#copies)
    const ready = [...this.#mirrored.keys()].filter((name) => {
      const mirror = engine.mirror(name)
      return mirror?.currentPhase === 'streaming' && !mirror.hasOpenTransaction
    })
    try {
      await engine.flush(ready)
    } finally {
      this.#acknowledger.acknowledge(this.#loop)
      await this.#loop.close()
    }
  }

  /** One change to the set of tables at a time. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#changing
    const mine = before.then(work, work)
    this.#changing = mine.catch(() => undefined)
    return mine
  }

  #remember(acknowledgedLsn: Lsn): void {
    const { systemIdentifier, database, slot } = this.#parts.source.identity
    this.#stateFile.write({
      source: { systemIdentifier, database, slot },
      acknowledgedLsn,
      mirrored: this.#live(),
      added: this.#added,
      dropped: this.#dropped,
    })
  }

  #refuseWhileClosing(): void {
    if (this.#closing) throw new MoonlinkError('retry', 'STOPPING', 'the backend is stopping; start it again with moonlink start.')
  }
}

/** The state of the last run, where that had the same source. */
function stateOf(state: BackendState | null, source: SourceHandle): BackendState | null {
  const { systemIdentifier, database, slot } = source.identity
  const same = state?.source.systemIdentifier === systemIdentifier && state.source.database === database && state.source.slot === slot
  return same ? state : null
}

function sourceTable(listed: ListedSourceTable) {
  return { table: listed.table, schema: listed.schema ?? { fields: [], identifierFieldIds: [] } }
}
