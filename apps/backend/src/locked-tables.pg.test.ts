import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { verified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-locked-'))
const soon = { timeout: 60_000 }
let database: TestDatabase
let locker: pg.Client
let backend: BackendProcess

beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(
    'CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)',
  )
  locker = new pg.Client({ connectionString: database.connectionString, application_name: 'migration' })
  await locker.connect()
})
afterEach(async () => {
  await backend.stop('SIGKILL')
  await locker.end()
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Without a transaction id, so that only who wants the table waits for it. */
const lock = (table: string) => locker.query(`BEGIN; LOCK TABLE ${table} IN SHARE UPDATE EXCLUSIVE MODE`)
const launch = () => {
  backend = BackendProcess.launch([
    '--source',
    database.connectionString,
    '--state-dir',
    join(directory, database.name),
    '--set',
    'source.publication=ours',
  ])
}
const state = (name: string) =>
  backend.table(name).then(
    ({ state, waitingFor }) => ({ state, waitingFor }),
    () => null,
  )
const streams = (name: string) => expect.poll(() => state(name), soon).toEqual({ state: 'streaming', waitingFor: null })

async function waits(name: string): Promise<void> {
  const { rows } = await locker.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const who = new RegExp(
    `^its publication waits for the transaction of process ${rows[0].pid} \\(application "migration", .*\\): COMMIT or ROLLBACK there, .* ends it$`,
  )
  await expect.poll(() => state(name), soon).toEqual({ state: 'copying', waitingFor: expect.stringMatching(who) as string })
}

async function isEqual(): Promise<void> {
  const { status, stderr, stdout } = await verified(backend.url, directory)
  expect(`${status} ${stdout}${stderr}`).toMatch(/^0 /)
}

test('a table that is locked at the first start keeps no other waiting, is said with who locks it, and is mirrored once it is free', async () => {
  await lock('b')
  launch()
  await streams('public.a')
  await waits('public.b')
  const ready = await fetch(`${backend.url}/ready`)
  expect(ready.status).toBe(503)
  expect(await ready.json()).toEqual({
    ready: false,
    waitingFor: [expect.stringMatching(/^the copy of public.b: its publication waits for .*migration/)],
  })
  const { status, stdout } = await moonlink(['verify'], { MOONLINK_URL: backend.url }, directory)
  expect(`${status} ${stdout}`).toMatch(/^1 (.*\n)*public\.b: could not be compared: TABLE_COPYING .*\n/)
  for (const what of ['pause', 'resync'])
    await expect(backend.post(`/tables/public.b/${what}`, {})).rejects.toMatchObject({ code: 'TABLE_COPYING' })
  await expect(backend.post('/flush', { tables: ['public.b'] })).rejects.toMatchObject({ code: 'TABLE_COPYING' })
  await database.client.query('INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)')
  await locker.query('COMMIT')
  await streams('public.b')
  await database.client.query('INSERT INTO b VALUES (3)')
  await isEqual()
})

test('so is one that is added while others are mirrored; it can be dropped meanwhile', async () => {
  launch()
  await backend.ready()
  await database.client.query('CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY); INSERT INTO c VALUES (1)')
  await lock('c, d')
  await backend.post('/tables', { tables: ['public.c', 'public.d'] })
  await waits('public.c')
  await waits('public.d')
  await expect(backend.post('/tables', { tables: ['public.c'] })).rejects.toMatchObject({ code: 'TABLE_EXISTS' })
  await fetch(`${backend.url}/tables/public.d`, { method: 'DELETE' })
  expect(await state('public.d')).toBeNull()
  await database.client.query('INSERT INTO a VALUES (2); INSERT INTO c VALUES (2)')
  await expect.poll(() => backend.query('SELECT count(*)::INT FROM public.a'), soon).toEqual([[2]])
  await locker.query('COMMIT')
  await streams('public.c')
  await isEqual()
  expect((await backend.tables()).map(({ name }) => name)).toEqual(['public.a', 'public.b', 'public.c'])
})

test('one that was taken out of the publication while nothing ran, and is locked then, is made equal once it is free, after a crash too', async () => {
  launch()
  await backend.ready()
  await backend.stop()
  await database.client.query('ALTER PUBLICATION ours DROP TABLE b; INSERT INTO b VALUES (2); DELETE FROM b WHERE id = 1')
  await lock('b')
  launch()
  await streams('public.a')
  await waits('public.b')
  await backend.stop('SIGKILL')
  // As another look would have left it that was cut off right after.
  await locker.query('COMMIT')
  await database.client.query('ALTER PUBLICATION ours ADD TABLE ONLY b; INSERT INTO b VALUES (3)')
  launch()
  await backend.ready()
  await isEqual()
})
