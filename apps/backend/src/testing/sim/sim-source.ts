import {
  formatLsn,
  formatTableName,
  MoonlinkError,
  type ChangeLog,
  type ChangeStream,
  type CopyRange,
  type Logger,
  type Lsn,
  type ResumePoint,
  type SourceTable,
  type TableCopy,
  type TableName,
  type TableShape,
  type TakeCopied,
} from '@moonlink/core'
import { FollowedHistory, type HistoryServer } from '@moonlink/pg-source'
import type { ListedSourceTable, PublicationChange, SourceHandle, SourceIdentity, SourcePosition } from '../../service/parts.ts'
import { PAGES, TABLES, type SimDatabase } from './sim-database.ts'
import type { SimProcess } from './sim-process.ts'
import { batchOf, tableNameOf } from './sim-rows.ts'
import { SimStream } from './sim-stream.ts'

/** Of two pages, the last without an end. */
const PAGE_RANGES: readonly CopyRange[] = [
  { from: 0, to: 2 },
  { from: 2, to: 4 },
  { from: 4, to: null },
]

const IN_USE_POLLS = 20
const POLL_MS = 500

const isIn = ({ from, to }: CopyRange, page: number) => from <= page && (to === null || page < to)

/** The one stream that a slot has at a time. */
export class SimSlot {
  stream: SimStream | null = null
  owner: SimProcess | null = null
}

export interface SimSourceOptions {
  readonly database: SimDatabase
  readonly slot: SimSlot
  readonly process: SimProcess
  /** It takes over from another process: whoever still uses the slot is a stale one. */
  readonly evictsStale: boolean
  /** As in `SimProfile`. */
  readonly transactionBytes: number
  /** Told of each table that a copy begins to read, and of each range, with how many need not be read any more. */
  readonly onCopy: (table: string) => void
  readonly onRangeRead: (done: number) => void
  readonly logger: Logger
}

/** A database and its slot, as one process uses them. */
export class SimSource implements SourceHandle {
  readonly identity: SourceIdentity = {
    systemIdentifier: '1',
    database: 'sim',
    serverVersion: 'sim',
    slot: 'moonlink',
    publication: 'moonlink',
  }
  readonly history: FollowedHistory
  readonly notes = []
  private readonly options: SimSourceOptions
  /** Tables that are published, as they were then. */
  private prepared: ReadonlyMap<string, TableShape> = new Map()
  /** The last one that was opened. */
  private stream: SimStream | null = null

  constructor(options: SimSourceOptions) {
    this.options = options
    this.history = new FollowedHistory(this.identity.systemIdentifier, options.logger)
  }

  listTables(only?: readonly TableName[]): Promise<readonly ListedSourceTable[]> {
    const { database } = this.options
    return this.ask('the list of tables', () =>
      (only?.map(formatTableName) ?? TABLES.filter((name) => database.shapeOf(name) !== null)).map((name) => {
        const shape = database.shapeOf(name)
        const refusal = shape === null ? { code: 'TABLE_UNKNOWN', reason: `the database has no table ${name}` } : null
        const { schema = null, sourceState = null } = shape ?? {}
        return { table: tableNameOf(name), schema, sourceState, appendOnly: false, refusal, notes: [] }
      }),
    )
  }

  prepare(tables: readonly TableName[]) {
    return this.ask('the slot', () => {
      this.prepared = new Map(tables.map(formatTableName).map((name) => [name, this.shapeOf(name)]))
      return { slotLsn: this.options.database.ensureSlot(), locked: [] }
    })
  }

  async publish() {
    return null
  }

  async waitUntilUnused(): Promise<void> {
    const { evictsStale, process, slot } = this.options
    for (let polls = 0; ; polls++) {
      if (await this.ask('the slot', () => !this.isUsed)) return
      if (evictsStale) {
        slot.stream!.end()
        slot.stream = null
        return
      }
      if (polls === IN_USE_POLLS) throw this.inUse()
      await process.clock.sleep(POLL_MS)
    }
  }

  async open(after: Lsn, signal: AbortSignal, log?: ChangeLog, resume: readonly ResumePoint[] = []): Promise<ChangeStream> {
    const { database, process, slot, transactionBytes } = this.options
    await this.stream?.close()
    this.history.reached(this.stream?.sourceLsn ?? 0n)
    this.history.resumes(after, log, resume)
    await this.ask('the slot', () => this.requireSlot())
    if (this.isUsed && slot.owner !== process) throw this.inUse()
    await log?.sync()
    const range = log?.status.range ?? null
    const isReplayed = range !== null && range.startLsn <= after && after < range.endLsn
    const from = isReplayed ? range.endLsn : after
    this.checkNothingLost(from)
    if (isReplayed && this.history.certainTimeline === null) await this.history.follow(this.historyServer)
    slot.stream?.end()
    slot.owner = process
    const connect = () => this.connect(from)
    const stream = new SimStream({ database, process, log: log ?? null, transactionBytes, after, from, resume, connect, signal })
    slot.stream = this.stream = stream
    try {
      if (!isReplayed) await stream.begin()
    } catch (error) {
      stream.end()
      if (slot.stream === stream) slot.stream = null
      throw error
    }
    return stream
  }

  async copy(tables: readonly SourceTable[]): Promise<TableCopy> {
    const { database } = this.options
    const timeline = await this.history.beginCopy(this.historyServer)
    const copy = await this.ask('a copy', () => {
      this.requireSlot()
      if (database.timeline !== timeline) throw gone()
      for (const { table, schema } of tables) {
        const name = formatTableName(table)
        if (JSON.stringify(schema) !== JSON.stringify(this.shapeOf(name).schema))
          throw new MoonlinkError('conflict', 'PG_SCHEMA_CHANGED', `${name} was changed since it was looked at.`, {
            context: { table: name },
          })
        this.options.onCopy(name)
      }
      return this.copyNow(database.endLsn)
    })
    this.history.copied(timeline, copy.boundaryLsn)
    return copy
  }

  get publishesTooMuch() {
    return false
  }

  async unpublish() {}

  unfitValues() {
    return []
  }

  fieldSources() {
    return new Map()
  }

  nameNow() {
    return this.ask('the catalog', () => null)
  }

  async rowFilter() {
    return null
  }

  async restore(table: TableName, sourceState: string): Promise<TableShape | null> {
    return this.options.database.shapes.get(formatTableName(table))!.ofState(sourceState)
  }

  evolved(table: TableName, known: TableShape) {
    return this.ask('the catalog', () => {
      const name = formatTableName(table)
      const shape = this.shapeOf(name)
      const isAnew = known.sourceState !== null && this.options.database.oidOf(name, known) !== this.options.database.oidOf(name, shape)
      return { shape, isAnew, mark: String(shape.sourceState) }
    })
  }

  publicationChanges(): Promise<readonly PublicationChange[]> {
    const { database } = this.options
    return this.ask('the publication', () =>
      [...this.prepared].flatMap(([name, shape]): PublicationChange[] => {
        const table = tableNameOf(name)
        const now = database.shapeOf(name)
        if (now === null) return [{ kind: 'refused', table, code: 'TABLE_DROPPED', reason: 'it is not there any more' }]
        return database.oidOf(name, now) === database.oidOf(name, shape) ? [] : [{ kind: 'changed', table, reason: 'it was made anew' }]
      }),
    )
  }

  publicationMark() {
    return ''
  }

  resumeMarks(): void {}

  isRepublished() {
    return false
  }

  snapshot(): Promise<never> {
    throw new Error('nothing is verified in a simulation')
  }

  waits() {
    return []
  }

  heartbeat() {
    return this.ask('a heartbeat', () => false)
  }

  position(): Promise<SourcePosition> {
    const { database } = this.options
    return this.ask('the position', () => ({
      sourceLsn: database.endLsn,
      confirmedFlushLsn: database.forgotten,
      retainedBytes: 0,
      slot: database.forgotten === null ? null : this.slotState(),
    }))
  }

  asOfLsn(): Promise<Lsn> {
    const { database } = this.options
    return this.ask('the position', () => {
      const { endLsn, timeline } = database
      this.history.looked(timeline, endLsn)
      database.told(endLsn)
      return endLsn
    })
  }

  currentLsn(): Promise<Lsn> {
    return this.ask('the position', () => this.options.database.endLsn)
  }

  async uninstall() {
    return { slot: null, publications: [], keptPublications: [] }
  }

  async close(): Promise<void> {}

  private inUse(): MoonlinkError {
    const error = new MoonlinkError('retry', 'PG_SLOT_IN_USE', 'the slot is used by another backend.')
    this.options.process.met.add(error.code)
    return error
  }

  /** Throws where the slot is not there, or of no use. */
  private requireSlot(): void {
    const { forgotten, isInvalidated } = this.options.database
    if (forgotten === null) throw new MoonlinkError('invalid', 'PG_SLOT_MISSING', 'the slot is not there.')
    if (isInvalidated) throw new MoonlinkError('invalid', 'PG_SLOT_LOST', 'the slot was invalidated.')
  }

  private checkNothingLost(after: Lsn): void {
    const { forgotten } = this.options.database
    if (forgotten === null || forgotten <= after) return
    const message = `the slot has let go of everything up to ${formatLsn(forgotten)}, and what comes after ${formatLsn(after)} is in no log.`
    throw new MoonlinkError('invalid', 'PG_CHANGES_LOST', message)
  }

  /** A connection for a stream; returns the timeline that it is on. */
  private async connect(from: Lsn): Promise<number> {
    const { database } = this.options
    await this.history.follow(this.historyServer)
    return this.ask('the slot', () => {
      this.requireSlot()
      this.checkNothingLost(from)
      return database.timeline
    })
  }

  private slotState() {
    const { isInvalidated } = this.options.database
    return { walStatus: isInvalidated ? 'lost' : 'reserved', headroomBytes: null, invalidationReason: isInvalidated ? 'wal_removed' : null }
  }

  private get historyServer(): HistoryServer {
    const { database } = this.options
    const { systemIdentifier: systemId } = this.identity
    return {
      place: () => this.ask('its place', () => ({ systemId, timeline: database.timeline, flushLsn: database.endLsn })),
      timelineHistory: () => this.ask('its history', () => database.history),
    }
  }

  private get isUsed(): boolean {
    const { process, slot } = this.options
    return slot.stream !== null && slot.owner !== null && slot.owner !== process && slot.owner.isAlive
  }

  /** Throws where there is no table. */
  private shapeOf(name: string): TableShape {
    const shape = this.options.database.shapeOf(name)
    if (shape !== null) return shape
    throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `the database has no table ${name}`, { context: { table: name } })
  }

  private ask<T>(what: string, answer: () => T): Promise<T> {
    return this.options.process.unreliably(what, async () => answer())
  }

  private copyNow(boundaryLsn: Lsn): TableCopy {
    const { database, onRangeRead } = this.options
    const { timeline } = database
    database.told(boundaryLsn)
    const rows = new Map(TABLES.map((name) => [name as string, [...database.rowsOf(name)]]))
    const schemas = new Map(TABLES.map((name) => [name as string, database.shapeOf(name)?.schema]))
    const storages = new Map(TABLES.map((name) => [name as string, database.storageOf(name)]))
    const read = async (
      table: TableName,
      ranges: readonly CopyRange[],
      from: Lsn,
      take: TakeCopied,
      finished?: (range: CopyRange) => Promise<void>,
    ) => {
      const name = formatTableName(table)
      for (const range of ranges) {
        const found = await this.ask(`rows of ${name}`, () => {
          if (database.timeline !== timeline) throw gone()
          return rows.get(name)!.filter((row) => isIn(range, database.placeOf(row).page) && database.placeOf(row).lsn > from)
        })
        if (found.length > 0) await take(batchOf(schemas.get(name)!, found), range)
        await finished?.(range)
      }
    }
    return {
      boundaryLsn,
      table: (table) => ({
        estimatedRows: null,
        pages: PAGES,
        pageBytes: 100,
        storage: storages.get(formatTableName(table))!,
        horizon: String(boundaryLsn),
      }),
      read: (table, take, { done = [], finished } = {}) => {
        const left = PAGE_RANGES.filter(({ from }) => !done.some((range) => isIn(range, from)))
        return read(table, left, 0n, take, async (range) => {
          await finished?.(range)
          onRangeRead(done.length)
        })
      },
      readChanged: (table, ranges, horizon, take) => read(table, ranges, BigInt(horizon), take),
      close: async () => undefined,
    }
  }
}

const gone = () => new MoonlinkError('retry', 'PG_CONNECTION_LOST', 'the server is gone.')
