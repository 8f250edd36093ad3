import {
  formatTableName,
  isMoonlinkError,
  maxLsn,
  MoonlinkError,
  parseTableName,
  type ChangeLog,
  type Clock,
  type Lease,
  type Logger,
  type Lsn,
  type Random,
  type Telemetry,
} from '@moonlink/core'
import type { Engine, Mirror } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import type { FlushReport, HealthReport, ListedTable, ReadyReport, StatusReport } from '../http/schemas.ts'
import { Acknowledger } from './acknowledger.ts'
import { LogRelief } from './log-relief.ts'
import { MirrorSet } from './mirror-set.ts'
import type { Operations, QueryRequest, RunningQuery } from './operations.ts'
import type { QueryEngine, SourceHandle, Warehouse } from './parts.ts'
import { SlotWatch } from './slot-watch.ts'
import type { BackendState, StateStore } from './state.ts'
import { statusReport } from './status.ts'
import { StreamLoop } from './stream-loop.ts'
import { chooseTables, listWith, mirrorable } from './table-set.ts'
import { Verification, type VerifyEvent } from '../verify/verification.ts'
import { Verifier, type VerifyTarget } from '../verify/verifier.ts'

/** What a backend is composed of. It closes none of these; whoever composed it does. */
export interface BackendParts {
  readonly config: Config
  readonly source: SourceHandle
  readonly warehouse: Warehouse
  readonly engine: Engine
  readonly sql: QueryEngine
  /** Opens the change log, if there shall be one, as it is to be used by a source that can stream from `sourceFromLsn` on. */
  readonly openLog: (sourceFromLsn: Lsn) => Promise<ChangeLog | null>
  readonly stateStore: StateStore
  /** Our right to write the log and to use the slot, where others may want it; null where the state directory's lock is enough. */
  readonly lease: Lease | null
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly telemetry: Telemetry
}

const slotLossCodes: ReadonlySet<string> = new Set(['PG_SLOT_LOST', 'PG_SLOT_MISSING', 'PG_CHANGES_LOST'])
const tickMs = 100
const acknowledgeMs = 1000
const copyPollMs = 50
const mendPauseMs = 1000
const nudgeFirstMs = 30
const nudgeMs = 500

/** A running mirror of one source: opens the tables, copies what is new, follows the stream, and does what `Operations` says. */
export class MoonlinkBackend implements Operations {
  readonly #parts: BackendParts
  readonly #log: ChangeLog | null
  readonly #logRelief: LogRelief | null
  readonly #mirrors: MirrorSet
  readonly #ended = Promise.withResolvers<Error | null>()
  readonly #acknowledger: Acknowledger
  readonly #loop: StreamLoop
  readonly #verification: Verification
  readonly #slotWatch: SlotWatch
  #added: readonly string[]
  #dropped: readonly string[]
  #timer: NodeJS.Timeout | null = null
  #lastAcknowledgeMs = 0
  /** Tables whose change of shape was followed, or can't be, by the reason of their pause. */
  readonly #followed = new Map<string, string>()
  #caughtUpAtMs: number
  #closing = false
  /** Another backend has taken over: nothing is committed or acknowledged any more. */
  #isFenced = false
  #isMending = false
  #changing: Promise<unknown> = Promise.resolve()

  private constructor(parts: BackendParts, log: ChangeLog | null, state: BackendState | null, slotLsn: Lsn) {
    const { clock, engine, logger, random, source } = parts
    this.#parts = parts
    this.#log = log
    this.#added = state?.added ?? []
    this.#dropped = state?.dropped ?? []
    this.#caughtUpAtMs = clock.nowMs()
    const floorLsn = floorOf(log, slotLsn)
    this.#mirrors = new MirrorSet(parts, { floorLsn, coveredLsn: state?.coveredLsn ?? 0n, covered: new Set(state?.mirrored) })
    this.#acknowledger = new Acknowledger({ engine, log, floorLsn, slotLsn, remember: (lsn) => this.#remember(lsn) })
    this.#logRelief =
      log === null
        ? null
        : new LogRelief({ log, maxBytes: parts.config.changeLog.maxBytes, clock, logger, flush: () => this.#flushFlushable() })
    this.#loop = new StreamLoop({
      source,
      engine,
      clock,
      random,
      logger,
      telemetry: parts.telemetry,
      log,
      floorLsn: () => this.#acknowledger.coveredLsn,
      onFailure: (error) => {
        if (isMoonlinkError(error) && slotLossCodes.has(error.code)) this.#slotLost(error.message)
        else if (isMoonlinkError(error, 'fenced')) this.#fenced(error)
        else this.#ended.resolve(error)
      },
    })
    this.#verification = new Verification({
      verifier: new Verifier({
        openSnapshot: () => source.snapshot(),
        fieldSources: (table) => source.fieldSources(table),
        rowFilter: (table) => source.rowFilter(table),
        query: (sql, lsn, timeoutMs) => this.query({ sql, atLsn: lsn, timeoutMs }),
        clock,
        logger,
      }),
      clock,
      logger,
      targets: () => this.#mirrors.comparable(),
      share: parts.config.verify.share,
      minPauseMs: parts.config.verify.minPauseMs,
    })
    this.#slotWatch = new SlotWatch({
      source,
      clock,
      logger,
      intervalMs: parts.config.source.slotCheckMs,
      heartbeatMs: parts.config.source.heartbeatMs,
      appliedLsn: () => engine.appliedLsn,
      onLost: (reason) => this.#slotLost(reason),
    })
    engine.onFenced = (error) => this.#fenced(error)
    parts.lease?.onLost((error) => this.#fenced(error))
    log?.onDurable(() => this.#acknowledger.acknowledgeDurable(this.#loop))
  }

  /** Opens every table and begins to mirror; copies go on after it resolves. */
  static async start(parts: BackendParts): Promise<MoonlinkBackend> {
    const { config, engine, source, warehouse } = parts
    const state = stateOf(await parts.stateStore.read(), source)
    await warehouse.checkWritable()
    const wanted = {
      configured: config.source.tables,
      added: state?.added ?? [],
      dropped: state?.dropped ?? [],
      known: state?.mirrored ?? [],
    }
    const { chosen, refused } = chooseTables(await listWith(source, [...wanted.configured, ...wanted.added]), wanted)
    const slotLsn = await source.prepare(chosen.map(({ table }) => table))
    // Who else mirrors from this slot is left alone: opening the tables would take them over.
    await source.waitUntilUnused()
    const log = await parts.openLog(slotLsn)
    const backend = new MoonlinkBackend(parts, log, state, slotLsn)
    for (const [name, reason] of refused) backend.#mirrors.unopened.set(name, reason)
    engine.requireCatchUp(await source.currentLsn())
    await backend.#mirrors.openAll(chosen)
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

  health(): HealthReport {
    return { status: 'ok', role: 'active' }
  }

  async status(): Promise<StatusReport> {
    const { clock, engine, source, warehouse } = this.#parts
    const lastKnown = { sourceLsn: engine.sourceLsn, confirmedFlushLsn: this.#acknowledger.acknowledgedLsn, retainedBytes: 0, slot: null }
    const position = await source.position().catch(() => lastKnown)
    return statusReport({
      identity: source.identity,
      warehouse: warehouse.uri,
      trouble: this.#loop.trouble,
      position: { ...position, sourceLsn: maxLsn(position.sourceLsn, engine.sourceLsn) },
      behindMs: this.#isCaughtUp() ? 0 : Math.max(0, clock.nowMs() - this.#caughtUpAtMs),
      mirrors: engine.status(),
      copy: (table, rows) => this.#mirrors.copyReport(table, rows),
      unopened: this.#mirrors.unopened,
      verified: this.#verification.outcomes,
      unfit: (table) => source.unfitValues(table),
      log: this.#log === null ? null : { ...this.#log.status, durableLsn: this.#log.durableLsn },
    })
  }

  ready(): ReadyReport {
    const waitingFor = [
      ...(this.#loop.trouble === null ? [] : [`the change stream: ${this.#loop.trouble}`]),
      ...this.#mirrors.copying().map((name) => `the copy of ${name}`),
    ]
    return { ready: waitingFor.length === 0, waitingFor }
  }

  async query(request: QueryRequest): Promise<RunningQuery> {
    this.#refuseWhileClosing()
    const { clock, sql, telemetry } = this.#parts
    const startedMs = clock.nowMs()
    const run = () => this.#nudging(sql.query(request.sql, request.atLsn, request.timeoutMs))
    const running = await telemetry.span('query', {}, run)
    telemetry.observe('moonlink_query_seconds', (clock.nowMs() - startedMs) / 1000)
    return running
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

  verify(tables: readonly string[] | null): AsyncIterable<VerifyEvent> {
    this.#refuseWhileClosing()
    const comparable = this.#mirrors.comparable()
    const named = (name: string): VerifyTarget => {
      const target = comparable.find(({ table }) => formatTableName(table) === name)
      if (target !== undefined) return target
      const known = this.#mirrors.has(name) || this.#mirrors.unopened.has(name)
      throw known
        ? new MoonlinkError(
            'invalid',
            'TABLE_NOT_STREAMING',
            `${name} can't be verified: it is copied, paused or failed (moonlink status tells).`,
          )
        : new MoonlinkError('invalid', 'TABLE_UNKNOWN', `${name} is not mirrored; moonlink tables list shows what is.`)
    }
    return this.#verification.run(tables === null ? comparable : tables.map(named))
  }

  async listTables(): Promise<readonly ListedTable[]> {
    const { engine, source } = this.#parts
    const mirrors = new Map(engine.status().map((mirror) => [formatTableName(mirror.table), mirror]))
    const listed = await source.listTables()
    return listed.map(({ table, refusal, notes }) => {
      const name = formatTableName(table)
      const mirror = mirrors.get(name)
      if (mirror !== undefined) return { name, notes, mirrored: true, state: mirror.state, reason: mirror.reason }
      const unopened = this.#mirrors.unopened.get(name)
      return {
        name,
        notes,
        mirrored: unopened !== undefined,
        state: unopened === undefined ? null : 'failed',
        reason: unopened ?? refusal?.reason ?? null,
      }
    })
  }

  async addTables(tables: readonly string[]): Promise<void> {
    await this.#alone(async () => {
      const listed = await listWith(this.#parts.source, tables)
      const chosen = [...new Set(tables)].map((name) => mirrorable(listed, name))
      const names = chosen.map(({ table }) => formatTableName(table))
      const twice = names.find((name) => this.#mirrors.has(name))
      if (twice !== undefined) throw new MoonlinkError('conflict', 'TABLE_EXISTS', `${twice} is mirrored already.`)
      await this.#loop.pausedFor(() => this.#mirrors.add(chosen))
      this.#added = [...new Set([...this.#added, ...names])]
      this.#dropped = this.#dropped.filter((name) => !names.includes(name))
      await this.#acknowledger.remember()
      void this.#mirrors.copyOrPause(names)
    })
  }

  async pauseTable(table: string): Promise<void> {
    const mirror = this.#known(table)
    await mirror.pause('PAUSED', `by request; moonlink tables resume ${table} goes on.`)
  }

  async resyncTable(table: string, reason: string): Promise<void> {
    await this.#alone(async () => {
      if (this.#known(table).currentPhase === 'copying')
        throw new MoonlinkError('retry', 'TABLE_COPYING', `${table} is being copied already.`, { context: { table } })
      await this.#loop.pausedFor(() => this.#mirrors.beginResync([table], reason))
      await this.#acknowledger.remember()
      void this.#mirrors.copyOrPause([table])
    })
  }

  async dropTable(table: string, purge: boolean): Promise<void> {
    await this.#alone(async () => {
      const isMirrored = this.#mirrors.has(table) || this.#mirrors.unopened.has(table)
      if (!isMirrored && !(purge && this.#dropped.includes(table))) {
        const message = `${table} is not mirrored; moonlink tables list shows what is.`
        throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', message, { context: { table } })
      }
      if (this.#mirrors.copying().includes(table)) {
        throw new MoonlinkError('retry', 'TABLE_COPYING', `${table} is being copied; drop it when that is done.`, { context: { table } })
      }
      if (isMirrored) {
        await this.#loop.pausedFor(() => this.#mirrors.remove(table, !purge))
        this.#added = this.#added.filter((name) => name !== table)
        this.#dropped = [...new Set([...this.#dropped, table])]
        await this.#acknowledger.remember()
      }
      const { schema, name } = parseTableName(table)
      if (purge) await this.#parts.warehouse.catalog.drop({ namespace: schema, name }, true)
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

  /** Copies what is new and follows the stream, so that the source need not keep what changes meanwhile. */
  async #begin(): Promise<void> {
    await this.#acknowledger.begin()
    const copying = this.#mirrors.copying()
    const copied = this.#mirrors.copy(copying)
    copied.catch((error: Error) => this.#ended.resolve(error))
    this.#loop.start()
    this.#timer = setInterval(() => void this.#tick(), tickMs)
    this.#verification.start()
    this.#slotWatch.start()
  }

  async #tick(): Promise<void> {
    const { clock, engine, logger } = this.#parts
    try {
      await engine.tick()
      const now = clock.nowMs()
      if (this.#isCaughtUp()) this.#caughtUpAtMs = now
      this.#followSchemas()
      if (now - this.#lastAcknowledgeMs < acknowledgeMs) return
      this.#lastAcknowledgeMs = now
      await this.#acknowledger.acknowledge(this.#loop)
      this.#logRelief?.look()
    } catch (error) {
      logger.error('housekeeping failed', { error: String(error) })
    }
  }

  /** Takes on tables whose shape changed, each once for each reason: one that can't be stays paused. */
  #followSchemas(): void {
    const { config, engine, logger } = this.#parts
    if (config.source.onSchemaChange !== 'resync' || this.#closing) return
    for (const { table, state, reason } of engine.status()) {
      const name = formatTableName(table)
      if (state !== 'paused' || !reason?.startsWith('SCHEMA_CHANGED ') || this.#followed.get(name) === reason) continue
      this.#followed.set(name, reason)
      void this.resyncTable(name, 'its columns or key changed').then(
        () => this.#followed.delete(name),
        (error: unknown) => logger.warn('the changed table was not taken on', { table: name, error: String(error) }),
      )
    }
  }

  #fenced(error: Error): void {
    this.#isFenced = true
    this.#ended.resolve(error)
  }

  #known(table: string): Mirror {
    const mirror = this.#parts.engine.mirror(table)
    if (mirror !== undefined) return mirror
    throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `${table} is not mirrored; moonlink tables list shows what is.`, {
      context: { table },
    })
  }

  /** Changes are missing from here on: a new slot takes the place of the lost one, and every table is made equal to its source again. */
  #slotLost(reason: string): void {
    const { config, logger, source } = this.#parts
    const { slot } = source.identity
    if (this.#closing || this.#isMending) return
    if (config.source.onSlotLoss === 'stop') {
      const message = `slot "${slot}" is lost: ${reason}. Changes are missing; start again with source.onSlotLoss: resync.`
      return this.#ended.resolve(new MoonlinkError('invalid', 'PG_SLOT_LOST', message, { context: { slot } }))
    }
    logger.error('the slot is lost; a new one is made, and every table is made equal to the source again', { slot, reason })
    this.#isMending = true
    void this.#alone(() => this.#mendSlot(reason))
      .catch((error: Error) => this.#ended.resolve(error))
      .finally(() => {
        this.#isMending = false
      })
  }

  async #mendSlot(reason: string): Promise<void> {
    const { clock, logger } = this.#parts
    if (this.#closing) return
    await this.#loop.stop()
    await this.#loop.close()
    await this.#mirrors.stopCopies()
    for (;;) {
      try {
        const names = this.#mirrors.live()
        const slotLsn = await this.#mirrors.beginResync(names, `the slot was lost: ${reason}`)
        await this.#acknowledger.beginAt(slotLsn)
        this.#slotWatch.reset()
        this.#loop.start()
        void this.#mirrors.copyOrPause(names)
        return
      } catch (error) {
        // The server may be away just now; the tables stay as they are.
        if (!isMoonlinkError(error, 'retry') || this.#closing) throw error
        logger.warn('a new slot could not be made yet', { code: error.code, error: error.message })
        await clock.sleep(mendPauseMs)
      }
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
    const { clock } = this.#parts
    for (;;) {
      const [copying] = this.#mirrors.copying()
      if (copying === undefined) return
      if (clock.nowMs() >= deadlineMs)
        throw new MoonlinkError('retry', 'TIMED_OUT', `${copying} is still being copied; wait longer with --timeout.`)
      await clock.sleep(copyPollMs)
    }
  }

  async #end(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    await this.#slotWatch.stop()
    await this.#verification.stop()
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#loop.stop()
    await this.#mirrors.stopCopies()
    try {
      if (!this.#isFenced) await this.#flushFlushable()
    } finally {
      await this.#log?.sync()
      if (!this.#isFenced) await this.#acknowledger.acknowledge(this.#loop)
      await this.#loop.close()
      await this.#log?.close()
    }
  }

  /** One change to the set of tables at a time. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#changing
    const mine = before.then(work, work)
    this.#changing = mine.catch(() => undefined)
    return mine
  }

  #flushFlushable(): Promise<void> {
    return this.#parts.engine.flush(this.#mirrors.flushable())
  }

  #remember(coveredLsn: Lsn): Promise<void> {
    const { systemIdentifier, database, slot } = this.#parts.source.identity
    return this.#parts.stateStore.write({
      source: { systemIdentifier, database, slot },
      coveredLsn,
      mirrored: this.#mirrors.live(),
      added: this.#added,
      dropped: this.#dropped,
    })
  }

  #refuseWhileClosing(): void {
    if (this.#closing) throw new MoonlinkError('retry', 'STOPPING', 'the backend is stopping; start it again with moonlink start.')
  }
}

/** Where a stream can begin so that nothing is missing after: at the log's start, where that has what the slot let go of. */
function floorOf(log: ChangeLog | null, slotLsn: Lsn): Lsn {
  const range = log?.status.range ?? null
  return range === null || slotLsn <= range.startLsn ? slotLsn : range.startLsn
}

/** The state of the last run, where that had the same source. */
function stateOf(state: BackendState | null, source: SourceHandle): BackendState | null {
  const { systemIdentifier, database, slot } = source.identity
  const same = state?.source.systemIdentifier === systemIdentifier && state.source.database === database && state.source.slot === slot
  return same ? state : null
}
