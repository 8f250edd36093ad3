import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { SchemaHistory } from './testing/schema-history.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-schema-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test.each(['by command', 'by itself'])('a table whose shape changed is taken on %s, and its old rows stay readable', async (how) => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(`CREATE TABLE t (id int PRIMARY KEY, a text, b int); CREATE TABLE other (id int PRIMARY KEY)`)
  await client.query(`INSERT INTO t SELECT g, 'a' || g, g FROM generate_series(1, 99) g`)
  const args = ['--source', connectionString, '--state-dir', join(directory, how.replace(' ', '-'))]
  if (how === 'by command') args.push('--set', 'source.onSchemaChange=pause')
  let backend = await BackendProcess.start(args)
  try {
    await backend.wait()
    await client.query(`INSERT INTO t VALUES (100, 'a100', 100)`)
    const before = (await client.query<{ lsn: string }>(`SELECT pg_current_wal_insert_lsn()::text AS lsn`)).rows[0].lsn
    await backend.wait({ iceberg: true })
    await client.query(`ALTER TABLE t ADD c text DEFAULT 'new', ALTER b TYPE bigint USING b + 1; ALTER TABLE t RENAME a TO x`)
    await client.query(`INSERT INTO t VALUES (101, 'a101', 5000000000, 'own'); INSERT INTO other VALUES (1)`)
    if (how === 'by command') {
      await expect.poll(async () => (await backend.tables()).find((table) => table.name === 'public.t')!.state).toBe('paused')
      const paused = (await backend.tables()).find((table) => table.name === 'public.t')!
      expect(paused.reason).toMatch(/SCHEMA_CHANGED.*moonlink tables resync/)
      expect(await backend.query(`SELECT count(*), min(a), max(b) FROM t`, before)).toEqual([[100, 'a1', 100]])
      await expect(backend.query(`SELECT id FROM t`)).rejects.toThrow(/TABLE_PAUSED.*--at-lsn/)
    } else {
      const at = async () => (await backend.tables()).find((table) => table.name === 'public.t')!
      await expect.poll(async () => [(await at()).state, (await at()).rows]).toEqual(['streaming', 101])
    }
    if (how === 'by command') await backend.post('/tables/public.t/resync', {})
    await expect.poll(async () => (await backend.tables()).find((table) => table.name === 'public.t')!.state).toBe('streaming')
    await client.query(`UPDATE t SET c = 'changed' WHERE id = 1; DELETE FROM t WHERE id = 2`)
    await backend.wait()
    const rows = async () => backend.query(`SELECT id, x, b, c FROM t WHERE id IN (1, 2, 3, 101) ORDER BY id`)
    const expected = [
      [1, 'a1', 2, 'changed'],
      [3, 'a3', 4, 'new'],
      [101, 'a101', 5_000_000_000, 'own'],
    ]
    expect(await rows()).toEqual(expected)
    expect(await backend.query(`SELECT count(*), min(a), max(b) FROM t`, before)).toEqual([[100, 'a1', 100]])
    await backend.wait({ iceberg: true })
    await backend.stop()
    backend = await BackendProcess.start(args)
    await backend.wait()
    expect(await rows()).toEqual(expected)
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL').catch(() => undefined)
  }
})

test('without event triggers, renamed values of an enum are noticed while the mirror runs and after a stop, also where no row follows', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, m mood)`)
  await client.query(`INSERT INTO t VALUES (1, 'sad'), (2, 'ok')`)
  const args = ['--source', connectionString, '--state-dir', join(directory, 'renamed-values'), '--set', 'source.slotCheckMs=200']
  let backend = await BackendProcess.start(args)
  const shown = () => backend.query('SELECT m FROM t ORDER BY id').catch(() => [])
  try {
    await client.query(`ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`)
    await expect.poll(shown).toEqual([['blue'], ['ok']])
    await backend.stop()
    await client.query(`ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'; INSERT INTO t VALUES (3, 'fine')`)
    backend = await BackendProcess.start(args)
    await expect.poll(shown).toEqual([['blue'], ['fine'], ['fine']])
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL')
  }
})

test('a table that changes between being listed and being copied is copied as it is by then, and the others go on', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY); INSERT INTO t VALUES (1); INSERT INTO other VALUES (1)`,
  )
  await client.query('BEGIN; ALTER TABLE t ADD COLUMN name text')
  const backend = BackendProcess.launch(['--source', connectionString, '--state-dir', join(directory, 'changing')])
  try {
    const waits = `SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND relation = 't'::regclass`
    await expect.poll(async () => (await client.query<{ n: number }>(waits)).rows[0].n).toBe(1)
    await client.query(`COMMIT; INSERT INTO t VALUES (2, 'two')`)
    await backend.ready()
    await expect
      .poll(async () => (await backend.tables()).map(({ name, rows, state }) => [name, state, rows]))
      .toEqual([
        ['public.other', 'streaming', 1],
        ['public.t', 'streaming', 2],
      ])
    expect(await backend.query('SELECT id, name FROM t ORDER BY id')).toEqual([
      [1, null],
      [2, 'two'],
    ])
    expect(await backend.stop()).toBe(0)
  } finally {
    await backend.stop('SIGKILL')
  }
})

test('without event triggers too, each LSN shows the schema of its time from the first row in it on, before and after flushes, a kill and a stop', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, a text, b int NOT NULL, v varchar(9), m mood)`,
  )
  await client.query(`INSERT INTO t SELECT g, 'a' || g, g, 'v', 'sad' FROM generate_series(1, 20) g`)
  const history = await SchemaHistory.start(client, connectionString, join(directory, 'in-place'))
  /** A change, and a row after it. */
  const change = async (ddl: string, row: string) => {
    await client.query(ddl)
    await history.run(row)
    await history.backend.wait()
  }
  try {
    await history.backend.wait({ iceberg: true })
    await history.run(`INSERT INTO t VALUES (21, 'x', 21)`)
    await change(`ALTER TABLE t ADD c int DEFAULT 7`, `UPDATE t SET c = 8 WHERE id < 4`)
    await change(`ALTER TABLE t RENAME a TO x`, `DELETE FROM t WHERE id = 5`)
    await history.run(`BEGIN; INSERT INTO t VALUES (22, 'y', 0); ALTER TABLE t DROP v; INSERT INTO t VALUES (23, 'z', 0, 'ok', 1); COMMIT`)
    await history.check()
    await history.backend.wait({ iceberg: true })
    await history.check(history.moments.length - 1)
    await change(`ALTER TABLE t ALTER b DROP NOT NULL`, `INSERT INTO t (id) VALUES (24)`)
    await change(`ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)`, `UPDATE t SET b = 1 WHERE id = 24`)
    await change(`ALTER TYPE mood ADD VALUE 'new'`, `UPDATE t SET m = 'new' WHERE id = 1`)
    await history.check(3)
    await history.backend.stop('SIGKILL')
    await client.query(`ALTER TABLE t ADD d text DEFAULT 'd'`)
    await history.run(`INSERT INTO t (id) VALUES (30)`)
    await client.query(`ALTER TABLE t RENAME x TO y; ALTER TABLE t ADD f int`)
    await history.run(`UPDATE t SET f = id WHERE id % 2 = 0`)
    await history.start()
    await history.check(history.moments.length - 2)
    expect(await history.backend.stop()).toBe(0)
    await history.run(`ALTER TABLE t DROP c; DELETE FROM t WHERE id = 2`)
    await history.start()
    await history.check(history.moments.length - 1)
    await history.backend.wait({ iceberg: true })
    await history.check(history.moments.length - 1)
    expect(await history.backend.stop()).toBe(0)
  } finally {
    await history.backend.stop('SIGKILL').catch(() => undefined)
  }
})
