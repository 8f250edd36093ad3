import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-slot-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess | undefined

beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`CREATE SCHEMA "My Shop"; CREATE TABLE "My Shop".orders (id bigint PRIMARY KEY, note text)`)
  await database.client.query(`INSERT INTO "My Shop".orders SELECT i, 'note ' || i FROM generate_series(1, 100) i`)
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
  backend = undefined
})

test('the role that role-sql makes is enough to mirror, and may do nothing else', async () => {
  const role = `least_${database.name}`
  const flags = ['--role', role, '--database', database.name, '--publication', 'just_orders', '--table', 'My Shop.orders']
  const made = await moonlink(['role-sql', ...flags], {}, directory)
  expect(made, made.stderr).toMatchObject({ status: 0 })
  await database.client.query(made.stdout)
  await database.client.query(`ALTER ROLE ${role} PASSWORD 'secret'`)
  const url = new URL(database.connectionString)
  url.username = role
  url.password = 'secret'
  backend = await BackendProcess.start(
    [
      '--source',
      url.href,
      '--state-dir',
      join(directory, database.name),
      '--table',
      'My Shop.orders',
      '--set',
      'source.publication=just_orders',
    ],
    {},
  )
  await database.client.query(`UPDATE "My Shop".orders SET note = 'changed' WHERE id <= 10`)
  await backend.wait()
  expect(await backend.query(`SELECT count(*) FROM "My Shop".orders WHERE note = 'changed'`)).toEqual([[10]])
  const verified = await moonlink(['verify'], { MOONLINK_URL: backend.url }, directory)
  expect(verified, verified.stderr).toMatchObject({ status: 0 })
  const { rows } = await database.client.query(
    `SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = $1`,
    [role],
  )
  expect(rows).toEqual([{ rolsuper: false, rolcreatedb: false, rolcreaterole: false, rolbypassrls: false }])
  const least = new Client(url.href)
  await least.connect()
  try {
    await expect(least.query(`DELETE FROM "My Shop".orders`)).rejects.toThrow(/permission denied/)
    await expect(least.query(`CREATE TABLE "My Shop".mine (i int)`)).rejects.toThrow(/permission denied/)
  } finally {
    await least.end()
  }
})

test('a quiet database is kept moving while others write, and the status shows how the slot stands', async () => {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', join(directory, database.name)], {
    MOONLINK_SOURCE_SLOT_CHECK_MS: '100',
    MOONLINK_SOURCE_HEARTBEAT_MS: '200',
  })
  const status = async () =>
    (
      (await (await fetch(`${backend!.url}/status`)).json()) as {
        source: { slotStatus: string; slotHeadroomBytes: number | null; confirmedFlushLsn: string }
      }
    ).source
  const before = await status()
  expect(before).toMatchObject({ slotStatus: 'reserved', slotHeadroomBytes: null })
  const deadline = Date.now() + 20_000
  while ((await status()).confirmedFlushLsn === before.confirmedFlushLsn && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 100))
  expect((await status()).confirmedFlushLsn).not.toBe(before.confirmedFlushLsn)
})
