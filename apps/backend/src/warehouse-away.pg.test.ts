import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { until } from './testing/until.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-warehouse-away-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let backend: BackendProcess
afterEach(() => backend.stop('SIGKILL'))

test.each(['missing', 'empty'])(
  'a warehouse that is %s for a while, as a disk that is not mounted, is waited for by every table',
  async (left) => {
    const { client, connectionString } = await postgres.createDatabase()
    const stateDir = join(directory, left)
    const [warehouse, aside] = ['warehouse', 'aside'].map((name) => join(stateDir, name))
    const tables = ['one', 'two']
    for (const table of tables) await client.query(`CREATE TABLE ${table} (id bigint PRIMARY KEY, note text)`)
    let changes = 0
    const change = async () => {
      const first = ++changes * 1000
      for (const table of tables) {
        await client.query(`INSERT INTO ${table} SELECT $1 + i, 'a' FROM generate_series(1, 50) i`, [first])
        await client.query(`UPDATE ${table} SET note = $1 WHERE id % 7 = 0`, [`b${first}`])
        await client.query(`DELETE FROM ${table} WHERE id % 11 = 0`)
      }
    }
    await change()
    backend = await BackendProcess.start(['--source', connectionString, '--state-dir', stateDir], { MOONLINK_FLUSH_INTERVAL_MS: '100ms' })
    await change()
    await backend.wait({ iceberg: true })

    renameSync(warehouse, aside)
    if (left === 'empty') mkdirSync(warehouse)
    await until('the tables to say why they wait', async () => {
      await change()
      const { tables } = await backend.status()
      return tables.every(({ reason }) => reason?.includes('STORE_UNAVAILABLE') === true)
    })
    for (let more = 0; more < 10; more++) await change()
    if (left === 'empty') {
      expect(readdirSync(warehouse)).toEqual([])
      rmdirSync(warehouse)
    }
    renameSync(aside, warehouse)

    await change()
    await backend.wait({ iceberg: true })
    expect((await backend.status()).tables.map(({ state, reason }) => ({ state, reason }))).toEqual(
      tables.map(() => ({ state: 'streaming', reason: null })),
    )
    await expectVerified(backend.url, directory)
  },
)

test('at a start, an empty warehouse is not taken for a new one where tables were mirrored there, unless that is asked for', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  const stateDir = join(directory, 'started')
  const [warehouse, aside] = ['lake', 'aside'].map((name) => join(stateDir, name))
  const start = async (...more: readonly string[]) => {
    backend = await BackendProcess.start(['--source', connectionString, '--state-dir', stateDir, '--warehouse', warehouse, ...more])
  }
  await client.query(`CREATE TABLE one (id bigint PRIMARY KEY); INSERT INTO one SELECT i FROM generate_series(1, 1000) i`)
  await start()
  await backend.wait({ iceberg: true })
  expect(await backend.stop()).toBe(0)
  renameSync(warehouse, aside)
  mkdirSync(warehouse)
  await client.query(`INSERT INTO one SELECT i FROM generate_series(1001, 2000) i`)
  await expect(start()).rejects.toThrow(/CATALOG_LOST \S+lake has none of the tables that were mirrored there \(public\.one\)/)
  expect(readdirSync(warehouse)).toEqual([])

  rmdirSync(warehouse)
  renameSync(aside, warehouse)
  await start()
  await backend.wait({ iceberg: true })
  expect(backend.said).not.toMatch(/made equal|copied again/)
  await expectVerified(backend.url, directory)
  expect(await backend.stop()).toBe(0)

  rmSync(warehouse, { recursive: true })
  await start('--set', 'catalog.onLost=copy')
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory)
})

test.each(['missing', 'empty'])('a table is not purged while its warehouse is %s, and is once that is back', async (left) => {
  const { client, connectionString, name } = await postgres.createDatabase()
  const stateDir = join(directory, name)
  const [warehouse, aside] = ['warehouse', 'aside'].map((part) => join(stateDir, part))
  await client.query('CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1)')
  backend = await BackendProcess.start(['--source', connectionString, '--state-dir', stateDir])
  await backend.wait({ iceberg: true })
  const purge = async () => (await fetch(`${backend.url}/tables/public.gone?purge=true`, { method: 'DELETE' })).text()
  const names = async () => (await backend.tables()).map((table) => table.name)
  renameSync(warehouse, aside)
  if (left === 'empty') mkdirSync(warehouse)
  expect(await purge()).toContain('STORE_UNAVAILABLE')
  expect(await names()).toEqual(['public.gone', 'public.kept'])
  if (left === 'empty') rmdirSync(warehouse)
  renameSync(aside, warehouse)
  expect(readdirSync(join(warehouse, 'public'))).toEqual(['gone', 'kept'])
  expect(await purge()).toBe('{"done":true}')
  expect(await names()).toEqual(['public.kept'])
  expect(readdirSync(join(warehouse, 'public'))).toEqual(['kept'])
})
