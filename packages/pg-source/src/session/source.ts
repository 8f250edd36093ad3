import {
  formatTableName,
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
import { fieldSources, type FieldSource, type ServerTypes } from '../types/index.ts'
import { lookAtCatalog } from './catalog-look.ts'
import type { DescribedTable, TableListing } from './catalog.ts'
import { parseConfig, type PgSourceConfig, type PgSourceSettings } from './config.ts'
import { CatalogConnection, Connector, explained } from './connect.ts'
import { SnapshotCopy } from './copy.ts'
import { asExpected } from './expected-shape.ts'
import { LoggedStream } from './logged-stream.ts'
import { MirrorPublications } from './mirror-publications.ts'
import { MirrorSlot } from './mirror-slot.ts'
import { checkHistory, openStream, streamDecoder, type StreamBegin } from './open-stream.ts'
import { heartbeat, readPlace, readPosition, reachableLsn, type SourcePosition } from './position.ts'
import { preflight, type ServerFacts } from './preflight.ts'
import { lockedTables, remembersPartitions } from './publication.ts'
import { PublicationBaselines } from './publication-baselines.ts'
import type { PublicationChange } from './publication-changes.ts'
import type { ReplicationOptions, ReplicationStream } from './replication-stream.ts'
import { refuseFilterGone, rowFilterSql } from './row-filter.ts'
import { checkCluster, FollowedHistory } from './server-history.ts'
import { readServerTypes } from './server-types.ts'
import { checkNothingLost, type SlotState } from './slot.ts'
import { SourceCatalog, type EvolvedTable } from './source-catalog.ts'
import { sourceNotes } from './source-notes.ts'
import { SourceSnapshot } from './source-snapshot.ts'
import { SourceWaits, type SourceWait } from './source-waits.ts'
import { streamForm } from './stream-form.ts'
import { StreamShapes } from './stream-shapes.ts'

const DEFAULT_LOCK_TIMEOUT_MS = 5000

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

/** What `uninstall` found and removed. */
export interface Uninstalled {
  /** The slot; null where there was none. */
  readonly slot: string | null
  /** The publications that `prepare` had made. */
  readonly publications: readonly string[]
  /** The publication that was used and stays, since somebody else made it. */
  readonly keptPublications: readonly string[]
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
 * Connects to Postgres and checks that it can be mirrored. Makes nothing yet, and does not look at whether the slot is in use (`PgSource.waitUntilUnused`).
 *
 * Throws `retry` where trying again may help (`PG_UNREACHABLE`, `PG_STARTING` …) and `invalid` where something has to be changed
 * first (`PG_AUTH`, `PG_WAL_LEVEL`, `PG_REPLICATION_PRIVILEGE` …); the message is one line and says what. Once it is open, a login that is refused is `retry` too:
 * passwords and certificates are changed while we run.
 */
export async function openPgSource(config: PgSourceConfig, options: PgSourceOptions = {}): Promise<PgSource> {
  const settings = parseConfig(config)
  const connector = new Connector(settings)
  const connection = new CatalogConnection(connector)
  try {
    const facts = await preflight(connector, connection, settings)
    const serverTypes = await readServerTypes(connection, settings)
    connector.wasLetIn = true
    return new PgSource(settings, connector, connection, facts, serverTypes, options)
  } catch (error) {
    await connection.close()
    throw error
  }
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
  /** What is worth knowing of the server and how it is mirrored, a line each; the logger was told. */
  readonly notes: readonly string[]
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
  private readonly catalog: SourceCatalog
  private readonly publications: MirrorPublications
  private readonly mirrorSlot: MirrorSlot
  private prepared: ReadonlyMap<string, DescribedTable> = new Map()
  private stream: ReplicationStream | LoggedStream | null = null
  private shapes: StreamShapes | null = null

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
    this.slotName = settings.slot
    this.publicationName = settings.publication
    this.notes = sourceNotes(facts, settings)
    this.logger = options.logger ?? silentLogger
    for (const note of this.notes) this.logger.warn(note)
    this.clock = options.clock ?? systemClock
    this.sourceWaits = new SourceWaits(connection, this.logger, systemClock)
    this.history = new FollowedHistory(facts.systemId, this.logger)
    this.baselines = new PublicationBaselines(settings.publication)
    const shared = { connector, connection, settings, facts }
    this.catalog = new SourceCatalog({ connection, settings, serverTypes, versionNumber: facts.versionNumber })
    this.publications = new MirrorPublications(shared)
    this.mirrorSlot = new MirrorSlot({ ...shared, waits: this.sourceWaits, logger: this.logger, clock: this.clock })
    connection.onOpen = (client) => checkCluster(client, facts.systemId)
  }

  /**
   * Every ordinary, partitioned and foreign table of the database outside system schemas, or whatever is called one of `only`; each with the
   * schema that it is mirrored with, or the reason why it can't be. Where all are listed, notes show the texts of row filters, unless another session locks one of the tables.
   */
  async listTables(only?: readonly TableName[]): Promise<TableListing[]> {
    return this.catalog.list(only)
  }

  /**
   * Makes the publications publish exactly these tables, and the slot if it is not there. Existing ones are altered, never made anew. Throws the
   * reason of the first table that can't be mirrored, and `retry`/`PG_LOCK_TIMEOUT` where another session keeps one to be published locked for `lockTimeoutMs`, unless
   * `leavesOutLocked`: those are left out then.
   */
  async prepare(tables: readonly TableName[], lockTimeoutMs = DEFAULT_LOCK_TIMEOUT_MS, leavesOutLocked = false): Promise<Prepared> {
    const { described, options } = await this.catalog.describe(tables)
    if (streamForm(described) === 'text') {
      const columns = described.flatMap(({ table, streamForms }) => streamForms.map(({ column }) => `${formatTableName(table)}.${column}`))
      this.logger.warn('the whole stream comes as text, which takes longer: the binary form of some types is not known here', { columns })
    }
    if (options.publications.main === null) {
      this.baselines.refuseToReplaceGiven()
      this.mirrorSlot.publicationIsMissing()
    }
    // The publication first: a slot decodes with the catalog as it was, and one made earlier would not find it.
    const locked = await this.publications.ensure(described, options.publications, lockTimeoutMs)
    const leftOut = locked.map(({ table }) => table)
    if (locked.length > 0 && !leavesOutLocked) throw lockedTables(leftOut, this.publicationName)
    const published = described.filter((table) => !locked.includes(table))
    this.prepared = new Map(published.map((table) => [formatTableName(table.table), table]))
    this.baselines.prepared(this.prepared, await this.catalog.publications(), this.settings.appendOnly)
    return { ...(await this.mirrorSlot.ensure()), locked: leftOut }
  }

  /**
   * Publishes one table more, beside what is prepared: its changes are passed over until it is, too. Returns null once it is published; where another session's lock keeps it from that,
   * who has it and what ends that. Waits for nobody who is known to have one. Throws the reason where the table can't be mirrored.
   */
  async publish(table: TableName): Promise<string | null> {
    const { described, options } = await this.catalog.describe([table])
    return this.publications.add(described[0], options.publications)
  }

  /** Whether a table is published that `prepare` was to take out of the publication, and could not for another session's lock. */
  get publishesTooMuch(): boolean {
    return this.publications.publishTooMuch
  }

  /** Takes such tables out of the publication; those that are still locked stay, and are not waited for. Not while `prepare` runs. */
  async unpublish(): Promise<void> {
    if (this.publishesTooMuch) await this.publications.dropLeftBehind(await this.catalog.publications())
  }

  /** The slot as the server shows it, or null where there is none. */
  async slot(): Promise<SlotState | null> {
    return this.mirrorSlot.state()
  }

  /**
   * Waits up to `slotWaitMs` until nobody streams from the slot, and for as long as who does waits for a lock: that may be a connection of ours that was cut off. Throws
   * `retry`/`PG_SLOT_IN_USE`, naming who does.
   */
  async waitUntilUnused(): Promise<void> {
    await this.mirrorSlot.waitUntilUnused()
  }

  /** Where source and slot are, without disturbing the source. */
  async position(): Promise<SourcePosition> {
    return readPosition(this.connection, this.slotName)
  }

  /** Where the source is, for tables that begin as its catalog has them now: what streams after that is checked to have it. */
  async asOfLsn(): Promise<Lsn> {
    const { lsn, timeline } = await readPlace(this.connection)
    this.history.looked(timeline, lsn)
    return lsn
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
    this.history.reached(this.stream?.sourceLsn ?? 0n)
    this.history.resumes(after, log, resume)
    await this.connection.renew()
    const slot = await this.mirrorSlot.usable()
    const shapes = new StreamShapes(this.prepared.values(), resume, await this.catalog.options(), (name) => this.prepared.get(name), after)
    this.shapes = shapes
    shapes.form = streamForm(shapes.all())
    const { streamedPartitions } = this.baselines
    const decoder = streamDecoder(this.settings, shapes, after, await this.catalog.isTold(), streamedPartitions)
    streamedPartitions.position = () => decoder.position
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
    // Where nobody knows which history was read, its length alone tells it from a server's, and that grows while the log is replayed. What a table has of another than the log's, it goes on from only where the
    // server has that, too.
    if (isReplayed && this.history.certainTimeline === null) await checkHistory(this.connector, this.history)
    const connect = () => this.openStream({ ...begin, after: from, log })
    const { batchBytes } = this.settings
    this.stream = isReplayed ? new LoggedStream({ log, decoder, answer, after, batchBytes, connect }) : await connect()
    return this.stream
  }

  /** Copies prepared tables at one LSN. Waits until transactions that are running have ended. */
  async copy(tables: readonly SourceTable[], signal: AbortSignal): Promise<SnapshotCopy> {
    const lacking = tables.find(({ table }) => !this.prepared.has(formatTableName(table)))
    if (lacking !== undefined) {
      throw notPrepared(lacking.table)
    }
    // Changes after the copy would be lost.
    await this.mirrorSlot.usable()
    const names = tables.map(({ table }) => table)
    if (remembersPartitions(this.facts)) {
      const { described, options } = await this.catalog.describe(names)
      await this.publications.publishPartitionsAnew(described, options.publications, this.logger)
    }
    const { clock, connector, connection, history, settings, sourceWaits: waits, logger } = this
    const describe = async () => {
      const lsn = await this.currentLsn()
      const { described, options } = await this.catalog.describe(names)
      for (const table of described) this.baselines.copied(table, lsn)
      return described.map((now, index) => asExpected(now, tables[index], options))
    }
    return SnapshotCopy.open({ connector, connection, history, settings, waits, logger, clock }, names, describe, signal)
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
    const restored = shape && this.catalog.restored(table, shape)
    return fieldSources((restored ?? this.prepared.get(formatTableName(table)))?.columns ?? [])
  }

  /** The shape that a mirror had, from what it kept of it; null where that leads nowhere, as after a change of type rules. */
  async restore(table: TableName, sourceState: string): Promise<TableShape | null> {
    return this.catalog.restore(table, sourceState)
  }

  /**
   * The shape that a mirror has to take on to be like the table as the catalog has it now, and whether that is another table under the same name. Throws the
   * reason where the table can't be mirrored.
   */
  async evolved(table: TableName, known: TableShape): Promise<EvolvedTable> {
    return this.catalog.evolved(table, known)
  }

  /** What the source calls a table now, by what its mirror kept of it; null where it is not there any more, or nothing was kept. */
  async nameNow(shape: TableShape): Promise<TableName | null> {
    return this.catalog.nameNow(shape)
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
    const isTold = await this.catalog.isTold()
    const shapeOf = (table: TableName) => (isTold ? null : (this.shapes?.relationOf(table) ?? null))
    return this.baselines.changes(this.connection, await this.catalog.options(), { shapeOf, currentLsn: () => this.currentLsn() })
  }

  /** Removes what `prepare` made: the slot, then the publications. One that somebody else made stays. Returns what was there to be removed. */
  async uninstall(): Promise<Uninstalled> {
    await this.stream?.close()
    const slot = (await this.mirrorSlot.drop()) ? this.settings.slot : null
    const { dropped, kept } = await this.publications.drop(await this.catalog.publications())
    this.prepared = new Map()
    return { slot, publications: dropped, keptPublications: kept }
  }

  /** Ends the stream and the connections. Slot and publications stay. */
  async close(): Promise<void> {
    await this.stream?.close()
    await this.connection.close()
    this.connector.close()
  }

  private openStream(begin: StreamBegin): Promise<ReplicationStream> {
    const { catalog, clock, connection, connector, facts, history, mirrorSlot: slot, settings } = this
    const publications = () => catalog.publications()
    return openStream({ clock, connection, connector, history, settings, slot, publications, versionNumber: facts.versionNumber }, begin)
  }
}

function notPrepared(lacking: TableName): MoonlinkError {
  const table = formatTableName(lacking)
  const message = `${table} is not published yet: changes after its copy would be lost. Prepare it first.`
  return new MoonlinkError('invalid', 'PG_NOT_PREPARED', message, { context: { table } })
}
