import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-dotted-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
let backend: BackendProcess
afterEach(() => backend?.stop('SIGKILL'))

const path = (table: string, rest = '') => `/tables/${encodeURIComponent(table)}${rest}`
const metadataDirectory = async (table: string) => join(fileURLToPath((await backend.table(table)).metadataLocation), '..')
const drop = (table: string, purge: boolean) => fetch(`${backend.url}${path(table, `?purge=${purge}`)}`, { method: 'DELETE' })

test('a schema with a dot is quoted in settings and commands, so tables that would be written alike are told apart', async () => {
  const { client, connectionString, name } = await postgres.createDatabase()
  await client.query(`CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE TABLE a."b.c" (id int PRIMARY KEY); CREATE TABLE "a.b".c (id int PRIMARY KEY, v int);
    CREATE TABLE "a.b".alone (id int PRIMARY KEY, span int, v text); CREATE TABLE "a.b".log (v text); CREATE TABLE "a.b".later (id int PRIMARY KEY);
    INSERT INTO a."b.c" VALUES (1); INSERT INTO "a.b".c VALUES (2, 2); INSERT INTO "a.b".alone VALUES (3, 3, 'x'); INSERT INTO "a.b".log VALUES ('l')`)
  const settings = join(directory, 'moonlink.json')
  const source = {
    tables: ['a.b.c', '"a.b".c', '"a.b"."alone"', '"a.b".log'],
    excludeColumns: { '"a.b".alone': ['span'] },
    columns: { '"a.b".c': { v: 'string' } },
    appendOnly: ['"a.b"."log"'],
  }
  writeFileSync(settings, JSON.stringify({ source }))
  const start = async () => {
    backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, name), '--config', settings])
  }
  const states = async () => Object.fromEntries((await backend.tables()).map((table) => [table.name, table.state]))
  const streaming = (...tables: string[]) => Object.fromEntries(tables.map((table) => [table, 'streaming']))
  await start()
  const configured = ['a.b.c', '"a.b".c', '"a.b".alone', '"a.b".log']
  expect(await states()).toEqual(streaming(...configured))
  await backend.post('/tables', { tables: ['"a.b"."later"'] })
  await client.query(`INSERT INTO a."b.c" VALUES (4); INSERT INTO "a.b".c VALUES (5, 5); INSERT INTO "a.b".alone VALUES (5, 5, 'y');
    INSERT INTO "a.b".log VALUES ('m'); INSERT INTO "a.b".later VALUES (6)`)
  for (const command of ['pause', 'resume', 'resync']) {
    for (const table of ['a.b.c', '"a.b"."c"', '"a.b".alone', '"a.b".later']) await backend.post(path(table, `/${command}`), {})
  }
  await expect.poll(states).toEqual(streaming(...configured, '"a.b".later'))
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await backend.stop(signal)
    await client.query(
      `INSERT INTO "a.b".later SELECT count(*) + 100 FROM "a.b".later; ALTER TABLE "a.b".alone ADD IF NOT EXISTS more int DEFAULT 1`,
    )
    await start()
    await expectVerified(backend.url, directory)
    expect(await backend.query('SELECT count(*)::INT FROM "a.b".later')).toEqual([[signal === 'SIGTERM' ? 2 : 3]])
    expect((await backend.read('SELECT * FROM "a.b".alone')).names).not.toContain('span')
    expect(await backend.query('SELECT v FROM "a.b".c ORDER BY id')).toEqual([['2'], ['5']])
    expect(await backend.query('SELECT id::INT FROM a."b.c" ORDER BY id')).toEqual([[1], [4]])
  }
  expect(await states()).toEqual(streaming(...configured, '"a.b".later'))
})

test('a table in a schema with a dot is purged also where it was dropped before, or could not be opened; no other is', async () => {
  const { client, connectionString, name } = await postgres.createDatabase()
  await client.query(`CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE TABLE a."b.c" (id int PRIMARY KEY); CREATE TABLE "a.b".c (id int PRIMARY KEY);
    CREATE TABLE "a.b".d (id int PRIMARY KEY); CREATE TABLE a."b.d" (id int PRIMARY KEY)`)
  const start = async () => {
    backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, name)])
  }
  await start()
  const directories = new Map<string, string>()
  for (const table of ['a.b.c', '"a.b".c', 'a.b.d', '"a.b".d']) directories.set(table, await metadataDirectory(table))
  const kept = () => [...directories].flatMap(([table, at]) => (existsSync(at) ? [table] : []))
  expect((await drop('"a.b".c', false)).ok).toBe(true)
  expect(kept()).toHaveLength(4)
  expect((await drop('"a.b"."c"', true)).ok).toBe(true)
  expect(kept()).toEqual(['a.b.c', 'a.b.d', '"a.b".d'])
  const unknown = await drop('a.b.e', true)
  expect(unknown.status).toBe(404)
  await backend.stop('SIGTERM')
  await client.query(`DROP TABLE "a.b".d`)
  await start()
  expect(await backend.table('"a.b".d')).toMatchObject({ state: 'failed' })
  expect((await drop('"a.b".d', true)).ok).toBe(true)
  expect(kept()).toEqual(['a.b.c', 'a.b.d'])
})
