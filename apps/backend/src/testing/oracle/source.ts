import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { formatLsn, parseLsn, type Lsn } from '@moonlink/core'
import { typeDefinitions, type OracleType } from './types.ts'
import { quote, quotedTable, tableDefinition, type OracleTable } from './tables.ts'
import type { Statement } from './operations.ts'

/** What a table shows: each row as JSON of its cells in Postgres' own text, in code unit order. */
export type TableRows = readonly string[]

/** What the tables showed from the end of a commit on, until the next. */
export interface Moment {
  /** Before the commit: up to here the tables show what they showed before. */
  readonly before: Lsn
  /** After the commit: from here on they show `rows`. */
  readonly after: Lsn
  readonly rows: ReadonlyMap<OracleTable, TableRows>
  /** Several commits rather than one: what was shown between them is not known. */
  readonly isBurst: boolean
}

/** Values come as the text that the type's output function made. */
const asText = { getTypeParser: () => (text: string | Buffer) => text.toString() }
/** No two sessions wait for each other: the driver does one thing at a time, so a lock that is taken stays so. */
const SESSION_SETTINGS = `SET lock_timeout = '10ms'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1`

const RECOVERY_TIMEOUT_MS = 60_000
const MAX_PREPARED = 4

/** A client's session with at most one open transaction. */
export class Session {
  readonly touched = new Set<OracleTable>()
  isOpen = false
  savepoints = 0
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

  async query(sql: string, values: readonly (string | null)[] = []): Promise<string[][]> {
    const { rows } = await this.#client.query<string[]>({ text: sql, values: [...values], rowMode: 'array', types: asText })
    return rows
  }

  async begin(): Promise<void> {
    await this.run('BEGIN')
    this.isOpen = true
  }

  /** Whether it succeeded; one that fails leaves the transaction as it was. */
  async statement({ sql, values, tables }: Statement): Promise<boolean> {
    const succeeded = () => true
    if (!this.isOpen) return this.run(sql, values).then(succeeded, () => false)
    for (const table of tables) this.touched.add(table)
    await this.run('SAVEPOINT one')
    return this.run(sql, values).then(succeeded, () => this.run('ROLLBACK TO one').then(() => false))
  }

  async savepoint(): Promise<void> {
    await this.run(`SAVEPOINT s${++this.savepoints}`)
  }

  async rollbackToSavepoint(number: number): Promise<void> {
    this.savepoints = number
    await this.run(`ROLLBACK TO s${number}`)
  }

  async end(how: 'COMMIT' | 'ROLLBACK' | `PREPARE TRANSACTION '${string}'`): Promise<void> {
    await this.run(how)
    this.#ended()
  }

  #ended(): void {
    this.isOpen = false
    this.savepoints = 0
    this.touched.clear()
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
  readonly touched: ReadonlySet<OracleTable>
}

/** The tables of one run in Postgres, several sessions that change them, and what they showed after every commit. */
export class OracleSource {
  readonly tables: readonly OracleTable[]
  readonly sessions: readonly Session[]
  readonly moments: Moment[] = []
  readonly prepared: PreparedTransaction[] = []
  /** Of the server. */
  readonly major: number
  /** For looking on; it commits nothing that the tables show. */
  readonly observer: Session
  readonly #database: string
  readonly #trace: (line: string) => void
  #preparedSoFar = 0

  private constructor(
    tables: readonly OracleTable[],
    sessions: readonly Session[],
    observer: Session,
    { major, database }: { major: number; database: string },
    trace: (line: string) => void,
  ) {
    this.tables = tables
    this.sessions = sessions
    this.observer = observer
    this.major = major
    this.#database = database
    this.#trace = trace
  }

  static async create(
    url: string,
    tables: readonly OracleTable[],
    sessionCount: number,
    trace: (line: string) => void,
  ): Promise<OracleSource> {
    const observer = await Session.connect(url, trace)
    for (const definition of [...typeDefinitions, ...tables.flatMap(tableDefinition)]) await observer.run(definition)
    const sessions = await Promise.all(
      Array.from({ length: sessionCount }, (_, index) => Session.connect(url, (line) => trace(`${'\t'.repeat(index)}${index}: ${line}`))),
    )
    const [[version, database]] = await observer.query(`SELECT current_setting('server_version_num'), current_database()`)
    const major = Math.floor(Number(version) / 10_000)
    const source = new OracleSource(tables, sessions, observer, { major, database }, trace)
    await source.#note(await source.lsn(), new Set(tables), false)
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

  /** Does what commits once, or several times in a burst, and notes what the tables show then. Nothing else may commit meanwhile. */
  async committing(tables: Iterable<OracleTable>, work: () => Promise<unknown>, isBurst = false): Promise<void> {
    const touched = new Set(tables)
    const before = await this.lsn()
    await work()
    await this.#note(before, touched, isBurst)
  }

  /** Takes a session's transaction from it, unless too many are prepared already. */
  async prepare(session: Session): Promise<void> {
    if (this.prepared.length >= MAX_PREPARED) return
    // Names are the server's, not the database's.
    const id = `${this.#database} ${++this.#preparedSoFar}`
    const touched = new Set(session.touched)
    await session.end(`PREPARE TRANSACTION '${id}'`)
    this.prepared.push({ id, touched })
  }

  async endPrepared(index: number, how: 'COMMIT' | 'ROLLBACK'): Promise<void> {
    const [{ id, touched }] = this.prepared.splice(index, 1)
    await this.committing(touched, () => this.observer.run(`${how} PREPARED '${id}'`))
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
    const columns = table.columns.map(({ name }) => quote(name)).join(', ')
    const rows = await this.observer.query(`SELECT ${columns} FROM ${quotedTable(table)}`)
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

  async #note(before: Lsn, touched: ReadonlySet<OracleTable>, isBurst: boolean): Promise<void> {
    const after = await this.lsn()
    const rows = new Map<OracleTable, TableRows>()
    for (const table of this.tables) rows.set(table, touched.has(table) ? await this.#readOrLatest(table) : this.latest.rows.get(table)!)
    this.#trace(`-- from ${formatLsn(before)} to ${formatLsn(after)}`)
    this.moments.push({ before, after, rows, isBurst })
  }

  /** A transaction that is open and has truncated the table locks it: so nobody has changed it since that began. */
  async #readOrLatest(table: OracleTable): Promise<TableRows> {
    return this.read(table).catch((error: unknown) => {
      if (!isLocked(error) || this.moments.length === 0) throw error
      return this.latest.rows.get(table)!
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
