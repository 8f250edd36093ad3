import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-unopened-'))
const soon = { timeout: 60_000 }
const MADE_EQUAL = 'the table is made equal to its source again'
let database: TestDatabase
let backend: BackendProcess

beforeEach(async () => {
  database = await postgres.createDatabase()
  for (const name of ['a', 'b'])
    await database.client.query(
      `CREATE TABLE ${name} (id int PRIMARY KEY, note text); INSERT INTO ${name} SELECT i, 'x' FROM generate_series(1, 100) i`,
    )
})
afterEach(() => backend.stop('SIGKILL'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const launch = (...settings: readonly string[]) => {
  const args = ['--source', database.connectionString, '--state-dir', join(directory, database.name)]
  backend = BackendProcess.launch([...args, ...settings.flatMap((setting) => ['--set', setting])])
}
const mirrorOnce = async (...settings: readonly string[]) => {
  launch(...settings)
  await backend.ready()
  await backend.wait({ iceberg: true })
  await backend.stop()
}
const filesOf = (table: string) => join(directory, database.name, 'warehouse', 'public', table)
/** A permission that is missing is none to root. */
const deny = (table: string) => {
  renameSync(filesOf(table), `${filesOf(table)}.away`)
  writeFileSync(filesOf(table), '')
}
const allow = (table: string) => {
  rmSync(filesOf(table))
  renameSync(`${filesOf(table)}.away`, filesOf(table))
}
const state = (name: string) => backend.table(name).then(({ reason, state }) => ({ state, reason }))
const streams = (name: string) => expect.poll(() => state(name), soon).toEqual({ state: 'streaming', reason: null })
const isUnopened = (code: string) =>
  expect
    .poll(() => state('public.b'), soon)
    .toEqual({ state: 'failed', reason: expect.stringMatching(new RegExp(`^${code} .*It is tried again by itself\\.$`)) as string })
const countOf = (table: string) => backend.query(`SELECT count(*)::INT FROM public.${table}`)

test('a table that is refused keeps no other from being mirrored, over restarts, and goes on from the log once it is allowed', async () => {
  await mirrorOnce()
  deny('b')
  await database.client.query(`INSERT INTO b VALUES (101, 'while nothing ran'); INSERT INTO a VALUES (101, 'y')`)
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    launch()
    await streams('public.a')
    await isUnopened('STORE_NOT_WRITABLE')
    await database.client.query(
      `INSERT INTO a SELECT max(id) + 1, 'z' FROM a; INSERT INTO b SELECT max(id) + 1, 'z' FROM b; DELETE FROM b WHERE id = 5`,
    )
    await backend.wait()
    await expect(countOf('b')).rejects.toThrow(/public.b/)
    await expectVerified(backend.url, directory, 'public.a')
    await backend.stop(signal)
  }
  launch()
  await isUnopened('STORE_NOT_WRITABLE')
  await database.client.query(`ALTER TABLE b ADD COLUMN more int DEFAULT 7; UPDATE b SET note = 'updated', more = 8 WHERE id = 7`)
  await backend.wait()
  allow('b')
  await streams('public.b')
  await database.client.query(`INSERT INTO b VALUES (1000, 'after', 9)`)
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory)
  expect(await countOf('b')).toEqual([[103]])
  expect(backend.said).not.toContain(MADE_EQUAL)
  await backend.stop('SIGKILL')
  launch()
  await backend.ready()
  await expectVerified(backend.url, directory)
  expect(backend.said).not.toContain(MADE_EQUAL)
})

test('beyond a bound its changes are not kept, and it is made equal to its source once it is allowed, after a crash too', async () => {
  const small = ['changeLog.maxBytes=256KiB', 'changeLog.segmentBytes=16KiB']
  await mirrorOnce(...small)
  deny('b')
  launch(...small)
  await isUnopened('STORE_NOT_WRITABLE')
  await database.client.query('DELETE FROM b WHERE id < 50')
  for (let at = 0; !backend.said.includes('are not kept') && at < 100; at++) {
    await database.client.query(`INSERT INTO a SELECT max(id) + i, repeat(md5(i::text), 20) FROM a, generate_series(1, 100) i GROUP BY i`)
    await backend.wait()
  }
  const { log } = await backend.status()
  await backend.post('/flush', { tables: ['public.a'] })
  await expect.poll(async () => (await backend.status()).log.startLsn, soon).not.toBe(log.startLsn)
  await backend.stop('SIGKILL')
  launch(...small)
  await isUnopened('STORE_NOT_WRITABLE')
  allow('b')
  await streams('public.b')
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory)
  expect(backend.said).toContain(MADE_EQUAL)
})

test('one whose metadata is damaged is made equal to its source once that is mended', async () => {
  await mirrorOnce()
  const metadata = join(filesOf('b'), 'metadata')
  const damaged = readdirSync(metadata)
    .filter((name) => name.endsWith('.metadata.json'))
    .map((name) => ({ path: join(metadata, name), bytes: readFileSync(join(metadata, name)) }))
  for (const { path } of damaged) writeFileSync(path, '{"format-version":')
  launch()
  await isUnopened('[A-Z_]+')
  await streams('public.a')
  await database.client.query(`INSERT INTO a VALUES (101, 'y'); DELETE FROM b WHERE id = 5`)
  await backend.wait()
  await expectVerified(backend.url, directory, 'public.a')
  for (const { bytes, path } of damaged) writeFileSync(path, bytes)
  await streams('public.b')
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory)
})

test('a start that is refused all tables ends', async () => {
  await mirrorOnce()
  deny('a')
  deny('b')
  // Nothing is left of either that tells them from new ones.
  launch('catalog.onLost=copy')
  await backend.ended()
  expect(backend.child.exitCode).toBe(1)
  expect(backend.said).toContain('STORE_NOT_WRITABLE')
})
