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

async function waits(name: string, as = 'copying'): Promise<void> {
  const { rows } = await locker.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const who = new RegExp(
    `^its publication waits for the transaction of process ${rows[0].pid} \\(application "migration", .*\\): COMMIT or ROLLBACK there, .* ends it$`,
  )
  await expect.poll(() => state(name), soon).toEqual({ state: as, waitingFor: expect.stringMatching(who) as string })
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

test('one that is paused by request, taken out of the publication and locked at a start stays paused until it is resumed', async () => {
  launch()
  await backend.ready()
  await backend.post('/tables/public.b/pause', {})
  await backend.stop()
  await database.client.query('ALTER PUBLICATION ours DROP TABLE b')
  await lock('b')
  launch()
  await backend.ready()
  const isPaused = { state: 'paused', reason: expect.stringMatching(/^PAUSED by request; /) as string, waitingFor: null }
  expect(await backend.table('public.b')).toMatchObject(isPaused)
  // Its publication waits for the lock, and so does what was asked for.
  await backend.post('/tables/public.b/resync', {})
  await waits('public.b', 'paused')
  await backend.post('/tables/public.b/pause', {})
  expect(await backend.table('public.b')).toMatchObject(isPaused)
  await backend.post('/tables/public.b/resync', {})
  await backend.stop('SIGKILL')
  launch()
  await waits('public.b', 'paused')
  await database.client.query('INSERT INTO b VALUES (2); DELETE FROM b WHERE id = 1')
  await locker.query('COMMIT')
  await streams('public.b')
  await isEqual()
})

test('one that was paused by request while it was compared stays so after a restart', async () => {
  launch()
  await backend.ready()
  const writer = new pg.Client({ connectionString: database.connectionString })
  await writer.connect()
  await writer.query('BEGIN; INSERT INTO a VALUES (2)')
  await backend.post('/tables/public.b/resync', {})
  await expect.poll(async () => (await backend.table('public.b')).waitingFor, soon).toMatch(/^the copy waits for/)
  await backend.post('/tables/public.b/pause', {})
  await backend.stop('SIGKILL')
  await writer.end()
  launch()
  await backend.ready()
  expect(await backend.table('public.b')).toMatchObject({ state: 'paused', reason: expect.stringMatching(/^PAUSED /) as string })
})

test('what is asked of one table does not fail for another that was taken out of the publication, and is locked: that one is made equal once it is free', async () => {
  launch()
  await backend.ready()
  await database.client.query('CREATE TABLE c (id int PRIMARY KEY)')
  await database.client.query('ALTER PUBLICATION ours DROP TABLE b; INSERT INTO b VALUES (2); DELETE FROM b WHERE id = 1')
  await lock('b')
  await backend.post('/tables/public.a/resync', {})
  await streams('public.a')
  await waits('public.b', 'paused')
  expect((await backend.table('public.b')).reason).toMatch(/^TABLE_LOCKED it is not in the publication any more/)
  await backend.post('/tables', { tables: ['public.c'] })
  await streams('public.c')
  expect((await fetch(`${backend.url}/tables/public.c`, { method: 'DELETE' })).status).toBe(200)
  expect(await state('public.c')).toBeNull()
  await locker.query('COMMIT')
  await streams('public.b')
  await isEqual()
})

test('one that is locked when it is dropped leaves the publication by itself once it is free', async () => {
  launch()
  await backend.ready()
  await lock('b')
  expect((await fetch(`${backend.url}/tables/public.b`, { method: 'DELETE' })).status).toBe(200)
  const published = async () =>
    (await database.client.query(`SELECT FROM pg_publication_tables WHERE pubname = 'ours' AND tablename = 'b'`)).rowCount
  expect(await published()).toBe(1)
  await locker.query('COMMIT')
  await expect.poll(published, soon).toBe(0)
  await database.client.query('INSERT INTO a VALUES (2)')
  await isEqual()
})

test('one that is dropped just as it is published is in the publication no longer', async () => {
  await lock('b')
  launch()
  await waits('public.b')
  const { client } = database
  await client.query(`CREATE FUNCTION held() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); END';
    CREATE EVENT TRIGGER held ON ddl_command_start WHEN TAG IN ('ALTER PUBLICATION') EXECUTE FUNCTION held();
    SELECT pg_advisory_lock(1)`)
  await locker.query('COMMIT')
  const held = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
  await expect.poll(async () => (await client.query(held)).rowCount, soon).toBe(1)
  expect((await fetch(`${backend.url}/tables/public.b`, { method: 'DELETE' })).status).toBe(200)
  await client.query('SELECT pg_advisory_unlock(1)')
  await expect.poll(async () => (await client.query(held)).rowCount, soon).toBe(0)
  const published = async () =>
    (await client.query(`SELECT FROM pg_publication_tables WHERE pubname = 'ours' AND tablename = 'b'`)).rowCount
  const isAtIt = `SELECT FROM pg_stat_activity WHERE application_name = 'moonlink publication' AND datname = current_database()`
  await expect.poll(async () => (await client.query(isAtIt)).rowCount, soon).toBe(0)
  expect(await published()).toBe(0)
})
