import {
  formatTableName,
  isMoonlinkError,
  maxLsn,
  MoonlinkError,
  silentLogger,
  systemClock,
  type ChangeLog,
  type ChangeSource,
  type Clock,
  type Logger,
  type Lsn,
  type ResumePoint,
  type SourceTable,
  type TableName,
  type TableShape,
} from '@moonlink/core'
import { DEFAULT_OPEN_TRANSACTION_BYTES, StreamDecoder } from '../decode/index.ts'
import { LocalSpoolFiles } from '../spool/index.ts'
import { FieldIds, fieldSources, type FieldSource, type ServerTypes } from '../types/index.ts'
import { lookAtCatalog } from './catalog-look.ts'
import { describeTables, toListing, type CatalogOptions, type DescribedTable, type TableListing } from './catalog.ts'
import { parseConfig, type PgSourceConfig, type PgSourceSettings } from './config.ts'
import { CatalogConnection, Connector, disconnect, explained } from './connect.ts'
import { SnapshotCopy } from './copy.ts'
import { LoggedStream } from './logged-stream.ts'
import { openStream, type StreamBegin } from './open-stream.ts'
import { heartbeat, readPosition, reachableLsn, type SourcePosition } from './position.ts'
import { appendPublication, preflight, type ServerFacts } from './preflight.ts'
import { addTables, dropPublication, ensurePublication, lockedTables, publishAnew, remembersPartitions } from './publication.ts'
import { PublicationBaselines } from './publication-baselines.ts'
import type { PublicationChange } from './publication-changes.ts'
import { readPublications, type Publications } from './publication-state.ts'
import { streamForm } from './stream-form.ts'
import type { ReplicationOptions, ReplicationStream } from './replication-stream.ts'
import { checkCluster, FollowedHistory } from './server-history.ts'
import type { ServerProcess } from './server-session.ts'
import { readServerTypes } from './server-types.ts'
import { describeShape } from './describe-shape.ts'
import { evolveShape, restoreShape } from './evolve-shape.ts'
import { asExpected } from './expected-shape.ts'
import { refuseFilterGone, rowFilterSql, shownRowFilters } from './row-filter.ts'
import {
  checkNothingLost,
  checkSlot,
  createSlot,
  dropSlot,
  evictFromSlot,
  isLost,
  readSlot,
  unlessHeldUp,
  waitForSlot,
  type SlotState,
} from './slot.ts'
import { markOf } from './relation-shape.ts'
import { decodeSourceState } from './source-state.ts'
import { SourceSnapshot } from './source-snapshot.ts'
import { SourceWaits, whoLocks, whomItWaitsFor, type SourceWait } from './source-waits.ts'
import { StreamShapes } from './stream-shapes.ts'
import { TOLD_SINCE } from './told-since.ts'
import { nameOfTable } from './table-name.ts'

const DEFAULT_LOCK_TIMEOUT_MS = 5000
/** More than the usual `deadlock_timeout`, after which autovacuum gives way. */
const VACUUM_GIVES_WAY_MS = 3000
/** How often is looked whether who has the slot still waits. */
const HELD_SLOT_LOOK_MS = 500

export interface PgSourceOptions {
  readonly logger?: Logger
  readonly clock?: Clock
}

/** Values of a column that its mirror could not hold, since the process started; one that is read again counts again. */
export interface UnfitValues {
  readonly column: string
  /** `null`: they are null in the mirror. `text`: their text is in the column `<column>_text`. */
  readonly action: 'null' | 'text'
  readonly values: number
}

/** What `prepare` found or made. */
export interface Prepared {
  /** Tables that were left out, since another session keeps them locked: they are not published, and not prepared. */
  readonly locked: readonly TableName[]
  /** The slot did not exist: whatever was mirrored before misses changes and has to be copied again. */
  readonly slotCreated: boolean
  /** Everything up to here has been acknowledged, or lies before the new slot's start. */
  readonly slotLsn: Lsn
}

/**
 * Connects to Postgres and checks that it can be mirrored. Makes nothing yet.
 *
 * Throws `retry` where trying again may help (`PG_UNREACHABLE`, `PG_STARTING`, `PG_SLOT_IN_USE` …) and `invalid` where something has to be changed
 * first (`PG_AUTH`, `PG_WAL_LEVEL`, `PG_REPLICATION_PRIVILEGE` …); the message is one line and says what. Once it is open, a login that is refused is `retry` too:
 * passwords and certificates are changed while we run.
 */
export async function openPgSource(config: PgSourceConfig, options: PgSourceOptions = {}): Promise<PgSource> {
  const settings = parseConfig(config)
  const connector = new Connector(settings)
  const connection = new CatalogConnection(connector)
  try {
    const facts = await preflight(connector, connection, settings, options.logger ?? silentLogger)
    const serverTypes = await readServerTypes(connection, settings)
    connector.wasLetIn = true
    return new PgSource(settings, connector, connection, facts, serverTypes, options)
  } catch (error) {
    await connection.close()
    throw error
  }
}

/** A table as the catalog has it now, by what is known of it. */
export interface EvolvedTable {
  readonly shape: TableShape
  /** It is another table under the same name. */
  readonly isAnew: boolean
  /** The same text for as long as nothing changes that its rows depend on. */
  readonly mark: string
}

/**
 * A Postgres database as a change source: `prepare` the tables once, `copy` those that are new, `open` the stream.
 *
 * Not promised: that tables added by others to the publication are streamed; use from two processes on one slot.
 */
export class PgSource implements ChangeSource {
  readonly facts: ServerFacts
  readonly slotName: string
  readonly publicationName: string
  /** Which of the server's histories it is that was read. */
  readonly history: FollowedHistory
  /** How the prepared tables were published. */
  readonly baselines: PublicationBaselines
  private readonly settings: PgSourceSettings
  private readonly connector: Connector
  private readonly connection: CatalogConnection
  private readonly logger: Logger
  private readonly clock: Clock
  private readonly sourceWaits: SourceWaits
  private readonly serverTypes: ServerTypes
  private readonly unfitCounters = new Map<string, { count: number }>()
  private prepared: ReadonlyMap<string, DescribedTable> = new Map()
  private lastOptions: CatalogOptions | null = null
  private stream: ReplicationStream | LoggedStream | null = null
  private shapes: StreamShapes | null = null
  /** Of the last stream's connection. */
  private walSender: ServerProcess | null = null
  /** The slot decodes with a catalog that lacks the publication, and the server fails at that. */
  private isSlotBlind = false

  constructor(
    settings: PgSourceSettings,
    connector: Connector,
    connection: CatalogConnection,
    facts: ServerFacts,
    serverTypes: ServerTypes,
    options: PgSourceOptions,
  ) {
    this.settings = settings
    this.connector = connector
    this.connection = connection
    this.facts = facts
    this.serverTypes = serverTypes
    this.slotName = settings.slot
    this.publicationName = settings.publication
    this.logger = options.logger ?? silentLogger
    this.clock = options.clock ?? systemClock
    this.sourceWaits = new SourceWaits(connection, this.logger, systemClock)
    this.history = new FollowedHistory(facts.systemId, this.logger)
    this.baselines = new PublicationBaselines(settings.publication)
    connection.onOpen = (client) => checkCluster(client, facts.systemId)
  }

  /**
   * Every ordinary, partitioned and foreign table of the database outside system schemas, or whatever is called one of `only`; each with the
   * schema that it is mirrored with, or the reason why it can't be. Where all are listed, notes show the texts of row filters, unless another session locks one of the tables.
   */
  async listTables(only?: readonly TableName[]): Promise<TableListing[]> {
    const described = await describeTables(this.connection, await this.catalogOptions(), only)
    if (only !== undefined) return described.map((entry) => toListing(entry))
    const filterOids = described.flatMap((entry) => ('described' in entry ? (entry.described.filterOid ?? []) : []))
    const filters = await shownRowFilters(this.connection, filterOids)
    return described.map((entry) => toListing(entry, filters))
  }

  /**
   * Makes the publications publish exactly these tables, and the slot if it is not there. Existing ones are altered, never made anew. Throws the
   * reason of the first table that can't be mirrored, and `retry`/`PG_LOCK_TIMEOUT` where another session keeps one to be published locked for `lockTimeoutMs`, unless
   * `leavesOutLocked`: those are left out then.
   */
  async prepare(tables: readonly TableName[], lockTimeoutMs = DEFAULT_LOCK_TIMEOUT_MS, leavesOutLocked = false): Promise<Prepared> {
    const described = await this.describe(tables)
    if (streamForm(described) === 'text') {
      const columns = described.flatMap(({ table, streamForms }) => streamForms.map(({ column }) => `${formatTableName(table)}.${column}`))
      this.logger.warn('the whole stream comes as text, which takes longer: the binary form of some types is not known here', { columns })
    }
    const { database, versionNumber } = this.facts
    const { main, append } = await this.publications()
    if (main === null) this.baselines.refuseToReplaceGiven()
    this.isSlotBlind ||= main === null && versionNumber < 180_000
    // The publication first: a slot decodes with the catalog as it was, and one made earlier would not find it.
    const locked: DescribedTable[] = []
    for (const { plan, state } of this.plans(described, { main, append })) {
      locked.push(...(await ensurePublication(this.connection, plan, state, this.facts, lockTimeoutMs)))
    }
    const leftOut = locked.map(({ table }) => table)
    if (locked.length > 0 && !leavesOutLocked) throw lockedTables(leftOut, this.publicationName)
    const published = described.filter((table) => !locked.includes(table))
    this.prepared = new Map(published.map((table) => [formatTableName(table.table), table]))
    this.baselines.prepared(this.prepared, await this.publications(), this.settings.appendOnly)
    let slot = await this.slot()
    // One that is being made is none yet, and may never be.
    if (slot?.isActive === true && slot.confirmedFlushLsn === null) {
      await this.waitUntilUnused()
      slot = await this.slot()
    }
    const { failover, replaceLostSlot } = this.settings
    if (slot) {
      checkSlot(this.slotName, slot, database, replaceLostSlot)
      // It decodes with the catalog as it was, and servers before 18 fail where that lacks a publication.
      const isBlind = this.isSlotBlind && replaceLostSlot
      if (isBlind) await this.waitForSlot()
      else if (!isLost(slot)) return { slotCreated: false, slotLsn: slot.confirmedFlushLsn ?? 0n, locked: leftOut }
      const reason = isBlind ? 'its publication was not there' : (slot.invalidationReason ?? slot.walStatus)
      this.logger.warn('the slot is made anew', { slot: this.slotName, reason })
      await dropSlot(this.connection, this.slotName)
    }
    const slotLsn = await createSlot(this.connector, this.connection, this.slotName, this.sourceWaits, failover)
    this.isSlotBlind = false
    return { slotCreated: true, slotLsn, locked: leftOut }
  }

  /**
   * Publishes one table more, beside what is prepared: its changes are passed over until it is, too. Returns null once it is published; where another session's lock keeps it from that,
   * who has it and what ends that. Waits for nobody who is known to have one. Throws the reason where the table can't be mirrored.
   */
  async publish(table: TableName): Promise<string | null> {
    const described = await this.describe([table])
    const publications = await this.publications()
    const plan = this.plans(described, publications).find(({ plan: { tables } }) => tables.length > 0)
    if (plan?.state?.isOurs !== true || plan.state.tables.has(formatTableName(table))) return null
    const [{ relationOid }] = described
    const holder = await whoLocks(this.connection, relationOid)
    if (holder !== null) return holder
    // On a connection of its own: autovacuum gives way only to who waits for it, and nothing else shall wait meanwhile.
    const client = await this.connector.connect('publication')
    try {
      const rows: CatalogConnection['rows'] = async (sql) => (await client.query(sql)).rows
      const locked = await addTables({ rows }, plan.plan.name, described, VACUUM_GIVES_WAY_MS)
      if (locked.length === 0) return null
    } finally {
      await disconnect(client)
    }
    return (await whoLocks(this.connection, relationOid)) ?? 'a lock that another session holds'
  }

  /** Which of the publications has which of the tables. */
  private plans(tables: readonly DescribedTable[], { append, main }: Publications) {
    const isInAppend = ({ table, appendOnly }: DescribedTable) =>
      appendOnly && (main === null || main.isOurs || !main.tables.has(formatTableName(table)))
    const all = { name: this.publicationName, publish: 'all', tables: tables.filter((table) => !isInAppend(table)) } as const
    const inserts = { name: appendPublication(this.settings), publish: 'inserts', tables: tables.filter(isInAppend) } as const
    return [
      { plan: all, state: main },
      { plan: inserts, state: append },
    ]
  }

  /** The slot as the server shows it, or null where there is none. */
  async slot(): Promise<SlotState | null> {
    return readSlot(this.connection, this.slotName)
  }

  /**
   * Waits up to `slotWaitMs` until nobody streams from the slot, and for as long as who does waits for a lock: that may be a connection of ours that was cut off. Throws
   * `retry`/`PG_SLOT_IN_USE`, naming who does.
   */
  async waitUntilUnused(): Promise<void> {
    if (this.settings.evictsStale) await evictFromSlot(this.connection, this.slotName, this.logger)
    const { clock, connection, slotName } = this
    const { slotWaitMs: waitMs } = this.settings
    for (;;) {
      const pid = await waitForSlot(connection, slotName, { waitMs, clock }).then(() => null, unlessHeldUp)
      if (pid === null) return
      const work = { pid, what: `server process ${pid}, which still has slot "${slotName}",`, tables: [] }
      const isSame = async () => (await this.slot())?.activePid === pid && (await whomItWaitsFor(connection, pid)) !== null
      await this.sourceWaits.during(work, async () => {
        while (await isSame()) await clock.sleep(HELD_SLOT_LOOK_MS)
      })
    }
  }

  /** Where source and slot are, without disturbing the source. */
  async position(): Promise<SourcePosition> {
    return readPosition(this.connection, this.slotName)
  }

  /** Writes a few bytes to the log of a quiet database, so that its slot moves on. False where the user may not write. */
  async heartbeat(): Promise<boolean> {
    return heartbeat(this.connection)
  }

  /**
   * An LSN that covers every transaction committed before the call, asynchronous commits included. The open stream gets a watermark at or
   * beyond it soon, even if the source is idle: where its log ends in something not flushed, a small message is written to it.
   */
  async currentLsn(): Promise<Lsn> {
    const lsn = await reachableLsn(this.connection, this.clock)
    const stream = this.stream
    if (stream && stream.sourceLsn < lsn) stream.requestReply()
    return lsn
  }

  /**
   * Streams the prepared tables. The server starts at `after`, or at what the slot has acknowledged where that is later. With a log, what that has after
   * `after` comes first, and the server goes on where it ends; what the server sends is appended to it. Throws `invalid`/`PG_CHANGES_LOST` where the slot
   * has let go of what comes next, and `invalid`/`PG_DIVERGED` where the server's history is another than the one that was read. Aborting ends the stream as
   * `close` does.
   */
  open(after: Lsn, signal: AbortSignal): Promise<ReplicationStream>
  open(after: Lsn, signal: AbortSignal, log?: ChangeLog, resume?: readonly ResumePoint[]): Promise<ReplicationStream | LoggedStream>
  async open(
    after: Lsn,
    signal: AbortSignal,
    log?: ChangeLog,
    resume: readonly ResumePoint[] = [],
  ): Promise<ReplicationStream | LoggedStream> {
    if (this.stream) await this.stream.close()
    const throughLsns = resume.map(({ throughLsn }) => throughLsn)
    this.history.reached([after, log?.status.range?.endLsn ?? 0n, this.stream?.sourceLsn ?? 0n, ...throughLsns].reduce(maxLsn))
    await this.connection.renew()
    const slot = await this.slot()
    if (!slot) {
      throw new MoonlinkError(
        'invalid',
        'PG_SLOT_MISSING',
        `slot "${this.slotName}" is not there, so changes may be missing. Copy the tables again (it is made by prepare).`,
        { context: { slot: this.slotName } },
      )
    }
    checkSlot(this.slotName, slot, this.facts.database)
    const shapes = new StreamShapes(this.prepared.values(), resume, await this.catalogOptions(), (name) => this.prepared.get(name), after)
    this.shapes = shapes
    shapes.form = streamForm(shapes.all())
    const decoder = this.decoder(after, shapes, await this.isTold())
    const answer: ReplicationOptions['answer'] = async (question, abandoned) => {
      const look = () => lookAtCatalog(this.connection, question, this.clock, abandoned)
      return shapes.infer(question, await explained('looking at a changed table', look, () => null))
    }
    const begin = { decoder, answer, form: shapes.form, signal }
    if (log === undefined) return (this.stream = await this.openStream({ ...begin, after }))
    await log.sync()
    const { range } = log.status
    const isReplayed = range !== null && range.startLsn <= after && after < range.endLsn
    const from = isReplayed ? range.endLsn : after
    checkNothingLost(this.slotName, slot, from)
    const connect = () => this.openStream({ ...begin, after: from, log })
    const { batchBytes } = this.settings
    this.stream = isReplayed ? new LoggedStream({ log, decoder, answer, after, batchBytes, connect }) : await connect()
    return this.stream
  }

  /** Copies prepared tables at one LSN. Waits until transactions that are running have ended. */
  async copy(tables: readonly SourceTable[], signal: AbortSignal): Promise<SnapshotCopy> {
    for (const { table } of tables) {
      if (!this.prepared.has(formatTableName(table))) {
        throw new MoonlinkError(
          'invalid',
          'PG_NOT_PREPARED',
          `${formatTableName(table)} is not published yet: changes after its copy would be lost. Prepare it first.`,
        )
      }
    }
    if (!(await this.slot()))
      throw new MoonlinkError(
        'invalid',
        'PG_NOT_PREPARED',
        `slot "${this.slotName}" is not there: changes after the copy would be lost. Prepare the tables first.`,
      )
    const names = tables.map(({ table }) => table)
    if (remembersPartitions(this.facts)) await this.publishPartitionsAnew(names)
    const { clock, connector, connection, settings, sourceWaits: waits, logger } = this
    const describe = async () => {
      const described = await this.describe(names)
      for (const table of described) this.baselines.copied(table)
      const options = await this.catalogOptions()
      return described.map((now, index) => asExpected(now, tables[index], options))
    }
    return SnapshotCopy.open({ connector, connection, settings, waits, logger, clock }, names, describe, signal)
  }

  /** The database as it is at one LSN, for comparing it with the mirror there. Waits until transactions that are running have ended; for a lock as long as a copy does. */
  async snapshot(): Promise<SourceSnapshot> {
    return SourceSnapshot.open(this.connector, this.connection, this.settings, this.sourceWaits)
  }

  /** What waits for other transactions of the source now: copies, comparisons, a new slot. */
  waits(): readonly SourceWait[] {
    return this.sourceWaits.all
  }

  /** How many values did not fit the column that mirrors them, of each prepared table's columns whose policy lets the table go on. */
  unfitValues(table: TableName): readonly UnfitValues[] {
    const columns = this.prepared.get(formatTableName(table))?.columns ?? []
    return columns.flatMap(({ name, unfit }) =>
      unfit && unfit.counter.count > 0 ? [{ column: name, action: unfit.action, values: unfit.counter.count }] : [],
    )
  }

  /** Where each field of a prepared table comes from, by its id: as it is mirrored in that shape, or as the catalog has it. */
  fieldSources(table: TableName, shape?: TableShape): ReadonlyMap<number, FieldSource> {
    const restored = shape && this.lastOptions && restoreShape(table, shape, this.lastOptions)
    return fieldSources((restored ?? this.prepared.get(formatTableName(table)))?.columns ?? [])
  }

  /** The shape that a mirror had, from what it kept of it; null where that leads nowhere, as after a change of type rules. */
  async restore(table: TableName, sourceState: string): Promise<TableShape | null> {
    const state = decodeSourceState(sourceState)
    if (state === null) return null
    try {
      const { schema } = describeShape(table, state.relation, await this.catalogOptions(), new FieldIds(state.ids))
      return { schema, sourceState }
    } catch (error) {
      if (isMoonlinkError(error, 'invalid')) return null
      throw error
    }
  }

  /**
   * The shape that a mirror has to take on to be like the table as the catalog has it now, and whether that is another table under the same name. Throws the
   * reason where the table can't be mirrored.
   */
  async evolved(table: TableName, known: TableShape): Promise<EvolvedTable> {
    const [{ relation }] = await this.describe([table])
    const { schema, sourceState } = evolveShape(table, known, relation, await this.catalogOptions()).mapped
    const before = decodeSourceState(known.sourceState)
    const isAnew = before !== null && before.relation.oid !== relation.oid
    return { shape: { schema, sourceState }, isAnew, mark: markOf(relation) }
  }

  /** What the source calls a table now, by what its mirror kept of it; null where it is not there any more, or nothing was kept. */
  async nameNow({ sourceState }: TableShape): Promise<TableName | null> {
    const state = decodeSourceState(sourceState)
    return state === null ? null : nameOfTable(this.connection, state.relation.oid)
  }

  /**
   * The condition, in SQL over its columns, that rows of a prepared table fulfil to be published; null where all are. Waits for who locks the table, on the
   * snapshot's connection. Throws `retry`/`PG_PUBLICATION_CHANGED` where the snapshot has another filter by now.
   */
  async rowFilter(table: TableName, snapshot: Pick<SourceSnapshot, 'rows'>): Promise<string | null> {
    const filterOid = this.prepared.get(formatTableName(table))?.filterOid ?? null
    if (filterOid === null) return null
    return (await snapshot.rows(rowFilterSql(filterOid)))[0]?.[0] ?? refuseFilterGone(table)
  }

  /** What became of the prepared tables' publication since they were prepared, or last copied, and which tables came into a given one since the last call. */
  async publicationChanges(): Promise<PublicationChange[]> {
    const isTold = await this.isTold()
    const relationOf = (table: TableName) => (isTold ? null : (this.shapes?.relationOf(table) ?? null))
    return this.baselines.changes(this.connection, await this.catalogOptions(), relationOf)
  }

  /** Removes what `prepare` made: the slot, then the publications. One that somebody else made stays. */
  async uninstall(): Promise<void> {
    await this.stream?.close()
    await this.waitForSlot()
    await dropSlot(this.connection, this.slotName)
    const { main, append } = await this.publications()
    await dropPublication(this.connection, main)
    await dropPublication(this.connection, append)
    this.prepared = new Map()
  }

  /** Ends the stream and the connections. Slot and publications stay. */
  async close(): Promise<void> {
    await this.stream?.close()
    await this.connection.close()
  }

  private async describe(tables: readonly TableName[]): Promise<DescribedTable[]> {
    if (tables.length === 0) return []
    const found = new Map(
      (await describeTables(this.connection, await this.catalogOptions(), tables)).map((entry) => [formatTableName(entry.table), entry]),
    )
    return tables.map((table) => {
      const entry = found.get(formatTableName(table))!
      if ('refusal' in entry) throw entry.refusal
      return entry.described
    })
  }

  private waitForSlot(): Promise<void> {
    return waitForSlot(this.connection, this.slotName, { waitMs: this.settings.slotWaitMs, clock: this.clock, stale: this.walSender })
  }

  private async publishPartitionsAnew(tables: readonly TableName[]): Promise<void> {
    const publications = await this.publications()
    for (const { partitions, table } of await this.describe(tables))
      if (partitions !== null) await publishAnew(this.connection, publications, table, this.settings.copyLockTimeoutMs)
  }

  private openStream(begin: StreamBegin): Promise<ReplicationStream> {
    const { clock, connection, connector, facts, history, settings } = this
    return openStream(
      {
        clock,
        connection,
        connector,
        history,
        settings,
        versionNumber: facts.versionNumber,
        publications: () => this.publications(),
        stale: this.walSender,
        onConnected: (process) => (this.walSender = process),
        onFailure: ({ code }) => {
          this.isSlotBlind ||= code === 'PG_PUBLICATION_MISSING'
        },
      },
      begin,
    )
  }

  /** Whether event triggers tell of schema changes. */
  private async isTold(): Promise<boolean> {
    const [{ isTold }] = await this.connection.rows<{ isTold: boolean }>(`SELECT ${TOLD_SINCE} IS NOT NULL AS "isTold"`)
    return isTold
  }

  private decoder(after: Lsn, shapes: StreamShapes, isTold: boolean): StreamDecoder {
    const { spoolDirectory, spoolMemoryBytes } = this.settings
    return new StreamDecoder({
      resolve: (relation) => shapes.resolve(relation),
      alterations: shapes,
      // What triggers tell need not be asked for.
      asks: (fits, table) => !fits || !isTold || !shapes.isTold(table),
      startLsn: after,
      // Past `batchBytes` the socket is not read: what is held then has to be there for the taking.
      openTransactionBytes: Math.min(DEFAULT_OPEN_TRANSACTION_BYTES, this.settings.batchBytes),
      skipThrough: (table) => maxLsn(after, shapes.throughOf(table)),
      spoolMemoryBytes,
      ...(spoolDirectory === undefined ? {} : { spoolFiles: new LocalSpoolFiles(spoolDirectory) }),
    })
  }

  private publications(): Promise<Publications> {
    return readPublications(this.connection, this.facts.versionNumber, this.publicationName, appendPublication(this.settings))
  }

  private async catalogOptions(): Promise<CatalogOptions> {
    const { excludeColumns, appendOnly, types, columns, onUnfit } = this.settings
    return (this.lastOptions = {
      excludeColumns,
      appendOnly,
      publications: await this.publications(),
      versionNumber: this.facts.versionNumber,
      mapping: { policy: { types, columns, onUnfit }, server: this.serverTypes, counters: this.unfitCounters },
    })
  }
}
