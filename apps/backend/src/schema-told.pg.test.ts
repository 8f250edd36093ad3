import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'

/** Changes of schema that event triggers tell: each LSN shows the schema of its time, across restarts. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-told-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

type Client = Awaited<ReturnType<typeof postgres.createDatabase>>['client']
type Row = Readonly<Record<string, unknown>>

/** What the source showed from an LSN on. */
interface Moment {
  readonly lsn: string
  readonly rows: readonly string[]
}

class Told {
  readonly moments: Moment[] = []
  backend!: BackendProcess
  readonly client: Client
  readonly args: readonly string[]

  constructor(client: Client, args: readonly string[]) {
    this.client = client
    this.args = args
  }

  static async create(name: string, tables: string): Promise<Told> {
    const { client, connectionString } = await postgres.createDatabase()
    await client.query(tables)
    const installed = await moonlink(['ddl', 'install', '--source', connectionString])
    expect(installed).toMatchObject({ status: 0, stderr: '' })
    const told = new Told(client, ['--source', connectionString, '--state-dir', join(directory, name), '--set', 'flush.intervalMs=1h'])
    await told.start()
    return told
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

function canonical(row: Row): string {
  return JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)))
}

test('each LSN shows the schema of its time, before and after flushes, a kill and a stop', async () => {
  const told = await Told.create(
    'kept',
    `CREATE TABLE t (id int PRIMARY KEY, a text, b int NOT NULL); INSERT INTO t SELECT g, 'a' || g, g FROM generate_series(1, 20) g`,
  )
  try {
    await told.backend.wait({ iceberg: true })
    await told.run(
      `INSERT INTO t VALUES (21, 'x', 21)`,
      `ALTER TABLE t ADD c int DEFAULT 7`,
      `UPDATE t SET c = 8 WHERE id < 4`,
      `BEGIN; DELETE FROM t WHERE id = 5; ALTER TABLE t RENAME a TO x; INSERT INTO t (id, x, b) VALUES (22, 'y', 0); ALTER TABLE t DROP c; ALTER TABLE t ADD c text; UPDATE t SET c = 'own' WHERE id = 22; COMMIT`,
      `ALTER TABLE t ALTER b TYPE bigint`,
      `INSERT INTO t (id, b) VALUES (23, 5000000000)`,
      `ALTER TABLE t ALTER b DROP NOT NULL`,
      `INSERT INTO t (id) VALUES (24)`,
    )
    await told.check()
    await told.backend.wait({ iceberg: true })
    await told.check(told.moments.length - 1)
    await told.run(`ALTER TABLE t DROP x`, `ALTER TABLE t ADD d boolean DEFAULT true`, `UPDATE t SET d = false WHERE id % 2 = 0`)
    await told.check(8)
    await told.backend.stop('SIGKILL')
    // While it is down, too.
    await told.run(
      `ALTER TABLE t RENAME d TO e`,
      `INSERT INTO t (id, e) VALUES (30, NULL)`,
      `ALTER TABLE t DROP CONSTRAINT t_pkey`,
      `ALTER TABLE t ADD PRIMARY KEY (id, e)`.replace('(id, e)', '(id)'),
      `DELETE FROM t WHERE id = 1`,
    )
    await told.start()
    await told.check(8)
    expect(await told.backend.stop()).toBe(0)
    await told.run(`ALTER TABLE t ADD f int`, `UPDATE t SET f = id`)
    await told.start()
    await told.check(told.moments.length - 2)
    expect(await told.backend.stop()).toBe(0)
  } finally {
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})

test.each([
  ['a value of its own in each row', `ALTER TABLE t ADD c int DEFAULT (random() * 1000)::int`],
  ['values computed anew', `ALTER TABLE t ALTER b TYPE bigint USING b + 1`],
  ['a type that old values are none of', `ALTER TABLE t ALTER b TYPE text`],
  ['a renamed value of an enum', `ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`],
  [
    'another key',
    `ALTER TABLE t ADD k int DEFAULT (random() * 1000)::int; UPDATE t SET k = id; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k)`,
  ],
])('%s: the table is compared, and rows from before stay readable', async (name, ddl) => {
  const told = await Told.create(
    name.replaceAll(' ', '-'),
    `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, a text, b int, m mood)`,
  )
  try {
    await told.run(`INSERT INTO t SELECT g, 'a' || g, g, 'sad' FROM generate_series(1, 50) g`, `UPDATE t SET a = 'new' WHERE id = 3`)
    await told.backend.wait()
    await told.client.query(ddl)
    const before = told.moments.at(-1)!
    await told.run(
      `INSERT INTO t (id, a, m) VALUES (51, 'later', 'ok')`
        .replace('(id, a, m)', ddl.includes('(k)') ? '(k, id, a, m)' : '(id, a, m)')
        .replace('(51,', ddl.includes('(k)') ? '(51, 51,' : '(51,'),
    )
    await expect
      .poll(async () => (await told.backend.table('public.t')).state + ((await told.read(null).catch(() => [])).length === 51), {
        timeout: 30_000,
      })
      .toBe('streamingtrue')
    await told.run(`DELETE FROM t WHERE id = 1`)
    await told.check(told.moments.length - 1)
    expect(await told.read(before.lsn)).toEqual(before.rows)
    await told.backend.wait({ iceberg: true })
    expect(await told.backend.stop()).toBe(0)
    await told.start()
    await told.check(told.moments.length - 1)
  } finally {
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('a table that is dropped and made again under its name is taken on, with fields of its own', async () => {
  const told = await Told.create('again', `CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'old'), (2, 'old')`)
  try {
    await told.run(`UPDATE t SET a = 'older' WHERE id = 1`)
    await told.backend.wait({ iceberg: true })
    await told.client.query(`DROP TABLE t`)
    await expect.poll(async () => (await told.backend.table('public.t')).reason, { timeout: 30_000 }).toMatch(/^TABLE_DROPPED /)
    await told.client.query(`CREATE TABLE t (a int, id int PRIMARY KEY); INSERT INTO t VALUES (10, 1)`)
    await expect.poll(async () => (await told.read(null).catch(() => [])).length, { timeout: 60_000 }).toBe(1)
    await told.run(`INSERT INTO t VALUES (20, 3)`, `ALTER TABLE t ADD b text DEFAULT 'x'`, `DELETE FROM t WHERE id = 1`)
    await told.check(told.moments.length - 3)
    expect(await told.read(told.moments[0].lsn)).toEqual(told.moments[0].rows)
    await told.backend.wait({ iceberg: true })
    expect(await told.backend.stop()).toBe(0)
    await told.start()
    await told.check(told.moments.length - 1)
  } finally {
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})
