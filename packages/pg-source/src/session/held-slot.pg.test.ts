import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { follow, tableOf } from './harness.test.support.ts'
import { openPgSource, type PgSource } from './source.ts'

const postgres = withPostgres()
const soon = { timeout: 30_000 }
const items = [tableOf('public.items')]
const sockets = new Set<Socket>()
/** Those of `sockets` that lead to us. */
const nearSockets = new Set<Socket>()
let database: TestDatabase
let locker: pg.Client
let proxy: Server
let open: (PgSource | { close(): Promise<unknown> })[]

beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query('CREATE TABLE items (id int PRIMARY KEY, n int DEFAULT 1)')
  locker = new pg.Client({ connectionString: database.connectionString, application_name: 'migration' })
  await locker.connect()
  const { hostname, port } = new URL(database.connectionString)
  proxy = createServer((near) => {
    const far = connect(Number(port), hostname)
    for (const socket of [near, far]) sockets.add(socket.on('error', () => undefined))
    nearSockets.add(near)
    near.pipe(far).pipe(near)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  open = []
})
afterEach(async () => {
  await locker.end()
  cut()
  for (const each of open) await each.close().catch(() => undefined)
  await new Promise((resolve) => proxy.close(resolve))
})

function cut(which = sockets): void {
  for (const socket of which) socket.destroy()
  which.clear()
}

function settings(through: 'proxy' | 'server' = 'server') {
  const url = new URL(database.connectionString)
  if (through === 'proxy') url.port = String((proxy.address() as AddressInfo).port)
  return { connection: url.href, slot: database.name, slotWaitMs: 100, statusIntervalMs: 50 }
}

const source = async (through?: 'proxy' | 'server') => {
  const opened = await openPgSource(settings(through))
  open.push(opened)
  return opened
}
const pidOf = async (client: pg.Client) => (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0].pid
const holder = async () =>
  (
    await database.client.query<{ pid: number | null; waits: string | null }>(
      `SELECT active_pid AS pid, wait_event_type AS waits FROM pg_replication_slots LEFT JOIN pg_stat_activity ON pid = active_pid WHERE slot_name = $1`,
      [database.name],
    )
  ).rows[0]

/** A stream whose server process waits for a lock that another session holds. */
async function heldUp(through?: 'proxy', more: { readonly slotWaitMs?: number } = {}) {
  const following = await follow({ ...settings(through), ...more }, ['public.items'])
  open.push(following)
  // What this session knows of the table already, the stream's has to look up again.
  await database.client.query('ALTER TABLE items SET (fillfactor = 90)')
  await database.client.query('SELECT FROM items')
  await locker.query('BEGIN; LOCK TABLE pg_attrdef')
  await database.client.query('INSERT INTO items VALUES (1)')
  await expect.poll(async () => (await holder()).waits, soon).toBe('Lock')
  return following
}

test('a connection that was cut off while it waits for somebody lets go of its slot, made or being made', async () => {
  const first = await source('proxy')
  await locker.query('BEGIN; INSERT INTO items VALUES (0)')
  const making = first.prepare(items).catch((error: Error) => error)
  await expect.poll(async () => (await holder())?.waits, soon).toBe('Lock')
  cut()
  expect(await making).toMatchObject({ kind: 'retry' })
  await expect.poll(holder, soon).toBeUndefined()
  await locker.query('COMMIT')

  await heldUp('proxy')
  cut()
  await expect.poll(async () => (await holder()).pid, soon).toBeNull()
})

test('who has the slot and waits for a lock is said with whom it waits for; a start waits for it, and nobody ends it', async () => {
  await heldUp()
  const second = await source()
  const { pid } = await holder()
  const whom = `waits for the transaction of process ${await pidOf(locker)} (application "migration"`
  await expect(second.uninstall()).rejects.toMatchObject({
    kind: 'retry',
    code: 'PG_SLOT_IN_USE',
    message: expect.stringMatching(
      new RegExp(`server process ${pid} .*, which ${whom.replace('(', '\\(')}.*COMMIT or ROLLBACK there.*; else stop that mirror`),
    ) as string,
  })
  const unused = second.waitUntilUnused().catch((error: Error) => error)
  await expect
    .poll(() => second.waits().map(({ reason }) => reason), soon)
    .toEqual([expect.stringContaining(`server process ${pid}, which still has slot "${database.name}", ${whom}`)])
  await locker.query('COMMIT')
  expect(await unused).toMatchObject({ code: 'PG_SLOT_IN_USE', message: expect.not.stringContaining('waits for') as string })
  expect((await holder()).pid).toBe(pid)
  expect(second.waits()).toEqual([])
})

test('a connection of ours that is closed and does not notice is ended by the next one', async () => {
  const { source: mirror, stream } = await heldUp('proxy', { slotWaitMs: 20_000 })
  const { pid } = await holder()
  cut(nearSockets)
  const again = await mirror.open(0n, new AbortController().signal)
  expect(again).not.toBe(stream)
  expect((await holder()).pid).not.toBe(pid)
})
