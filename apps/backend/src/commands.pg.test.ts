import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess, RequestError } from './testing/backend-process.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-commands-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
let backend: BackendProcess
afterEach(() => backend.stop('SIGKILL'))

async function begin(name: string) {
  const { client, connectionString, name: database } = await postgres.createDatabase()
  await client.query(
    'CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)',
  )
  const warehouse = join(directory, name, 'warehouse')
  const args = ['--source', connectionString, '--state-dir', join(directory, name, 'state'), '--warehouse', warehouse]
  backend = await BackendProcess.start(args)
  return { args, client, database, warehouse }
}

async function dropped(table: string): Promise<string> {
  const response = await fetch(`${backend.url}/tables/${table}`, { method: 'DELETE' })
  return response.ok ? 'done' : ((await response.json()) as { error: { kind: string; code: string } }).error.kind
}

const stateOf = async (table: string) => (await backend.table(table)).state

test('a pause while the store is away says that it is not recorded, and is once the store is back: a crash does not end it', async () => {
  const { args, client, warehouse } = await begin('store')
  await client.query('INSERT INTO a VALUES (2)')
  const lsn = await backend.wait()
  renameSync(warehouse, `${warehouse}.away`)
  writeFileSync(warehouse, '')
  const pause = () =>
    backend.post('/tables/public.a/pause', {}).then(
      () => 'done',
      (error: RequestError) => error.code,
    )
  expect([await pause(), await pause()]).toEqual(['NOT_RECORDED', 'NOT_RECORDED'])
  expect(await stateOf('public.a')).toBe('paused')
  rmSync(warehouse)
  renameSync(`${warehouse}.away`, warehouse)
  await expect.poll(pause).toBe('done')
  expect(await backend.query('SELECT id FROM public.a ORDER BY id', lsn)).toEqual([[1], [2]])
  await backend.stop('SIGKILL')
  backend = await BackendProcess.start(args)
  expect(await stateOf('public.a')).toBe('paused')
  await backend.post('/tables/public.a/resume', {})
  await expect.poll(() => backend.query('SELECT count(*)::INT FROM public.a').catch(() => [])).toEqual([[2]])
})

test('a table stays as it is where it can not be dropped, since the source is away, and is dropped once that is back', async () => {
  const { client, database } = await begin('source')
  const other = await postgres.createDatabase()
  await client.end()
  await other.client.query(`ALTER DATABASE ${database} ALLOW_CONNECTIONS false`)
  await other.client.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [database])
  expect(await dropped('public.b')).toBe('retry')
  expect(await stateOf('public.b')).toBe('streaming')
  await other.client.query(`ALTER DATABASE ${database} ALLOW_CONNECTIONS true`)
  await expect.poll(() => dropped('public.b')).toBe('done')
  expect((await backend.tables()).map(({ name }) => name)).toEqual(['public.a'])
})

test('who waits for an LSN that does not come keeps no backend from stopping, and is told that it stops', async () => {
  await begin('waiting')
  const code = (waiting: Promise<unknown>) => waiting.catch((error: RequestError) => error.code)
  const lsn = 'FF/0'
  const waits = [backend.wait({ lsn, timeoutMs: 3_600_000 }), backend.wait({ lsn, iceberg: true, timeoutMs: 3_600_000 })]
  const codes = [...waits, backend.post('/query', { sql: 'SELECT * FROM public.a', atLsn: lsn, timeoutMs: 3_600_000 })].map(code)
  await backend.status()
  expect(await backend.stop('SIGTERM')).toBe(0)
  expect(await Promise.all(codes)).toEqual(['STOPPING', 'STOPPING', 'STOPPING'])
})
