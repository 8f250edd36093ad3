import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-gone-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
let backend: BackendProcess | undefined
afterEach(() => backend?.stop('SIGKILL'))

async function reasonOf(name: string): Promise<string> {
  const { reason, state } = await backend!.table(`public.${name}`)
  return `${state} ${reason ?? ''}`
}

test('without event triggers, tables that are dropped, renamed or made anew are noticed, and known after a restart', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  const names = ['dropped', 'anew', 'renamed', 'replaced', 'kept', 'later']
  for (const name of names) await client.query(`CREATE TABLE ${name} (id int PRIMARY KEY); INSERT INTO ${name} VALUES (1), (2)`)
  const args = [
    '--source',
    connectionString,
    '--state-dir',
    join(directory, 'state'),
    '--set',
    'source.slotCheckMs=200',
    '--set',
    'source.onSchemaChange=pause',
  ]
  backend = await BackendProcess.start(args)
  await client.query(`DROP TABLE dropped, anew; CREATE TABLE anew (id int PRIMARY KEY, more text); INSERT INTO anew VALUES (3, 'x');
    ALTER TABLE renamed RENAME TO other; ALTER TABLE replaced RENAME TO old_one; CREATE TABLE replaced (id int PRIMARY KEY); INSERT INTO replaced VALUES (7)`)
  await expect.poll(() => reasonOf('dropped')).toMatch(/^paused TABLE_DROPPED /)
  await expect.poll(() => reasonOf('renamed')).toMatch(/^paused TABLE_RENAMED the source calls the table public\.other now/)
  await expect.poll(() => reasonOf('replaced')).toMatch(/^paused TABLE_RENAMED the source calls the table public\.old_one now/)
  await expect.poll(() => backend!.query('SELECT * FROM anew').catch(() => [])).toEqual([[3, 'x']])
  // Whoever looks at the catalog meanwhile still finds that it was renamed.
  await backend.post('/tables/public.replaced/resync', {})
  await expect.poll(() => backend!.query('SELECT * FROM replaced').catch(() => [])).toEqual([[7]])
  await client.query(`INSERT INTO anew VALUES (4, 'y'); INSERT INTO kept VALUES (3)`)
  await backend.wait()
  expect(await backend.query('SELECT (SELECT count(*)::INT FROM anew), (SELECT count(*)::INT FROM kept)')).toEqual([[2, 3]])

  await backend.stop()
  await client.query('DROP TABLE later')
  backend = await BackendProcess.start(args)
  expect(await reasonOf('kept')).toBe('streaming ')
  expect(await reasonOf('dropped')).toMatch(/^failed TABLE_UNKNOWN the source has no table public\.dropped/)
  expect(await reasonOf('later')).toMatch(/^failed TABLE_UNKNOWN .*moonlink tables drop public\.later ends its mirroring/)
  expect((await fetch(`${backend.url}/tables/public.later`, { method: 'DELETE' })).status).toBe(200)
  await client.query('CREATE TABLE dropped (id int PRIMARY KEY); INSERT INTO dropped VALUES (9)')
  await backend.post('/tables', { tables: ['public.dropped'] })
  await backend.wait()
  expect(await backend.query('SELECT * FROM dropped')).toEqual([[9]])
  expect((await backend.tables()).map(({ name }) => name)).not.toContain('public.later')
})

test('a table that is dropped while the copies of a start wait for their snapshot is paused alone, and the others are copied', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE before (id int PRIMARY KEY)')
  const args = ['--source', connectionString, '--state-dir', join(directory, 'waiting')]
  backend = await BackendProcess.start(args)
  await backend.stop()
  await client.query('CREATE TABLE dropped (id int PRIMARY KEY); CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)')
  const sessions = [new pg.Client({ connectionString }), new pg.Client({ connectionString })]
  for (const session of sessions) await session.connect()
  const [writer, dropper] = sessions
  await writer.query('BEGIN; INSERT INTO before VALUES (1)')
  backend = BackendProcess.launch(args)
  const table = (name: string) => backend!.table(name).catch(() => null)
  await expect.poll(async () => (await table('public.kept'))?.waitingFor).toMatch(/^the copy waits for/)
  // It waits for the copy, and the copy then for it: that gives way.
  const dropping = dropper.query('DROP TABLE dropped')
  const isWaiting = `SELECT FROM pg_stat_activity WHERE query = 'DROP TABLE dropped' AND wait_event_type = 'Lock'`
  await expect.poll(async () => (await client.query(isWaiting)).rowCount).toBe(1)
  await writer.query('COMMIT')
  await dropping
  await expect.poll(async () => (await table('public.kept'))?.state).toBe('streaming')
  expect(await table('public.dropped')).toMatchObject({ state: 'paused', reason: expect.stringMatching(/^TABLE_UNKNOWN /) as string })
  await client.query('INSERT INTO kept VALUES (2)')
  await expect.poll(() => backend!.query('SELECT count(*)::INT FROM kept')).toEqual([[2]])
  for (const session of sessions) await session.end()
})

test('a table that becomes a partition, or unlogged, is paused with the reason while it runs, and goes on once that is undone', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  for (const name of ['attached', 'unlogged', 'kept'])
    await client.query(`CREATE TABLE ${name} (id int PRIMARY KEY); INSERT INTO ${name} VALUES (1)`)
  await client.query('CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root)')
  const settings = ['--set', 'source.slotCheckMs=200', '--set', 'source.publication=everything']
  backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'becomes'), ...settings])
  await client.query(`CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id);
    ALTER TABLE parent ATTACH PARTITION attached FOR VALUES FROM (0) TO (100); ALTER TABLE unlogged SET UNLOGGED`)
  await client.query('INSERT INTO parent VALUES (2); INSERT INTO unlogged VALUES (2); INSERT INTO kept VALUES (2)')
  await expect
    .poll(() => reasonOf('attached'), { timeout: 20_000 })
    .toMatch(/^paused TABLE_UNPUBLISHED public\.attached is a partition, published as public\.parent/)
  await expect
    .poll(() => reasonOf('unlogged'), { timeout: 20_000 })
    .toMatch(/^paused TABLE_UNSUPPORTED public\.unlogged is unlogged, .*SET LOGGED/)
  await backend.wait()
  expect(await backend.query('SELECT * FROM kept ORDER BY id')).toEqual([[1], [2]])

  await client.query('ALTER TABLE parent DETACH PARTITION attached; ALTER TABLE unlogged SET LOGGED')
  await backend.post('/tables/public.attached/resync', {})
  for (const name of ['attached', 'unlogged'])
    await expect.poll(() => backend!.query(`SELECT * FROM ${name} ORDER BY id`).catch(() => []), { timeout: 20_000 }).toEqual([[1], [2]])
})
