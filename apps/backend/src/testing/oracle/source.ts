import pg from 'pg'
import { formatLsn, parseLsn, type Lsn } from '@moonlink/core'
import { typeDefinitions } from './types.ts'
import { publishedSql, tableDefinition, type OracleTable } from './tables.ts'
import type { Statement } from './operations.ts'
import { NO_TRACES, Session, type Changes, type Traces } from './session.ts'
import { noticedAgain, UntoldChanges } from './untold.ts'

/** What a table shows: each row as JSON of its cells in Postgres' own text, in code unit order. */
export type TableRows = readonly string[]

/** What one table showed. */
export interface TableState {
  /** Its columns and key then. */
  readonly table: OracleTable
  /** Null where nobody could look. */
  readonly rows: TableRows | null
  /** Where no trigger tells of changes of schema: what it showed before one that no row has followed yet. */
  readonly before: TableState | null
  /** Nothing has told of that change: what it showed before is shown still. */
  readonly isUntold: boolean
}

/** What the tables showed from the end of a commit on, until the next. */
export interface Moment {
  /** Before the commit: up to here the tables show what they showed before. */
  readonly before: Lsn
  /** After the commit: from here on they show `rows`. */
  readonly after: Lsn
  readonly tables: ReadonlyMap<string, TableState>
  /** Several commits rather than one: what was shown between them is not known. */
  readonly isBurst: boolean
}

const MAX_PREPARED = 4

/** Commits that the mirror may have to read a table again for: LSNs from there on may be refused, until it has. */
export interface Gap {
  readonly table: string
  readonly fromLsn: Lsn
  /** Until the mirror has noticed, nothing is known of what it shows. */
  readonly isSilent: boolean
  /** It may be noticed again, for no other reason: from here on the mirror may compare the table at any time. */
  isLasting: boolean
  /** It is lasting for what the catalog shows, which a start takes as it is then. */
  readonly endsWithStart: boolean
  /** Met amid a transaction that had changed rows before: nothing of the table is readable meanwhile that was not committed. */
  readonly isAmid: boolean
  /** From here on every LSN is shown again; null while it may not be. */
  settledLsn: Lsn | null
}

/** A transaction that no session holds any more. */
interface PreparedTransaction {
  readonly id: string
  changes: Changes
}

/** The tables of one run in Postgres, several sessions that change them, and what they showed after every commit. */
export class OracleSource {
  /** As others than their changers see them. */
  tables: readonly OracleTable[]
  readonly gaps: Gap[] = []
  readonly sessions: readonly Session[]
  readonly moments: Moment[] = []
  readonly prepared: PreparedTransaction[] = []
  /** Of a partitioned table, by a commit since the mirror started: it may not have written down yet how they are, and then reads the table again at its next start. */
  hasOtherPartitions = false
  /** Where no trigger tells of changes of schema: those that the mirror may not know of. */
  readonly #untold = new UntoldChanges()
  /** Of the server. */
  readonly major: number
  /** For looking on; it commits nothing that the tables show. */
  readonly observer: Session
  readonly #database: string
  readonly #trace: (line: string) => void
  /** Whether event triggers tell of changes of schema. */
  readonly #isTold: boolean
  #preparedSoFar = 0

  private constructor(
    tables: readonly OracleTable[],
    sessions: readonly Session[],
    observer: Session,
    { major, database, isTold }: { major: number; database: string; isTold: boolean },
    trace: (line: string) => void,
  ) {
    this.tables = tables
    this.sessions = sessions
    this.observer = observer
    this.major = major
    this.#database = database
    this.#isTold = isTold
    this.#trace = trace
  }

  static async connect(
    url: string,
    makeTables: (hasFilter: boolean) => readonly OracleTable[],
    sessionCount: number,
    isTold: boolean,
    trace: (line: string) => void,
  ): Promise<OracleSource> {
    const observer = await Session.connect(url, trace)
    const [[version, database]] = await observer.query(`SELECT current_setting('server_version_num'), current_database()`)
    const major = Math.floor(Number(version) / 10_000)
    const tables = makeTables(major >= 15)
    const sessions = await Promise.all(
      Array.from({ length: sessionCount }, (_, index) => Session.connect(url, (line) => trace(`${'\t'.repeat(index)}${index}: ${line}`))),
    )
    return new OracleSource(tables, sessions, observer, { major, database, isTold }, trace)
  }

  /** Makes the tables, and a publication of them where it is given. */
  async define(publication: string | null): Promise<void> {
    for (const definition of [...typeDefinitions, ...this.tables.flatMap(tableDefinition)]) await this.observer.run(definition)
    if (publication !== null) {
      const whole = this.tables.filter(({ identity }) => identity !== 'append-only')
      const list = whole.map(publishedSql).join(', ')
      await this.observer.run(`CREATE PUBLICATION ${publication} FOR TABLE ${list} WITH (publish_via_partition_root = true)`)
    }
    await this.#note(await this.lsn(), new Set(this.tables.map(({ name }) => name)), NO_TRACES, false)
  }

  get latest(): Moment {
    return this.moments.at(-1)!
  }

  /** Position of the source's log. */
  async lsn(): Promise<Lsn> {
    const [[lsn]] = await this.observer.query('SELECT pg_current_wal_insert_lsn()')
    return parseLsn(lsn)
  }

  /** Several commits, none of which changes a schema; `work` returns what each did. Nothing else may commit meanwhile. */
  async burst(work: () => Promise<readonly Traces[]>): Promise<void> {
    const before = await this.lsn()
    const all = await work()
    for (const traces of all) this.#noteNoticedAgain(before, traces)
    await this.#note(before, new Set(this.tables.map(({ name }) => name)), NO_TRACES, true)
    // A truncation may have come between a change of schema and the moment the mirror saw it.
    if (!this.#isTold) for (const traces of all) this.#noteUntold(before, traces)
  }

  /** A statement of a session, within its transaction or as one; notes what tables show where it commits. Whether it succeeded. */
  async statement(session: Session, statement: Statement): Promise<boolean> {
    if (session.isOpen) return session.statement(statement)
    const before = await this.lsn()
    const succeeded = await session.statement(statement)
    await this.#committed(before, session.takeChanges())
    return succeeded
  }

  /** Ends a session's transaction. */
  async commit(session: Session): Promise<void> {
    const { changes } = session
    const before = await this.lsn()
    await session.end('COMMIT')
    await this.#committed(before, changes)
  }

  /** Whether transactions are open, or prepared. */
  get isBusy(): boolean {
    return this.prepared.length > 0 || this.sessions.some(({ isOpen }) => isOpen)
  }

  /** Whether the server may send nothing until a transaction has ended. */
  get isHeldUp(): boolean {
    return [...this.prepared, ...this.sessions].some(({ changes }) => changes.holdsUp)
  }

  /** The commits that the mirror reads the table again for, or may be about to. */
  openGaps(table: string): Gap[] {
    return this.gaps.filter((gap) => gap.table === table && (gap.settledLsn === null || gap.isLasting))
  }

  /** What a table showed then; what of it the mirror shows is not settled within a gap. */
  stateAt({ tables }: Moment, table: string, lsn: Lsn | null): TableState {
    const state = tables.get(table)!
    return this.gapsAt(table, lsn).length > 0 ? { ...state, isUntold: false } : state
  }

  /** Gaps of a table that an LSN, or what is latest, lies in. */
  gapsAt(table: string, lsn: Lsn | null): Gap[] {
    return this.gaps.filter((gap) => {
      if (gap.table !== table) return false
      return lsn === null ? gap.settledLsn === null : gap.fromLsn <= lsn && (gap.settledLsn === null || lsn <= gap.settledLsn)
    })
  }

  /** Whether nothing is known of what the mirror shows of a table at an LSN, or by now. */
  isHidden(table: string, lsn: Lsn | null): boolean {
    return this.gapsAt(table, lsn).some(({ isSilent }) => isSilent)
  }

  /** The mirror has applied all that was committed. */
  applied(): void {
    this.#untold.applied()
  }

  /** All of that is safe in Iceberg. */
  flushed(): void {
    this.#untold.flushed()
  }

  /** The mirror may have gone back to what is safe. */
  wentBack(): void {
    for (const [table, fromLsn] of this.#untold.wentBack()) this.#open({ table, fromLsn })
    for (const session of this.sessions) session.lostStream()
    for (const one of this.prepared) {
      one.changes = {
        ...one.changes,
        altered: new Map([...one.changes.altered, ...Array.from(one.changes.withNewTypes, (name) => [name, true] as const)]),
      }
    }
  }

  /** The mirror has started, and read again what was to be. */
  started(): void {
    this.hasOtherPartitions = false
    for (const gap of this.gaps) if (gap.endsWithStart) gap.isLasting = false
  }

  /** Gaps that the mirror has closed. */
  settled(gaps: readonly Gap[], settledLsn: Lsn): void {
    for (const gap of gaps) {
      gap.settledLsn = settledLsn
      this.#untold.settled(gap.table)
    }
  }

  async #committed(before: Lsn, { altered, shapes, touched, traces }: Changes): Promise<void> {
    this.tables = this.tables.map((table) => shapes.get(table.name) ?? table)
    const tablesOf = (matches: (one: Traces['untold'][number]) => boolean) =>
      new Set(traces.untold.filter(matches).map(({ table }) => table))
    const amid = tablesOf(({ isAmid }) => isAmid)
    const stale = [...altered].filter(([, isStale]) => this.#isTold && isStale)
    for (const [table] of stale) this.#open({ table, fromLsn: before, isAmid: amid.has(table) })
    // Where partitions also came or went, triggers have told that.
    const told = tablesOf(({ change, isStale }) => this.#isTold && isStale && change.kind === 'unseen')
    const unseen = tablesOf(({ change, isStale }) => change.kind === 'unseen' && !(this.#isTold && isStale))
    for (const table of unseen) this.#open({ table, fromLsn: before, isSilent: !told.has(table), isLasting: true, isAmid: amid.has(table) })
    this.#noteNoticedAgain(before, traces)
    const parted = tablesOf(({ change }) => ['partitions', 'unseen'].includes(change.kind))
    this.hasOtherPartitions ||= parted.size > 0
    await this.#note(before, touched, traces, false)
    if (!this.#isTold) this.#noteUntold(before, traces)
  }

  /** The mirror, which has applied all that was committed, is told to read a table again. */
  async resyncing(table: string): Promise<void> {
    this.#open({ table, fromLsn: await this.lsn() })
  }

  #open(gap: Pick<Gap, 'table' | 'fromLsn'> & Partial<Gap>): void {
    this.gaps.push({ isSilent: false, isLasting: false, endsWithStart: false, isAmid: false, settledLsn: null, ...gap })
  }

  #noteNoticedAgain(before: Lsn, { untold }: Traces): void {
    for (const table of noticedAgain(untold)) this.#open({ table, fromLsn: before, isLasting: true, endsWithStart: true })
    this.hasOtherPartitions ||= untold.some(({ change }) => change.isNoticedAgain !== undefined)
  }

  #noteUntold(before: Lsn, { followed, untold }: Traces): void {
    for (const table of followed) this.#untold.followed(table)
    for (const table of new Set(untold.map((one) => one.table))) {
      const changes = untold.filter((one) => one.table === table)
      const fromLsn = this.#untold.committed(table, changes, before)
      const isSilent = changes.some(({ change }) => change.kind === 'silent')
      if (fromLsn !== null) this.#open({ table, fromLsn, isSilent, isAmid: changes.some(({ isAmid }) => isAmid) })
    }
  }

  /** Takes a session's transaction from it, unless too many are prepared already. */
  async prepare(session: Session): Promise<void> {
    if (this.prepared.length >= MAX_PREPARED) return
    // Names are the server's, not the database's.
    const id = `${this.#database} ${++this.#preparedSoFar}`
    const { changes } = session
    await session.end(`PREPARE TRANSACTION '${id}'`)
    this.prepared.push({ id, changes })
  }

  async endPrepared(index: number, how: 'COMMIT' | 'ROLLBACK'): Promise<void> {
    const [{ changes, id }] = this.prepared.splice(index, 1)
    const before = await this.lsn()
    await this.observer.run(`${how} PREPARED '${id}'`)
    await this.#committed(before, how === 'COMMIT' ? changes : { ...changes, shapes: new Map(), altered: new Map(), traces: NO_TRACES })
  }

  /** Kills a process of the server's, which then ends all the others and recovers. */
  async crash(): Promise<void> {
    // A transaction that is waited for, so that no position noted so far lies in what the crash loses.
    await this.observer.query(`SELECT pg_logical_emit_message(true, 'oracle', 'before the crash')`)
    const [[pid]] = await this.observer.query('SELECT pg_backend_pid()')
    this.#trace('-- crash')
    process.kill(Number(pid), 'SIGKILL')
    for (const session of [this.observer, ...this.sessions]) await session.reconnect()
  }

  /** What the server's processes do and wait for, its transactions, locks that are not granted, and slots. */
  async activity(): Promise<unknown> {
    const [[found]] = await this.observer.query(`SELECT json_build_object(
      'activity', (SELECT json_agg(a) FROM (SELECT pid, application_name, backend_type, state, wait_event_type, wait_event, backend_xid, backend_xmin,
        xact_start, query_start, pg_blocking_pids(pid) AS blocked_by, left(query, 300) AS query FROM pg_stat_activity WHERE datname = current_database()) a),
      'waiting', (SELECT json_agg(l) FROM pg_locks l WHERE NOT granted),
      'prepared', (SELECT json_agg(p) FROM pg_prepared_xacts p WHERE database = current_database()),
      'slots', (SELECT json_agg(s) FROM pg_replication_slots s WHERE database = current_database()))`)
    return JSON.parse(found)
  }

  /** Transactions that the server has sent before they ended, as far as it counts them. */
  async streamedTransactions(): Promise<number> {
    const [[count]] = await this.observer.query(`SELECT coalesce(sum(stream_txns), 0) FROM pg_stat_replication_slots
      JOIN pg_replication_slots USING (slot_name) WHERE database = current_database()`)
    return Number(count)
  }

  /** What a table shows now. */
  async read(table: OracleTable): Promise<TableRows> {
    if (table.isAbsent === true) return []
    const rows = await this.observer.rowsOf(table)
    const all = await this.observer.columnsOf(table)
    const expected = table.columns.map(({ name }) => name)
    if (all.join('\n') !== expected.join('\n'))
      throw new Error(`the oracle lost ${table.name}: ${JSON.stringify(all)} and not ${JSON.stringify(expected)}`)
    return rows.map((row) => JSON.stringify(row)).sort()
  }

  /** What the tables showed at `lsn`; two answers where it lies within a commit, whose end only Postgres knows; none within a burst. */
  at(lsn: Lsn): Moment[] {
    const index = this.moments.findLastIndex((moment) => moment.before < lsn)
    const moment = this.moments[Math.max(0, index)]
    if (lsn >= moment.after || index <= 0) return [moment]
    return moment.isBurst ? [] : [this.moments[index - 1], moment]
  }

  async cutStream(): Promise<void> {
    await this.observer.query('SELECT pg_terminate_backend(pid) FROM pg_stat_replication')
  }

  /** The backend must be gone. */
  async close(): Promise<void> {
    for (const { id } of this.prepared) await this.observer.query(`ROLLBACK PREPARED '${id}'`).catch(() => undefined)
    const dropSlots = 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()'
    await this.observer.query(dropSlots).catch(() => undefined)
    for (const session of [...this.sessions, this.observer]) await session.close()
  }

  async #note(before: Lsn, touched: ReadonlySet<string>, traces: Traces, isBurst: boolean): Promise<void> {
    const after = await this.lsn()
    const tables = new Map<string, TableState>()
    for (const table of this.tables) {
      const { name } = table
      const known = this.moments.at(-1)?.tables.get(name)
      if (known !== undefined && !touched.has(name)) tables.set(name, known)
      else tables.set(name, await this.#look(table, known, traces))
    }
    this.#trace(`-- from ${formatLsn(before)} to ${formatLsn(after)}`)
    this.moments.push({ before, after, tables, isBurst })
  }

  async #look(table: OracleTable, known: TableState | undefined, { followed, untold }: Traces): Promise<TableState> {
    const changes = untold.filter((one) => one.table === table.name && one.change.kind !== 'truncate')
    const rows = await this.#readOrLatest(table, known, changes.length > 0)
    const shown = { table, rows, before: null, isUntold: false }
    if (this.#isTold || known === undefined) return shown
    const last = changes.at(-1)
    if (last === undefined) {
      if (followed.has(table.name)) return shown
      // Of a shape that it had within a transaction nothing is known.
      if (known.rows === null && known.before !== null) return { ...shown, rows: null, before: known.before }
      const isTold = known.rows !== null && rows !== null && known.rows.join() !== rows.join()
      return isTold ? shown : { ...shown, before: known.before }
    }
    if (last.isFollowed) return shown
    // It may be shown in a shape that it had within the transaction.
    if (changes.length > 1 || followed.has(table.name)) return { ...shown, rows: null, before: known }
    return { ...shown, before: known, isUntold: !last.isTouched && (known.before === null || known.isUntold) }
  }

  /** A transaction that is open and has truncated or altered the table locks it: so nobody has changed it since that began, save its types. */
  async #readOrLatest(table: OracleTable, known: TableState | undefined, isAltered: boolean): Promise<TableRows | null> {
    return this.read(table).catch((error: unknown) => {
      if (!isLocked(error) || known === undefined) throw error
      // Of a partitioned one, a partition may be locked while others change.
      return isAltered || table.partitions !== undefined ? null : known.rows
    })
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '55P03'
}
