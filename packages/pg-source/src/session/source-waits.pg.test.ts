import type { Logger } from '@moonlink/core'
import { silentLogger } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { schemaOf, tableOf } from './harness.test.support.ts'
import { openPgSource, type PgSource } from './source.ts'

const postgres = withPostgres({ settings: { max_prepared_transactions: '2' } })
let database: TestDatabase
let source: PgSource
let writer: pg.Client
let warnings: string[]
const clients: pg.Client[] = []

beforeEach(async () => {
  database = await postgres.createDatabase()
  const { client } = database
  await client.query(`CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE other (id int); CREATE ROLE writer_${database.name} LOGIN PASSWORD 'secret';
    GRANT ALL ON items, other TO writer_${database.name}; CREATE ROLE mirror_${database.name} LOGIN REPLICATION PASSWORD 'secret';
    GRANT SELECT ON items TO mirror_${database.name}; CREATE PUBLICATION given FOR TABLE items`)
  writer = await connected('writer', 'night job')
  warnings = []
})
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end()))
  await source?.close()
})

function urlOf(role: string): string {
  const url = new URL(database.connectionString)
  url.username = `${role}_${database.name}`
  url.password = 'secret'
  return url.href
}

async function connected(role: string, application: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: urlOf(role), application_name: application })
  await client.connect()
  clients.push(client)
  return client
}

const logger: Logger = { ...silentLogger, warn: (message, fields) => void warnings.push(`${message}: ${String(fields?.['reason'])}`) }
const open = async (connection: string) =>
  openPgSource({ connection, publication: 'given', slot: database.name, copyLockTimeoutMs: 60_000 }, { logger })
const pidOf = async (client: pg.Client) => (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0].pid
const reasons = () => source.waits().map(({ reason }) => reason)
const items = async () => ({ table: tableOf('public.items'), schema: await schemaOf(source, 'public.items') })
const soon = { timeout: 30_000 }

test('whoever a copy, a comparison and a new slot wait for is named, with what ends it, and logged after a while', async () => {
  source = await open(database.connectionString)
  const pid = await pidOf(writer)
  await writer.query('BEGIN; INSERT INTO other VALUES (1)')
  const preparing = source.prepare([tableOf('public.items')])
  const who = `the transaction of process ${pid} \\(application "night job", user writer_${database.name}, idle in transaction, in a transaction since .* UTC\\): COMMIT or ROLLBACK there, or SELECT pg_terminate_backend\\(${pid}\\), ends it`
  await expect.poll(reasons, soon).toEqual([expect.stringMatching(new RegExp(`^the new slot "${database.name}" waits for ${who}$`))])
  await expect
    .poll(() => warnings, soon)
    .toEqual([expect.stringMatching(new RegExp(`^open transactions of the source are waited for: .*${who}$`))])
  await writer.query('COMMIT')
  await preparing
  expect(source.waits()).toEqual([])

  await writer.query('BEGIN; INSERT INTO other VALUES (2)')
  const copying = source.copy([await items()], new AbortController().signal)
  const comparing = source.snapshot()
  await expect
    .poll(() => reasons().sort(), soon)
    .toEqual(['a comparison', 'the copy'].map((what) => expect.stringMatching(new RegExp(`^${what} waits for ${who}$`))))
  expect(source.waits().flatMap(({ tables }) => tables)).toEqual([tableOf('public.items')])
  await writer.query('COMMIT')
  await (await copying).close()
  await (await comparing).close()
  expect(source.waits()).toEqual([])
})

test('who may not see what others do names process, user and application; of a chain of waits its head is named', async () => {
  source = await open(urlOf('mirror'))
  await source.prepare([tableOf('public.items')])
  const pid = await pidOf(writer)
  await writer.query('BEGIN; LOCK TABLE other IN SHARE MODE')
  const second = await connected('writer', 'behind it')
  await second.query('BEGIN; INSERT INTO items VALUES (1)')
  const behind = second.query('INSERT INTO other VALUES (1); COMMIT')
  const copying = source.copy([await items()], new AbortController().signal)
  await expect
    .poll(reasons, soon)
    .toEqual([
      `the copy waits for the transaction of process ${pid} (application "night job", user writer_${database.name}, what it does is hidden: GRANT pg_read_all_stats shows it): COMMIT or ROLLBACK there, or SELECT pg_terminate_backend(${pid}), ends it`,
    ])
  await writer.query('COMMIT')
  await behind
  await (await copying).close()
})

test('a lock of a table to copy, and a prepared transaction, which no process has, are named too', async () => {
  source = await open(database.connectionString)
  await source.prepare([tableOf('public.items')])
  const from = await items()
  await writer.query(`BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'forgotten'`)
  const comparing = source.snapshot()
  const prepared = expect.stringMatching(
    new RegExp(
      `waits for the prepared transaction "forgotten" \\(user writer_${database.name}, since .* UTC\\): COMMIT PREPARED or ROLLBACK PREPARED ends it$`,
    ),
  ) as string
  await expect.poll(reasons, soon).toEqual([prepared])
  await writer.query(`COMMIT PREPARED 'forgotten'`)
  await (await comparing).close()

  await database.client.query('BEGIN; LOCK TABLE items')
  const copying = source.copy([from], new AbortController().signal)
  await expect.poll(reasons, soon).toEqual([expect.stringContaining(`process ${await pidOf(database.client)} `)])
  await database.client.query(`PREPARE TRANSACTION 'locking'`)
  await expect.poll(reasons, soon).toEqual([expect.stringContaining('prepared transaction "locking"')])
  await database.client.query(`ROLLBACK PREPARED 'locking'`)
  await (await copying).close()
})
