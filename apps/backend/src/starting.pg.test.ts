import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { TcpProxy } from './testing/chaos/tcp-proxy.ts'
import { moonlink } from './testing/command-line.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-starting-'))
const soon = { timeout: 60_000 }
let backend: BackendProcess
afterEach(() => backend.stop('SIGKILL'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('a first start that waits for a transaction of the source answers, and says for whom it waits; then it mirrors at the same address', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE other (id int)')
  const writer = new pg.Client({ connectionString, application_name: 'night job' })
  await writer.connect()
  await writer.query('BEGIN; INSERT INTO other VALUES (1)')
  backend = BackendProcess.launch(['--source', connectionString, '--state-dir', join(directory, 'state')])
  const waits = expect.stringMatching(
    /^the new slot ".*" waits for the transaction of process .*"night job".* COMMIT or ROLLBACK there/,
  ) as string
  await expect
    .poll(async () => (await fetch(`${backend.url}/ready`)).json().catch(() => null), soon)
    .toEqual({ ready: false, waitingFor: [waits] })
  const { url } = backend
  expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'ok', role: 'active' })
  expect(await backend.status()).toMatchObject({ source: { connected: false, waits: [waits] }, tables: [] })
  expect((await moonlink(['status'], { MOONLINK_URL: url }, directory)).stdout).toContain('night job')
  await expect(backend.query('SELECT 1')).rejects.toMatchObject({ code: 'STARTING' })
  const wait = async (timeout: string) => moonlink(['wait', '--timeout', timeout], { MOONLINK_URL: url }, directory)
  expect(await wait('300ms')).toMatchObject({
    status: 124,
    stderr: expect.stringMatching(/^TIMED_OUT the mirror is still starting/) as string,
  })
  const waited = wait('60s')
  await writer.query('COMMIT')
  await writer.end()
  expect(await waited).toMatchObject({ status: 0 })
  await backend.ready()
  expect(backend.url).toBe(url)
  await client.query('INSERT INTO items VALUES (1)')
  await expect.poll(() => backend.query('SELECT count(*)::INT FROM public.items'), soon).toEqual([[1]])
})

test.each(['moonlink stop', 'SIGTERM'])('a start that waits is ended in order by %s, and leaves nothing behind', async (how) => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE other (id int); INSERT INTO items VALUES (1)')
  const writer = new pg.Client({ connectionString })
  await writer.connect()
  await writer.query('BEGIN; INSERT INTO other VALUES (1)')
  const args = ['--source', connectionString, '--state-dir', join(directory, how)]
  backend = BackendProcess.launch(args)
  const waits = async () => ((await (await fetch(`${backend.url}/ready`)).json()) as { waitingFor: string[] }).waitingFor.join()
  await expect.poll(() => waits().catch(() => ''), soon).toMatch(/^the new slot ".*" waits for/)
  const exited = once(backend.child, 'exit')
  if (how === 'SIGTERM') backend.child.kill('SIGTERM')
  else expect(await moonlink(['stop'], { MOONLINK_URL: backend.url }, directory)).toMatchObject({ status: 0, stdout: 'stopped\n' })
  expect(await exited).toEqual([0, null])
  expect(backend.said).toMatch(/\nstopped\n$/)
  const slots = async () => (await client.query('SELECT FROM pg_replication_slots WHERE database = current_database()')).rowCount
  await expect.poll(slots, soon).toBe(0)
  await writer.query('COMMIT')
  await writer.end()
  backend = await BackendProcess.start(args)
  expect(await backend.query('SELECT count(*)::INT FROM public.items')).toEqual([[1]])
})

test('a start whose connections are cut at any moment goes on once the source is there again', { timeout: 240_000 }, async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY); INSERT INTO items VALUES (0)')
  const url = new URL(connectionString)
  const proxy = await TcpProxy.start(Number(url.port))
  url.port = String(proxy.port)
  url.searchParams.set('sslmode', 'disable')
  const args = ['--source', String(url), '--state-dir', join(directory, 'cut')]
  let sent = 0
  let cutAt = Number.POSITIVE_INFINITY
  proxy.onSent = () => {
    if (++sent === cutAt) proxy.cut()
  }
  try {
    let waitedFor = 0
    for (let count = 1; ; count++) {
      sent = 0
      backend = await BackendProcess.start(args)
      await backend.ready()
      const isCut = sent >= cutAt
      expect(await backend.query('SELECT count(*)::INT FROM public.items'), `cut at ${cutAt}`).toEqual([[count]])
      if (backend.said.includes('the source is waited for: PG_')) waitedFor++
      await backend.stop('SIGKILL')
      if (count > 1 && !isCut) break
      await client.query('INSERT INTO items VALUES ($1)', [count])
      cutAt = count === 1 ? 12 : cutAt + 3
    }
    expect(waitedFor).toBeGreaterThan(3)
  } finally {
    await proxy.close()
  }
})
