import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import fc from 'fast-check'
import type pg from 'pg'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

/**
 * The invariant: at any LSN that is held, a union read equals what Postgres had at that LSN. Random tables and transactions on a
 * real Postgres (inserts, updates, key changes, deletes, rollbacks, savepoints, big values), read back through SQL at the LSNs
 * noted after each transaction, with flushes, kills and restarts in between.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-oracle-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const tables = {
  by_long: 'id bigint PRIMARY KEY, name text NOT NULL, big text, amount numeric(20,4), at timestamptz',
  by_text: 'id bigint NOT NULL, name text PRIMARY KEY, big text, amount numeric(20,4), at timestamptz',
  by_both: 'id bigint NOT NULL, name varchar(40) NOT NULL, big text, amount numeric(20,4), at timestamptz, PRIMARY KEY (name, id)',
  by_none: 'id bigint, name text, big text, amount numeric(20,4), at timestamptz',
} as const
type TableKey = keyof typeof tables

const statement = fc.record({
  table: fc.constantFrom<TableKey>('by_long', 'by_text', 'by_both', 'by_none'),
  kind: fc.constantFrom('insert', 'insert', 'insert', 'update', 'update', 'touch', 'move', 'delete'),
  id: fc.nat(40),
  count: fc.integer({ min: 1, max: 25 }),
  big: fc.boolean(),
})
const transaction = fc.record({
  statements: fc.array(statement, { minLength: 1, maxLength: 8 }),
  end: fc.constantFrom('commit', 'commit', 'commit', 'rollback', 'rollback to savepoint'),
})
const event = fc.oneof(
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('transaction' as const), transaction }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('check' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('restart' as const, 'kill' as const) }) },
)

const columns = ['id', 'name', 'big', 'amount', 'at']
const sourceColumns = `id::text, name, md5(big) AS big, amount::text, extract(epoch FROM at)::numeric(20,6)::text AS at`
const mirrorColumns = `id::VARCHAR, name, md5(big) AS big, amount::VARCHAR, (epoch_us("at") / 1000000::DECIMAL(20,6))::DECIMAL(20,6)::VARCHAR AS "at"`

function sql({ table, kind, id, count, big }: { table: TableKey; kind: string; id: number; count: number; big: boolean }): string {
  const value = big ? `repeat(md5(g::text), 300)` : `'v' || g`
  // Long random-looking text stays out of line uncompressed, so that an update elsewhere leaves it unchanged TOAST.
  const toasted = big ? `(SELECT string_agg(md5(g::text || k), '') FROM generate_series(1, 120) k)` : value
  const near = `id BETWEEN ${id} AND ${id + count}`
  switch (kind) {
    case 'insert':
      return `INSERT INTO ${table} SELECT g, 'n' || g, ${toasted}, g / 3.0, timestamptz '2026-01-01 00:00:00.000001+00' + g * interval '1 minute'
        FROM generate_series(${id}, ${id + count}) g ${table === 'by_none' ? '' : 'ON CONFLICT DO NOTHING'}`
    case 'update':
      return `UPDATE ${table} SET amount = amount + 1.5, big = CASE WHEN ${big} THEN big ELSE 'w' || id END WHERE ${near}`
    case 'touch':
      return `UPDATE ${table} SET at = NULL WHERE ${near}`
    case 'move':
      return `UPDATE ${table} SET id = id + 1000, name = name || '.' WHERE ${near} AND length(name) < 30`
    default:
      return `DELETE FROM ${table} WHERE ${near} AND id % 2 = ${id % 2}`
  }
}

class Oracle {
  private readonly client: pg.Client
  private readonly args: string[]
  private backend!: BackendProcess
  private readonly moments: { lsn: string; rows: Record<TableKey, string[]> }[] = []
  private floor = 0n

  constructor(client: pg.Client, url: string, name: string) {
    this.client = client
    this.args = ['--source', url, '--state-dir', join(directory, name)]
  }

  async start(): Promise<void> {
    this.backend = await BackendProcess.start(this.args, { MOONLINK_FLUSH_INTERVAL_MS: '3600000', MOONLINK_COMPACTION_MIN_FILES: '3' })
  }

  async do(next: { kind: string; transaction?: { statements: Parameters<typeof sql>[0][]; end: string } }): Promise<void> {
    if (next.kind === 'transaction') return this.transact(next.transaction!)
    if (next.kind === 'check') return this.check()
    if (next.kind === 'flush') {
      await this.backend.wait({ iceberg: true })
      return
    }
    await this.backend.stop(next.kind === 'kill' ? 'SIGKILL' : 'SIGTERM')
    // Rows written while it is down must be there afterwards.
    await this.transact({ statements: [{ table: 'by_long', kind: 'update', id: 0, count: 25, big: true }], end: 'commit' })
    await this.start()
  }

  async finish(): Promise<void> {
    await this.check()
    await this.backend.wait({ iceberg: true })
    await this.check()
    expect(await this.backend.stop()).toBe(0)
  }

  async abandon(): Promise<void> {
    await this.backend.stop('SIGKILL')
  }

  private async transact({ statements, end }: { statements: Parameters<typeof sql>[0][]; end: string }): Promise<void> {
    await this.client.query('BEGIN')
    const savepointAt = end === 'rollback to savepoint' ? Math.floor(statements.length / 2) : -1
    for (const [index, next] of statements.entries()) {
      if (index === savepointAt) await this.client.query('SAVEPOINT s')
      await this.client.query('SAVEPOINT one')
      // A move may meet a key that exists; then this statement alone is undone.
      await this.client.query(sql(next)).catch(() => this.client.query('ROLLBACK TO SAVEPOINT one'))
    }
    if (savepointAt >= 0) await this.client.query('ROLLBACK TO SAVEPOINT s')
    await this.client.query(end === 'rollback' ? 'ROLLBACK' : 'COMMIT')
    const { rows } = await this.client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
    const moment = { lsn: rows[0].lsn, rows: {} as Record<TableKey, string[]> }
    for (const table of Object.keys(tables) as TableKey[]) moment.rows[table] = await this.source(table)
    this.moments.push(moment)
  }

  private async source(table: TableKey): Promise<string[]> {
    const { rows } = await this.client.query<Record<string, string | null>>(`SELECT ${sourceColumns} FROM ${table}`)
    return rows.map((row) => JSON.stringify(columns.map((name) => row[name]))).sort()
  }

  /** Every moment since the held range's floor, and the newest. */
  private async check(): Promise<void> {
    await this.backend.wait()
    const committed = (await this.backend.tables()).map((table) => lsnValue(table.committedLsn ?? '0/0'))
    this.floor = committed.reduce((a, b) => (a > b ? a : b), this.floor)
    for (const [index, { lsn, rows }] of this.moments.entries()) {
      const isLast = index === this.moments.length - 1
      if (lsnValue(lsn) < this.floor && !isLast) continue
      for (const table of Object.keys(tables) as TableKey[]) {
        const at = isLast ? null : lsn
        const seen = (await this.backend.query(`SELECT ${mirrorColumns} FROM public.${table}`, at)).map((row) => JSON.stringify(row)).sort()
        expect(seen, `${table} at ${at ?? 'latest'}`).toEqual(rows[table])
      }
    }
  }
}

function lsnValue(lsn: string): bigint {
  const [high, low] = lsn.split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}

test('a union read at any held LSN equals Postgres at that LSN, across flushes, kills and restarts', { timeout: 600_000 }, async () => {
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 8, maxLength: 30 }), async (events) => {
      const database = await postgres.createDatabase()
      for (const [table, definition] of Object.entries(tables)) await database.client.query(`CREATE TABLE ${table} (${definition})`)
      await database.client.query('ALTER TABLE by_none REPLICA IDENTITY FULL')
      await database.client.query(sql({ table: 'by_text', kind: 'insert', id: 0, count: 25, big: true }))
      const oracle = new Oracle(database.client, database.connectionString, `run-${run++}`)
      await oracle.start()
      try {
        for (const next of events) await oracle.do(next)
        await oracle.finish()
      } catch (error) {
        await oracle.abandon()
        throw error
      }
    }),
    { numRuns: Number(process.env['MOONLINK_ORACLE_RUNS'] ?? 4), endOnFailure: true },
  )
})
