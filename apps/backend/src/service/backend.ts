import { isMoonlinkError, maxLsn, type ChangeLog, type Lsn } from '@moonlink/core'
import type { MirrorStatus } from '@moonlink/table-engine'
import type { Uninstalled } from '@moonlink/pg-source'
import type { FlushReport, HealthReport, ReadyReport, StatusReport, TablesReport } from '../http/schemas.ts'
import type { VerifyEvent } from '../verify/verification.ts'
import { Acknowledger } from './acknowledger.ts'
import type { BackendParts } from './backend-parts.ts'
import { errorOfRead } from './error-of-read.ts'
import { errorOfStart } from './error-of-start.ts'
import { findAtStart, type FoundAtStart } from './found-at-start.ts'
import { LogRelief } from './log-relief.ts'
import { LockedTables } from './locked-tables.ts'
import { MirrorSet } from './mirror-set.ts'
import { OneAtATime } from './one-at-a-time.ts'
import type { Operations, QueryRequest, WaitRequest } from './operations.ts'
import { PublicationWatch } from './publication-watch.ts'
import { RememberedTables } from './remembered-tables.ts'
import { Repeating } from './repeating.ts'
import type { RunningQuery } from './running-query.ts'
import { SchemaFollower } from './schema-follower.ts'
import { isSlotLoss } from './slot-loss.ts'
import { SlotMender } from './slot-mender.ts'
import { SlotWatch } from './slot-watch.ts'
import { statusReport } from './status.ts'
import { StoppedTables } from './stopped-tables.ts'
import { stoppingError } from './stopping.ts'
import { StreamLoop } from './stream-loop.ts'
import { TableCommands } from './table-commands.ts'
import { TableVerification } from './table-verification.ts'
import { UnfinishedPurges } from './unfinished-purges.ts'
import { UnopenedTables } from './unopened-tables.ts'
import { waitForLsn } from './wait-for-lsn.ts'

const tickMs = 100
const acknowledgeMs = 1000

/** A running mirror of one source: opens the tables, copies what is new, follows the stream, and does what `Operations` says. */
export class MoonlinkBackend implements Operations {
  readonly #parts: BackendParts
  readonly #log: ChangeLog | null
  readonly #logRelief: LogRelief | null
  readonly #mirrors: MirrorSet
  readonly #ended = Promise.withResolvers<Error | null>()
  readonly #acknowledger: Acknowledger
  readonly #loop: StreamLoop
  readonly #verification: TableVerification
  readonly #slotWatch: SlotWatch
  readonly #publicationWatch: PublicationWatch
  readonly #mender: SlotMender
  readonly #stopped: StoppedTables
  readonly #purges: UnfinishedPurges
  readonly #tables: TableCommands
  readonly #follower: SchemaFollower
  readonly #changes = new OneAtATime()
  readonly #housekeeping: Repeating
  #lastAcknowledgeMs = 0
  #caughtUpAtMs: number
  #closing = false
  /** Whoever waits for something shall give up. */
  #isStopping = false
  /** Another backend has taken over: nothing is committed or acknowledged any more. */
  #isFenced = false

  private constructor(parts: BackendParts, { coverage, log, slotLsn, state }: FoundAtStart) {
    const { clock, engine, logger, random, source } = parts
    const { floorLsn } = coverage
    this.#parts = parts
    this.#log = log
    this.#caughtUpAtMs = clock.nowMs()
    this.#housekeeping = new Repeating(clock, tickMs, () => this.#tick())
    const locked = new LockedTables({
      source,
      clock,
      logger,
      takeUp: (table) => this.#tables.takeUp(table),
      unpublish: () => this.#tables.unpublish(),
      refuse: (name, error) => void this.#mirrors.refuse(name, error),
    })
    const unopened = new UnopenedTables({
      ...parts,
      log,
      maxLogBytes: parts.config.changeLog.maxBytes,
      floorLsn,
      openAgain: (name) => this.#tables.openAgain(name),
    })
    this.#mirrors = new MirrorSet(parts, coverage, locked, unopened)
    const remembered = new RememberedTables({
      store: parts.stateStore,
      source,
      state,
      live: () => this.#mirrors.live(),
      covered: () => this.#mirrors.covered(),
      mirror: (name) => engine.mirror(name),
      known: () => this.#mirrors.known(),
    })
    const remember = (lsn: Lsn) => remembered.write(lsn)
    const isOutdated = (table?: string) => (table === undefined ? remembered.isOutdated : remembered.isOutdatedFor(table))
    const keptFromLsn = () => unopened.keptFromLsn
    this.#acknowledger = new Acknowledger({ engine, log, lease: parts.lease, floorLsn, slotLsn, remember, keptFromLsn, isOutdated })
    source.history.resume(state?.timeline ?? null, state?.timelineSince ?? null, () => this.#acknowledger.remember())
    this.#logRelief =
      log === null
        ? null
        : new LogRelief({
            ...parts,
            log,
            flush: () => engine.flush(this.#mirrors.flushable()),
          })
    this.#loop = new StreamLoop({
      source,
      engine,
      clock,
      random,
      logger,
      telemetry: parts.telemetry,
      log,
      floorLsn: () => this.#acknowledger.coveredLsn,
      requireCurrent: async () => parts.lease?.requireCurrent(),
      onFailure: (error) => {
        if (isSlotLoss(error)) this.#mender.lost(error.message)
        else if (isMoonlinkError(error, 'fenced')) this.#fenced(error)
        else this.#ended.resolve(error)
      },
    })
    const shared = { mirrors: this.#mirrors, loop: this.#loop, acknowledger: this.#acknowledger, changes: this.#changes }
    this.#purges = new UnfinishedPurges({ ...parts, acknowledger: this.#acknowledger, remembered })
    this.#tables = new TableCommands({ ...parts, ...shared, remembered, purges: this.#purges })
    this.#follower = new SchemaFollower({
      engine,
      clock,
      logger,
      resync: (table, reason) => this.#resyncUnasked(table, reason),
      isThere: async (table) => (await source.listTables([table])).some(({ refusal }) => refusal === null),
    })
    const resync = (table: string, reason: string) => this.#resyncUnasked(table, reason)
    this.#stopped = new StoppedTables({ ...parts, resync })
    this.#mender = new SlotMender({
      ...parts,
      ...shared,
      log,
      slotWatch: () => this.#slotWatch,
      isClosing: () => this.#closing || this.#isStopping,
      onFailure: (error) => this.#ended.resolve(error),
    })
    this.#verification = new TableVerification({
      ...parts,
      mirrors: this.#mirrors,
      query: (sql, lsn, timeoutMs) => this.query({ sql, atLsn: lsn, timeoutMs }),
    })
    this.#slotWatch = new SlotWatch({
      source,
      clock,
      logger,
      intervalMs: parts.config.source.slotCheckMs,
      heartbeatMs: parts.config.source.heartbeatMs,
      appliedLsn: () => engine.appliedLsn,
      onLost: (reason) => this.#mender.lost(reason),
    })
    this.#publicationWatch = new PublicationWatch({
      source,
      clock,
      logger,
      intervalMs: parts.config.source.slotCheckMs,
      resync: (table, reason) => this.#tables.republished(table, reason),
      pause: (table, code, reason) => this.#tables.pauseAsTold(table, code, reason),
      added: (table) => this.#tables.published(table),
    })
    engine.onFenced = (error) => this.#fenced(error)
    engine.beforeCommit = (table) => this.#acknowledger.rememberFirst(table)
    const { lease } = parts
    lease?.onLost((error) => this.#fenced(error))
    if (lease !== null) engine.requireCurrent = () => lease.requireCurrent()
    log?.onDurable(() => this.#acknowledger.acknowledgeDurable(this.#loop))
  }

  /** Opens every table and begins to mirror; copies go on after it resolves. */
  static async start(parts: BackendParts): Promise<MoonlinkBackend> {
    const { engine, source } = parts
    const found = await findAtStart(parts)
    const backend = new MoonlinkBackend(parts, found)
    try {
      for (const [name, reason] of found.refused) backend.#mirrors.unopened.refuse(name, reason)
      engine.requireCatchUp(await source.currentLsn())
      await backend.#mirrors.openStarted(found.published, found.locked)
      await backend.#begin()
    } catch (error) {
      await found.log?.close().catch(() => undefined)
      await engine.close().catch(() => undefined)
      throw await errorOfStart(error, parts.lease)
    }
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
    const unknown = { sourceLsn: engine.sourceLsn, confirmedFlushLsn: this.#acknowledger.acknowledgedLsn, retainedBytes: 0, slot: null }
    const position = (await this.#slotWatch.position()) ?? unknown
    return statusReport({
      identity: source.identity,
      sourceNotes: source.notes,
      warehouse: warehouse.uri,
      trouble: this.#loop.trouble,
      position: { ...position, sourceLsn: maxLsn(position.sourceLsn, engine.sourceLsn) },
      slotLagMs: this.#slotWatch.lagMs,
      behindMs: this.#isCaughtUp() ? 0 : Math.max(0, clock.nowMs() - this.#caughtUpAtMs),
      freshnessMs: engine.freshnessMs,
      mirrors: engine.status(),
      copy: (table, rows) => this.#mirrors.copies.report(table, rows),
      unopened: this.#mirrors.unopened.reasons,
      locked: this.#mirrors.locked.reasons,
      verified: this.#verification.outcomes,
      waits: source.waits(),
      waitingFor: (table) => this.#mirrors.waitingFor(table),
      notes: (table) => this.#mirrors.notes(table),
      unfit: (table) => source.unfitValues(table),
      log: this.#log === null ? null : { ...this.#log.status, durableLsn: this.#log.durableLsn },
    })
  }

  ready(): ReadyReport {
    const copyOf = (name: string) => [`the copy of ${name}`, this.#mirrors.waitingFor(name)].filter((text) => text !== null).join(': ')
    const waitingFor = [
      ...(this.#loop.trouble === null ? [] : [`the change stream: ${this.#loop.trouble}`]),
      ...this.#mirrors.copying().map(copyOf),
      ...Array.from(this.#mirrors.locked.reasons, ([name, reason]) => `the copy of ${name}: ${reason}`),
    ]
    return { ready: waitingFor.length === 0, waitingFor }
  }

  async query(request: QueryRequest): Promise<RunningQuery> {
    this.#refuseWhileClosing()
    const { clock, lease, sql, telemetry } = this.#parts
    const startedMs = clock.nowMs()
    const read = () => sql.query(request.sql, request.atLsn, request.timeoutMs)
    const running = await telemetry.span('query', {}, read).catch(async (error: unknown) => {
      throw await errorOfRead(error, lease)
    })
    telemetry.observe('moonlink_query_seconds', (clock.nowMs() - startedMs) / 1000)
    return running
  }

  async wait(request: WaitRequest): Promise<Lsn> {
    this.#refuseWhileClosing()
    const { config, ...parts } = this.#parts
    const follows = config.source.onSchemaChange === 'resync'
    const willTakeOn = (mirror: MirrorStatus) => follows && !this.#closing && this.#follower.willTakeOn(mirror)
    return waitForLsn(request, { ...parts, mirrors: this.#mirrors, willTakeOn })
  }

  async flush(tables: readonly string[] | null): Promise<FlushReport> {
    this.#refuseWhileClosing()
    const { engine } = this.#parts
    for (const name of tables ?? []) this.#mirrors.mirror(name)
    await engine.flush(tables ?? undefined)
    const report = (await this.status()).tables.filter((table) => tables === null || tables.includes(table.name))
    return { tables: report.map(({ name, committedLsn, snapshotId }) => ({ name, committedLsn, snapshotId })) }
  }

  verify(tables: readonly string[] | null): AsyncIterable<VerifyEvent> {
    this.#refuseWhileClosing()
    return this.#verification.run(tables)
  }

  listTables(): Promise<TablesReport> {
    return this.#tables.list()
  }

  addTables(tables: readonly string[]): Promise<void> {
    return this.#tables.add(tables)
  }

  pauseTable(table: string): Promise<void> {
    return this.#tables.pause(table)
  }

  async resyncTable(table: string, reason: string): Promise<void> {
    await this.#tables.resync(table, reason)
    // What it was like before says nothing any more.
    this.#verification.forget(table)
  }

  dropTable(table: string, purge: boolean): Promise<void> {
    return this.#tables.drop(table, purge)
  }

  async uninstall(): Promise<Uninstalled> {
    this.#isStopping = true
    await Promise.all([this.#mirrors.stopTakingUp(), this.#purges.stop()])
    const removed = await this.#changes.run(async () => {
      await this.#end()
      return this.#parts.source.uninstall()
    })
    this.requestStop()
    return removed
  }

  /** Stops reading, commits everything that was read, tells the source, and lets go. Throws where a commit failed. */
  async close(): Promise<void> {
    this.#isStopping = true
    await Promise.all([this.#mirrors.stopTakingUp(), this.#purges.stop()])
    await this.#changes.run(() => this.#end())
    await this.#parts.engine.close()
  }

  async #resyncUnasked(table: string, reason: string): Promise<void> {
    await this.#tables.resyncUnasked(table, reason)
    this.#verification.forget(table)
  }

  /** Copies what is new and follows the stream, so that the source need not keep what changes meanwhile. */
  async #begin(): Promise<void> {
    await this.#acknowledger.begin()
    const copying = this.#mirrors.copying()
    const copied = this.#mirrors.copies.run(copying)
    copied.catch((error: Error) => this.#ended.resolve(error))
    this.#loop.start()
    this.#housekeeping.start()
    this.#verification.start()
    this.#slotWatch.start()
    this.#publicationWatch.start()
    this.#mirrors.startTakingUp()
    this.#purges.start()
  }

  async #tick(): Promise<void> {
    const { clock, config, engine, logger } = this.#parts
    try {
      await engine.tick()
      const now = clock.nowMs()
      if (this.#isCaughtUp()) this.#caughtUpAtMs = now
      if (config.source.onSchemaChange === 'resync' && !this.#closing) this.#follower.look()
      if (!this.#closing) this.#stopped.look()
      if (now - this.#lastAcknowledgeMs < acknowledgeMs) return
      this.#lastAcknowledgeMs = now
      await this.#acknowledger.acknowledge(this.#loop)
      this.#logRelief?.look()
    } catch (error) {
      logger.error('housekeeping failed', { error: String(error) })
    }
  }

  #fenced(error: Error): void {
    this.#isFenced = true
    this.#ended.resolve(error)
  }

  #isCaughtUp(): boolean {
    return this.#loop.trouble === null && this.#parts.engine.appliedLsn >= maxLsn(this.#loop.sourceLsn, this.#parts.engine.sourceLsn)
  }

  async #end(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    this.#parts.engine.hurry()
    await this.#slotWatch.stop()
    await this.#publicationWatch.stop()
    await this.#verification.stop()
    await this.#housekeeping.stop()
    await this.#loop.stop()
    await this.#mirrors.copies.stop()
    try {
      if (!this.#isFenced) await this.#parts.engine.flushWhole(this.#mirrors.flushable())
    } finally {
      await this.#log?.sync()
      if (!this.#isFenced) await this.#acknowledger.acknowledge(this.#loop)
      await this.#loop.close()
      await this.#log?.close()
    }
  }

  #refuseWhileClosing(): void {
    if (this.#closing) throw stoppingError()
  }
}
