import type { withPostgres } from '@moonlink/testkit'
import { expect } from 'vitest'
import { BackendProcess } from './backend-process.ts'

type Client = Awaited<ReturnType<ReturnType<typeof withPostgres>['createDatabase']>>['client']
type Row = Readonly<Record<string, unknown>>

/** What the source showed from an LSN on. */
interface Moment {
  readonly lsn: string
  readonly rows: readonly string[]
}

/** A table t of the source, what it showed over time, and a backend that mirrors it. */
export class SchemaHistory {
  readonly moments: Moment[] = []
  backend!: BackendProcess
  readonly client: Client
  readonly args: readonly string[]

  private constructor(client: Client, args: readonly string[]) {
    this.client = client
    this.args = args
  }

  static async start(client: Client, connectionString: string, stateDir: string): Promise<SchemaHistory> {
    const history = new SchemaHistory(client, ['--source', connectionString, '--state-dir', stateDir, '--set', 'flush.intervalMs=1h'])
    await history.start()
    return history
  }

  async start(): Promise<void> {
    this.backend = await BackendProcess.start(this.args)
  }

  /** Runs statements, each a transaction of its own, and remembers what the table shows after each. */
  async run(...statements: readonly string[]): Promise<void> {
    for (const statement of statements) {
      await this.client.query(statement)
      const { rows } = await this.client.query<{ lsn: string }>(`SELECT pg_current_wal_insert_lsn()::text AS lsn`)
      this.moments.push({ lsn: rows[0].lsn, rows: await this.shown() })
    }
  }

  /** Column names and values, as the source has them. */
  async shown(): Promise<string[]> {
    const { rows } = await this.client.query<{ row: Row }>(`SELECT to_jsonb(t) AS row FROM t`)
    return rows.map(({ row }) => canonical(row)).sort()
  }

  async read(lsn: string | null): Promise<string[]> {
    const columns = (await this.backend.query(`SELECT column_name FROM (DESCRIBE SELECT * FROM t)`, lsn)).map(([name]) => String(name))
    const rows = await this.backend.query(`SELECT * FROM t`, lsn)
    return rows.map((row) => canonical(Object.fromEntries(columns.map((name, index) => [name, row[index]])))).sort()
  }

  /** Every moment from `first` on that is held shows what the source showed. */
  async check(first = 0): Promise<void> {
    await this.backend.wait()
    expect(await this.backend.table('public.t')).toMatchObject({ state: 'streaming', reason: null })
    for (const { lsn, rows } of this.moments.slice(first)) expect([lsn, await this.read(lsn)]).toEqual([lsn, rows])
    expect(await this.read(null)).toEqual(await this.shown())
  }
}

/** Columns, and attributes of composites, by name: jsonb has an order of its own. */
function canonical(row: Row): string {
  return JSON.stringify(row, (_, value: unknown) => (isRow(value) ? Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)) : value))
}

function isRow(value: unknown): value is Row {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
