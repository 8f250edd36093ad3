import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-starting-'))
const soon = { timeout: 60_000 }
let backend: BackendProcess
afterAll(async () => {
  await backend.stop('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

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
  await writer.query('COMMIT')
  await writer.end()
  await backend.ready()
  expect(backend.url).toBe(url)
  await client.query('INSERT INTO items VALUES (1)')
  await expect.poll(() => backend.query('SELECT count(*)::INT FROM public.items'), soon).toEqual([[1]])
})
