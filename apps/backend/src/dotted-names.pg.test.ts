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

test('tables in a schema with a dot are named without quotes, in settings and commands; of two that are written alike the list shows which one is mirrored', async () => {
  const { client, connectionString, name } = await postgres.createDatabase()
  await client.query(`CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE TABLE a."b.c" (id int PRIMARY KEY); CREATE TABLE "a.b".c (id int PRIMARY KEY, v int);
    CREATE TABLE "a.b".alone (id int PRIMARY KEY, span int, v text); CREATE TABLE "a.b".log (v text); CREATE TABLE "a.b".later (id int PRIMARY KEY);
    INSERT INTO a."b.c" VALUES (1); INSERT INTO "a.b".c VALUES (2, 2); INSERT INTO "a.b".alone VALUES (3, 3, 'x'); INSERT INTO "a.b".log VALUES ('l')`)
  const settings = join(directory, 'moonlink.json')
  const source = { tables: ['a.b.c', 'a.b.alone', 'a.b.log'], excludeColumns: { 'a.b.alone': ['span'] }, appendOnly: ['a.b.log'] }
  writeFileSync(settings, JSON.stringify({ source }))
  const start = async () => {
    backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, name), '--config', settings])
  }
  const listed = async () => {
    const { tables } = (await (await fetch(`${backend.url}/tables`)).json()) as { tables: { name: string }[] }
    return tables.filter(({ name }) => name === 'a.b.c')
  }
  const states = async () => Object.fromEntries((await backend.tables()).map((table) => [table.name, table.state]))
  await start()
  expect(await states()).toEqual({ 'a.b.c': 'streaming', 'a.b.alone': 'streaming', 'a.b.log': 'streaming' })
  expect(await listed()).toMatchObject([
    { mirrored: true, state: 'streaming', reason: null },
    { mirrored: false, state: null, reason: expect.stringContaining('"a"."b.c"') as string },
  ])
  await backend.post('/tables', { tables: ['a.b.later'] })
  await client.query(
    `INSERT INTO a."b.c" VALUES (4); INSERT INTO "a.b".alone VALUES (5, 5, 'y'); INSERT INTO "a.b".log VALUES ('m'); INSERT INTO "a.b".later VALUES (6)`,
  )
  for (const command of ['pause', 'resume', 'resync']) {
    for (const table of ['a.b.c', 'a.b.alone', 'a.b.later']) await backend.post(`/tables/${table}/${command}`, {})
  }
  await expect.poll(states).toEqual({ 'a.b.c': 'streaming', 'a.b.alone': 'streaming', 'a.b.log': 'streaming', 'a.b.later': 'streaming' })
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await backend.stop(signal)
    await client.query(
      `INSERT INTO "a.b".later SELECT count(*) + 100 FROM "a.b".later; ALTER TABLE "a.b".alone ADD IF NOT EXISTS more int DEFAULT 1`,
    )
    await start()
    await expectVerified(backend.url, directory)
    expect(await backend.query('SELECT count(*)::INT FROM "a.b".later')).toEqual([[signal === 'SIGTERM' ? 2 : 3]])
    expect((await backend.read('SELECT * FROM "a.b".alone')).names).not.toContain('span')
  }
  expect(Object.keys(await states()).sort()).toEqual(['a.b.alone', 'a.b.c', 'a.b.later', 'a.b.log'])
  const files = join(fileURLToPath((await backend.table('a.b.alone')).metadataLocation), '..')
  expect(existsSync(files)).toBe(true)
  const dropped = await fetch(`${backend.url}/tables/a.b.alone?purge=true`, { method: 'DELETE' })
  expect(dropped.ok).toBe(true)
  expect(existsSync(files)).toBe(false)
  expect(Object.keys(await states()).sort()).toEqual(['a.b.c', 'a.b.later', 'a.b.log'])
})
