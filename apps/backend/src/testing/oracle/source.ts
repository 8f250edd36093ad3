import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { formatLsn, parseLsn, type Lsn } from '@moonlink/core'
import { typeDefinitions, type OracleType } from './types.ts'
import { quotedTable, tableDefinition, type OracleTable } from './tables.ts'
import type { Statement } from './operations.ts'

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

/** Values come as the text that the type's output function made. */
const asText = { getTypeParser: () => (text: string | Buffer) => text.toString() }
/** No two sessions wait for each other: the driver does one thing at a time, so a lock that is taken stays so. */
const SESSION_SETTINGS = `SET lock_timeout = '10ms'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1`

const RECOVERY_TIMEOUT_MS = 60_000
const MAX_PREPARED = 4

/** What a transaction has done to tables, by their names. */
interface Changes {
  /** Those that it may have changed. */
  readonly touched: ReadonlySet<string>
  /** How they are at its end. */
  readonly shapes: ReadonlyMap<string, OracleTable>
  /** Those whose schema it changed, rolled back or not; `true` where the mirror may have to read them again. */
  readonly altered: ReadonlyMap<string, boolean>
}

/** Commits that the mirror may have to read a table again for: LSNs from there on may be refused, until it has. */
export interface Gap {
  readonly table: string
  readonly fromLsn: Lsn
  /** From here on every LSN is shown again; null while it may not be. */
  settledLsn: Lsn | null
}

/** A client's session with at most one open transaction. */
export class Session {
  isOpen = false
  savepoints = 0
  readonly #touched = new Set<string>()
  readonly #altered = new Map<string, boolean>()
  #shapes: ReadonlyMap<string, OracleTable> = new Map()
  /** What `#shapes` was at each savepoint. */
  readonly #marks: ReadonlyMap<string, OracleTable>[] = []
  #client: pg.Client
  readonly #url: string
  readonly #trace: (line: string) => void

  private constructor(client: pg.Client, url: string, trace: (line: string) => void) {
    this.#client = client
    this.#url = url
    this.#trace = trace
  }

  static async connect(url: string, trace: (line: string) => void): Promise<Session> {
    return new Session(await connected(url), url, trace)
  }

  /** After a crash of the server, whose recovery it waits for. */
  async reconnect(): Promise<void> {
    await this.close()
    const deadline = Date.now() + RECOVERY_TIMEOUT_MS
    for (;;) {
      try {
        this.#client = await connected(this.#url)
        return this.#ended()
      } catch (error) {
        if (Date.now() > deadline) throw error
        await sleep(20)
      }
    }
  }

  get changes(): Changes {
    return {
      touched: new Set(this.#touched),
      shapes: this.#shapes,
      altered: new Map(this.#altered),
    }
  }

  /** A table as this session's transaction sees it. */
  seen(table: OracleTable): OracleTable {
    return this.#shapes.get(table.name) ?? table
  }

  /** Every column and row of a table. */
  async rowsOf(table: OracleTable): Promise<{ names: string[]; rows: (string | null)[][] }> {
    const { fields, rows } = await this.#client.query<(string | null)[]>({
      text: `SELECT * FROM ${quotedTable(table)}`,
      rowMode: 'array',
      types: asText,
    })
    return { names: fields.map(({ name }) => name), rows }
  }

  async query(sql: string, values: readonly (string | null)[] = []): Promise<string[][]> {
    const { rows } = await this.#client.query<string[]>({ text: sql, values: [...values], rowMode: 'array', types: asText })
    return rows
  }

  async begin(): Promise<void> {
    await this.run('BEGIN')
    this.isOpen = true
  }

  /** Whether it succeeded; one that fails leaves the transaction as it was. Outside of one it is a transaction by itself. */
  async statement({ alters = [], sql, tables, values }: Statement): Promise<boolean> {
    for (const { name } of tables) this.#touched.add(name)
    if (this.isOpen) await this.run('SAVEPOINT one')
    try {
      await this.run(sql, values)
    } catch {
      if (!this.isOpen) return false
      for (const { name } of alters) this.#altered.set(name, true)
      await this.#undo('ROLLBACK TO one')
      return false
    }
    for (const { isStale, name, to } of alters) {
      this.#altered.set(name, isStale || this.#altered.get(name) === true)
      if (to !== undefined) this.#shapes = new Map(this.#shapes).set(name, to)
    }
    return true
  }

  async savepoint(): Promise<void> {
    await this.run(`SAVEPOINT s${++this.savepoints}`)
    this.#marks.push(this.#shapes)
  }

  async rollbackToSavepoint(number: number): Promise<void> {
    this.savepoints = number
    await this.#undo(`ROLLBACK TO s${number}`)
    this.#marks.length = number
    this.#shapes = this.#marks[number - 1]
  }

  /** Where Postgres sends a transaction in parts, it does not tell which subtransaction a change of schema was in. */
  async #undo(sql: string): Promise<void> {
    await this.run(sql)
    for (const name of this.#altered.keys()) this.#altered.set(name, true)
  }

  async end(how: 'COMMIT' | 'ROLLBACK' | `PREPARE TRANSACTION '${string}'`): Promise<void> {
    await this.run(how)
    this.#ended()
  }

  /** What was done outside of a transaction, too. */
  #ended(): void {
    this.isOpen = false
    this.savepoints = 0
    this.#touched.clear()
    this.#altered.clear()
    this.#marks.length = 0
    this.#shapes = new Map()
  }

  /** Forgets a transaction that was a statement by itself, and says what it did. */
  takeChanges(): Changes {
    const { changes } = this
    this.#ended()
    return changes
  }

  async run(sql: string, values: readonly (string | null)[] = []): Promise<void> {
    try {
      await this.#client.query({ text: sql, values: [...values] })
      this.#trace(`${sql}${values.length > 0 ? ` -- ${shortened(JSON.stringify(values))}` : ''}`)
    } catch (error) {
      this.#trace(`-- ${String(error)}: ${sql}`)
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined)
  }
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  await client.query(SESSION_SETTINGS)
  return client
}

/** A transaction that no session holds any more. */
interface PreparedTransaction {
  readonly id: string
  readonly changes: Changes
}

/** The tables of one run in Postgres, several sessions that change them, and what they showed after every commit. */
export class OracleSource {
  /** As others than their changers see them. */
  tables: readonly OracleTable[]
  readonly gaps: Gap[] = []
  readonly sessions: readonly Session[]
  readonly moments: Moment[] = []
  readonly prepared: PreparedTransaction[] = []
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

  static async create(
    url: string,
    tables: readonly OracleTable[],
    sessionCount: number,
    isTold: boolean,
    trace: (line: string) => void,
  ): Promise<OracleSource> {
    const observer = await Session.connect(url, trace)
    for (const definition of [...typeDefinitions, ...tables.flatMap(tableDefinition)]) await observer.run(definition)
    const sessions = await Promise.all(
      Array.from({ length: sessionCount }, (_, index) => Session.connect(url, (line) => trace(`${'\t'.repeat(index)}${index}: ${line}`))),
    )
    const [[version, database]] = await observer.query(`SELECT current_setting('server_version_num'), current_database()`)
    const major = Math.floor(Number(version) / 10_000)
    const source = new OracleSource(tables, sessions, observer, { major, database, isTold }, trace)
    await source.#note(await source.lsn(), new Set(tables.map(({ name }) => name)), new Map(), false)
    return source
  }

  get latest(): Moment {
    return this.moments.at(-1)!
  }

  /** Position of the source's log. */
  async lsn(): Promise<Lsn> {
    const [[lsn]] = await this.observer.query('SELECT pg_current_wal_insert_lsn()')
    return parseLsn(lsn)
  }

  /** Several commits, none of which changes a schema. Nothing else may commit meanwhile. */
  async burst(work: () => Promise<unknown>): Promise<void> {
    const before = await this.lsn()
    await work()
    await this.#note(before, new Set(this.tables.map(({ name }) => name)), new Map(), true)
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

  /** The commits that the mirror reads the table again for, or may be about to. */
  openGaps(table: string): Gap[] {
    return this.gaps.filter((gap) => gap.table === table && gap.settledLsn === null)
  }

  async #committed(before: Lsn, { altered, shapes, touched }: Changes): Promise<void> {
    this.tables = this.tables.map((table) => shapes.get(table.name) ?? table)
    for (const [table, isStale] of altered) {
      if (isStale || !this.#isTold) this.gaps.push({ table, fromLsn: before, settledLsn: null })
    }
    await this.#note(before, touched, altered, false)
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
    await this.#committed(before, how === 'COMMIT' ? changes : { ...changes, shapes: new Map(), altered: new Map() })
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

  /** Transactions that the server has sent before they ended, as far as it counts them. */
  async streamedTransactions(): Promise<number> {
    const [[count]] = await this.observer.query(`SELECT coalesce(sum(stream_txns), 0) FROM pg_stat_replication_slots
      JOIN pg_replication_slots USING (slot_name) WHERE database = current_database()`)
    return Number(count)
  }

  /** What a table shows now. */
  async read(table: OracleTable): Promise<TableRows> {
    if (table.isAbsent === true) return []
    const { names, rows } = await this.observer.rowsOf(table)
    const expected = table.columns.map(({ name }) => name)
    if (names.join('\n') !== expected.join('\n'))
      throw new Error(`the oracle lost ${table.name}: ${JSON.stringify(names)} and not ${JSON.stringify(expected)}`)
    return rows.map((row) => JSON.stringify(row.map((cell, index) => shown(table.columns[index].type, cell)))).sort()
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

  async #note(before: Lsn, touched: ReadonlySet<string>, altered: ReadonlyMap<string, boolean>, isBurst: boolean): Promise<void> {
    const after = await this.lsn()
    const tables = new Map<string, TableState>()
    for (const table of this.tables) {
      const { name } = table
      const known = this.moments.at(-1)?.tables.get(name)
      if (known !== undefined && !touched.has(name)) tables.set(name, known)
      else tables.set(name, await this.#look(table, known, altered.has(name)))
    }
    this.#trace(`-- from ${formatLsn(before)} to ${formatLsn(after)}`)
    this.moments.push({ before, after, tables, isBurst })
  }

  async #look(table: OracleTable, known: TableState | undefined, isAltered: boolean): Promise<TableState> {
    const rows = await this.#readOrLatest(table, known, isAltered)
    const before =
      this.#isTold || known === undefined ? null : isAltered ? known : known.rows?.join() === rows?.join() ? known.before : null
    return { table, rows, before }
  }

  /** A transaction that is open and has truncated or altered the table locks it: so nobody has changed it since that began, save its types. */
  async #readOrLatest(table: OracleTable, known: TableState | undefined, isAltered: boolean): Promise<TableRows | null> {
    return this.read(table).catch((error: unknown) => {
      if (!isLocked(error) || known === undefined) throw error
      return isAltered ? null : known.rows
    })
  }
}

/** What the mirror shows of a value that Postgres prints like this. */
function shown({ mirrored }: OracleType, cell: string | null): string | null {
  return cell === null || mirrored === undefined ? cell : mirrored(cell)
}

function isLocked(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '55P03'
}

function shortened(text: string): string {
  return text.length > 400 ? `${text.slice(0, 400)}… (${text.length})` : text
}
