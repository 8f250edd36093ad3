import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { quotedTable, shownSql, type OracleTable } from './tables.ts'
import { isOwnType } from './types.ts'
import type { Statement } from './operations.ts'
import type { Untold } from './untold.ts'

/** Values come as the text that the type's output function made. */
const asText = { getTypeParser: () => (text: string | Buffer) => text.toString() }
/** No two sessions wait for each other: the driver does one thing at a time, so a lock that is taken stays so. */
const SESSION_SETTINGS = `SET lock_timeout = '10ms'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1`

const RECOVERY_TIMEOUT_MS = 60_000

/** What a transaction has done to tables, by their names. */
export interface Changes {
  /** Those that it may have changed. */
  readonly touched: ReadonlySet<string>
  /** How they are at its end. */
  readonly shapes: ReadonlyMap<string, OracleTable>
  /** Those whose schema it changed, rolled back or not; `true` where the mirror may have to read them again. */
  readonly altered: ReadonlyMap<string, boolean>
  /** Those that it gave a type of the database's own which they did not have: a stream that begins amid it does not know who else altered that. */
  readonly withNewTypes: ReadonlySet<string>
  readonly traces: Traces
  /** `Statement.holdsUp` */
  readonly holdsUp: boolean
}

/** What the stream tells of a transaction so far, where no trigger tells of changes of schema. */
export interface Traces {
  readonly untold: readonly {
    readonly table: string
    readonly change: Untold
    /** `Alteration.isStale` */
    readonly isStale: boolean
    readonly isFollowed: boolean
    readonly isTouched: boolean
    readonly isAmid: boolean
  }[]
  /** Tables with rows that changed. */
  readonly followed: ReadonlySet<string>
}

export const NO_TRACES: Traces = { untold: [], followed: new Set() }

/** A client's session with at most one open transaction. */
export class Session {
  isOpen = false
  savepoints = 0
  readonly #touched = new Set<string>()
  readonly #altered = new Map<string, boolean>()
  readonly #withNewTypes = new Set<string>()
  #holdsUp = false
  #shapes: ReadonlyMap<string, OracleTable> = new Map()
  #traces = NO_TRACES
  /** What `#shapes` and `#traces` were at each savepoint. */
  readonly #marks: { readonly shapes: ReadonlyMap<string, OracleTable>; readonly traces: Traces }[] = []
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
      withNewTypes: new Set(this.#withNewTypes),
      traces: this.#traces,
      holdsUp: this.#holdsUp,
    }
  }

  /** A table as this session's transaction sees it. */
  seen(table: OracleTable): OracleTable {
    return this.#shapes.get(table.name) ?? table
  }

  /** What a mirror shows of a table's rows. */
  async rowsOf(table: OracleTable): Promise<(string | null)[][]> {
    return (await this.#client.query<(string | null)[]>({ text: shownSql(table), rowMode: 'array', types: asText })).rows
  }

  async columnsOf(table: OracleTable): Promise<string[]> {
    return (await this.#client.query(`SELECT * FROM ${quotedTable(table)} LIMIT 0`)).fields.map(({ name }) => name)
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
  async statement(statement: Statement): Promise<boolean> {
    const { alters = [], holdsUp = false, tables } = statement
    const touched = new Set(this.#touched)
    for (const { name } of tables) this.#touched.add(name)
    const rows = await this.#attempt(statement)
    if (rows === null) {
      if (!this.isOpen) return false
      for (const { name } of alters) this.#altered.set(name, true)
      this.#undone()
      return false
    }
    this.#holdsUp ||= holdsUp
    for (const { isStale, name, to } of alters) {
      const before = this.#shapes.get(name) ?? tables.find((table) => table.name === name)
      if (to !== undefined && before !== undefined && hasNewType(before, to)) this.#withNewTypes.add(name)
      this.#altered.set(name, isStale || this.#altered.get(name) === true)
      if (to !== undefined) this.#shapes = new Map(this.#shapes).set(name, to)
    }
    this.#traces = traced(this.#traces, statement, rows, { touched, isInSavepoint: this.savepoints > 0 })
    return true
  }

  /** How many rows it changed; null where it failed, and the transaction is as it was. */
  async #attempt({ sql, tables, truncates, values }: Statement): Promise<number | null> {
    if (!this.isOpen) return this.run(sql, values).catch(() => null)
    // What a truncation leaves in the catalog names the savepoint that it was in: one of the scenario's, or none.
    const isTruncation = truncates === true
    await this.run('SAVEPOINT one')
    try {
      const rows = isTruncation ? 0 : await this.run(sql, values)
      if (isTruncation) await this.run(`LOCK TABLE ${tables.map(quotedTable).join(', ')}`)
      await this.run('RELEASE one')
      if (!isTruncation) return rows
    } catch {
      await this.run('ROLLBACK TO one; RELEASE one')
      return null
    }
    return this.run(sql, values)
  }

  async savepoint(): Promise<void> {
    await this.run(`SAVEPOINT s${++this.savepoints}`)
    this.#marks.push({ shapes: this.#shapes, traces: this.#traces })
  }

  async rollbackToSavepoint(number: number): Promise<void> {
    this.savepoints = number
    await this.run(`ROLLBACK TO s${number}`)
    this.#undone()
    this.#marks.length = number
    const { shapes, traces } = this.#marks[number - 1]
    this.#shapes = shapes
    this.#traces = traces
  }

  /** Where Postgres sends a transaction in parts, it does not tell which subtransaction a change of schema was in. */
  #undone(): void {
    for (const name of this.#altered.keys()) this.#altered.set(name, true)
  }

  /** The stream begins anew, amid its transaction. */
  lostStream(): void {
    for (const name of this.#withNewTypes) this.#altered.set(name, true)
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
    this.#withNewTypes.clear()
    this.#holdsUp = false
    this.#marks.length = 0
    this.#shapes = new Map()
    this.#traces = NO_TRACES
  }

  /** Forgets a transaction that was a statement by itself, and says what it did. */
  takeChanges(): Changes {
    const { changes } = this
    this.#ended()
    return changes
  }

  /** Returns how many rows it changed, where the server says so. */
  async run(sql: string, values: readonly (string | null)[] = []): Promise<number> {
    try {
      const { rowCount } = await this.#client.query({ text: sql, values: [...values] })
      this.#trace(`${sql}${values.length > 0 ? ` -- ${shortened(JSON.stringify(values))}` : ''}`)
      return rowCount ?? 0
    } catch (error) {
      this.#trace(`-- ${String(error)}: ${sql}`)
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined)
  }
}

/** What the stream tells of a transaction behind another statement. */
function traced(
  { followed, untold }: Traces,
  { alters = [], tables, truncates }: Statement,
  rows: number,
  { isInSavepoint, touched }: { readonly isInSavepoint: boolean; readonly touched: ReadonlySet<string> },
): Traces {
  if (alters.length > 0) {
    const made = alters.map(({ name, isStale, untold: change }) => ({
      table: name,
      change,
      isStale,
      isFollowed: false,
      isTouched: false,
      isAmid: touched.has(name),
    }))
    return { followed, untold: [...untold, ...made] }
  }
  const names = tables.map(({ name }) => name)
  // The first is the one that the statement is of; what becomes of the others with it is not counted, nor what a filter may leave out.
  const changed = rows > 0 && tables[0].published === undefined ? names[0] : null
  const after = untold.map((one) => {
    return { ...one, isTouched: one.isTouched || names.includes(one.table), isFollowed: one.isFollowed || one.table === changed }
  })
  if (truncates === true) {
    const emptied = [...new Map(tables.map((table) => [table.name, table])).values()].map(({ name, partitions, tellsTruncations }) => {
      const isNoticedAgain = isInSavepoint ? 'always' : 'once filled'
      const change: Untold = { kind: 'truncate', ...(partitions !== undefined && tellsTruncations !== true && { isNoticedAgain }) }
      return { table: name, change, isStale: false, isFollowed: false, isTouched: true, isAmid: touched.has(name) }
    })
    return { followed, untold: [...after, ...emptied] }
  }
  return { followed: changed === null ? followed : new Set(followed).add(changed), untold: after }
}

function hasNewType(before: OracleTable, after: OracleTable): boolean {
  const had = new Set(before.columns.map(({ type }) => type.sql))
  return after.columns.some(({ type }) => isOwnType(type) && !had.has(type.sql))
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  await client.query(SESSION_SETTINGS)
  return client
}

function shortened(text: string): string {
  return text.length > 400 ? `${text.slice(0, 400)}… (${text.length})` : text
}
