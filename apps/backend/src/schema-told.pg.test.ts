import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, expect, test } from 'vitest'
import { moonlink } from './testing/command-line.ts'
import { SchemaHistory } from './testing/schema-history.ts'

/** Changes of schema that event triggers tell: each LSN shows the schema of its time, across restarts. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-told-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function create(name: string, tables: string): Promise<SchemaHistory> {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(tables)
  expect(await moonlink(['ddl', 'install', '--source', connectionString])).toMatchObject({ status: 0, stderr: '' })
  return SchemaHistory.start(client, connectionString, join(directory, name))
}

test('each LSN shows the schema of its time, before and after flushes, a kill and a stop', async () => {
  const told = await create(
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
  const told = await create(
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
      .poll(async () => (await told.backend.table('public.t')).state + ((await told.read(null).catch(() => [])).length === 51))
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

test('a partitioned table shows what its partitions hold', async () => {
  const told = await create(
    'partitioned',
    `CREATE TABLE t (id int PRIMARY KEY, b int) PARTITION BY RANGE (id);
     CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10);
     CREATE TABLE t_high (x text, b int, id int NOT NULL); ALTER TABLE t_high DROP x; ALTER TABLE t ATTACH PARTITION t_high FOR VALUES FROM (10) TO (100);
     INSERT INTO t SELECT g, g FROM generate_series(1, 20) g`,
  )
  const settled = async () => {
    await expect.poll(async () => (await told.backend.table('public.t')).state).toBe('streaming')
    await told.backend.wait()
  }
  try {
    await told.run(`UPDATE t SET b = 0 WHERE id = 3`)
    await told.run(
      `ALTER TABLE t ADD c int DEFAULT 5`,
      `UPDATE t SET c = 6 WHERE id = 15`,
      `ALTER TABLE t ADD d int`,
      `ALTER TABLE t ALTER b TYPE bigint`,
    )
    await told.run(`INSERT INTO t (id, b) VALUES (30, 5000000000)`)
    await told.check()
    await told.client.query(`ALTER TABLE t ADD e int DEFAULT (random() * 1000)::int`)
    await told.client.query(`UPDATE t SET c = 7 WHERE id = 1`)
    await settled()
    await told.run(`UPDATE t SET c = 8 WHERE id = 2`)
    await told.check(told.moments.length - 1)
    await told.client.query(`ALTER TABLE t ALTER b TYPE bigint USING b + 1`)
    await told.client.query(`UPDATE t SET c = 9 WHERE id = 1`)
    await settled()
    await told.run(`UPDATE t SET c = 10 WHERE id = 2`)
    await told.check(told.moments.length - 1)
    expect(await told.backend.stop()).toBe(0)
  } finally {
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('a table that is dropped and made again under its name is taken on, with fields of its own', async () => {
  const told = await create('again', `CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'old'), (2, 'old')`)
  try {
    await told.run(`UPDATE t SET a = 'older' WHERE id = 1`)
    await told.backend.wait({ iceberg: true })
    await told.client.query(`DROP TABLE t`)
    await expect.poll(async () => (await told.backend.table('public.t')).reason).toMatch(/^TABLE_DROPPED /)
    await told.client.query(`CREATE TABLE t (a int, id int PRIMARY KEY); INSERT INTO t VALUES (10, 1)`)
    await expect.poll(async () => (await told.read(null).catch(() => [])).length).toBe(1)
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

test('a table that loses its last column is paused until it has one again', async () => {
  const told = await create('columns', `CREATE TABLE t (a int); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1), (2)`)
  try {
    await told.run(`UPDATE t SET a = 3 WHERE a = 1`)
    await told.backend.wait()
    await told.client.query(`ALTER TABLE t DROP a`)
    await expect.poll(async () => (await told.backend.table('public.t')).reason).toMatch(/^TABLE_UNSUPPORTED .* no column/)
    await told.client.query(`ALTER TABLE t ADD b text DEFAULT 'x'; INSERT INTO t VALUES ('y')`)
    await expect.poll(async () => (await told.read(null).catch(() => [])).length).toBe(3)
    await told.run(`DELETE FROM t WHERE b = 'y'`)
    await told.check(told.moments.length - 1)
    expect(await told.backend.stop()).toBe(0)
  } finally {
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('rows are named by the index that identifies them, whichever that is, until it is dropped', async () => {
  const told = await create(
    'identity',
    `CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL UNIQUE, b text); INSERT INTO t SELECT g, -g, 'x' FROM generate_series(1, 20) g`,
  )
  try {
    await told.run(
      `UPDATE t SET a = -30 WHERE id = 3`,
      `ALTER TABLE t REPLICA IDENTITY USING INDEX t_a_key`,
      `UPDATE t SET id = 40, b = 'y' WHERE a = -4`,
      `DELETE FROM t WHERE a = -30`,
      `BEGIN; CREATE UNIQUE INDEX other ON t (a, id); ALTER TABLE t REPLICA IDENTITY USING INDEX other; UPDATE t SET a = -50 WHERE id = 5; COMMIT`,
      `DELETE FROM t WHERE id = 6`,
      `DROP INDEX other`,
      `INSERT INTO t VALUES (50, 1, 'z')`,
    )
    await told.check()
    await told.run(`ALTER TABLE t REPLICA IDENTITY DEFAULT`, `UPDATE t SET b = 'w' WHERE id > 10`)
    await told.check()
    await told.backend.wait({ iceberg: true })
    expect(await told.backend.stop()).toBe(0)
    await told.start()
    await told.check(told.moments.length - 1)
  } finally {
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('rows from before a change that makes the table compared stay readable while that has to wait', async () => {
  const told = await create('waiting', `CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE other (id int PRIMARY KEY)`)
  const other = new pg.Client(told.args[1])
  try {
    await other.connect()
    await other.query('BEGIN; INSERT INTO other VALUES (1)')
    await told.run(`INSERT INTO t VALUES (1, 'a')`, `INSERT INTO t VALUES (2, 'b')`, `CREATE TABLE more (id int)`)
    await told.client.query(`ALTER TABLE t ADD b int[] DEFAULT '{1}'`)
    await expect.poll(async () => (await told.backend.table('public.t')).reason).toMatch(/^RESYNC /)
    // Commits that went into one snapshot are shown together.
    for (const { lsn, rows } of told.moments.slice(1)) await expect.poll(() => told.read(lsn).catch(String)).toEqual(rows)
    await other.query('COMMIT')
    await expect.poll(async () => (await told.read(null).catch(() => [])).length).toBe(2)
    await told.check(told.moments.length)
    expect(await told.backend.stop()).toBe(0)
  } finally {
    await other.end()
    await told.backend.stop('SIGKILL').catch(() => undefined)
  }
})
