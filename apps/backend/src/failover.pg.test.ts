import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres, type RunningPostgres } from '@moonlink/embedded-pg'
import { postgresUnderTest } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { TcpProxy } from './testing/chaos/tcp-proxy.ts'
import { until } from './testing/until.ts'
import { verified } from './testing/verified.ts'

/** A primary with a physical standby that keeps the failover slot (Postgres 17 and later), behind one address: the primary dies, the standby takes over. */
let directory: string
const running: RunningPostgres[] = []
let backend: BackendProcess | undefined
let proxy: TcpProxy | undefined
/** In front of the standby, where the backend knows of both. */
let standbyProxy: TcpProxy | undefined
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'moonlink-failover-'))
  // The server runs under another account where we are root.
  chmodSync(directory, 0o755)
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
  await proxy?.close()
  await standbyProxy?.close()
  for (const server of running.splice(0)) await server.stop().catch(() => undefined)
  rmSync(directory, { recursive: true, force: true })
})

async function connected(server: RunningPostgres): Promise<Client> {
  const client = new Client(server.connectionString)
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** A primary and a server on a copy of its files that follows it; null where the version has no failover slots. The files are copied at rest: nothing vanishes meanwhile. */
async function startServers(settings: Record<string, string>) {
  const dataDir = join(directory, 'primary')
  const first = await startAgain(dataDir, {})
  if (Number.parseInt(first.version) < 17) return null
  await first.stop()
  const copy = join(directory, 'standby')
  cpSync(dataDir, copy, { recursive: true })
  writeFileSync(join(copy, 'standby.signal'), '')

  const primary = await startAgain(dataDir, { wal_keep_size: '256MB', ...settings })
  const client = await connected(primary)
  await client.query(`SELECT pg_create_physical_replication_slot('standby', true)`)
  const follow = () =>
    startAgain(copy, {
      primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres password=${primary.password} dbname=postgres`,
      primary_slot_name: 'standby',
      hot_standby_feedback: 'on',
      sync_replication_slots: 'on',
    })
  return { primary, client, standby: await follow(), follow }
}

async function startAgain(dataDir: string, settings: Record<string, string>): Promise<RunningPostgres> {
  // A standby needs it where its primary has it.
  const all = { max_prepared_transactions: '2', ...settings }
  const server = await startPostgres({ ...postgresUnderTest(), dataDir, persistent: false, settings: all })
  running.push(server)
  return server
}

/** A backend at the proxy's address, with 1,000 orders, and the slot on both servers; null where the server is too old for that. */
async function startPair(settings: Record<string, string>, knowsBoth = false) {
  const servers = await startServers(settings)
  if (servers === null) return null
  const { primary, client, standby } = servers
  await client.query(
    `CREATE TABLE orders (id bigint PRIMARY KEY, note text); INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 1000) i`,
  )
  proxy = await TcpProxy.start(primary.port)
  standbyProxy = await TcpProxy.start(standby.port)
  const places = `${knowsBoth ? `127.0.0.1:${standbyProxy.port},` : ''}127.0.0.1:${proxy.port}`
  const address = primary.connectionString.replace(`127.0.0.1:${primary.port}`, places)
  const start = async (stateDir = 'state', env: Record<string, string> = {}) => {
    const warehouse = join(directory, 'lake')
    const flags = ['--source', address, '--state-dir', join(directory, stateDir), '--warehouse', warehouse, '--set', 'source.failover=true']
    backend = await BackendProcess.start(flags, { MOONLINK_FLUSH_INTERVAL_MS: '300', MOONLINK_SOURCE_SLOT_CHECK_MS: '200', ...env })
    return backend
  }
  await start()
  await client.query(`UPDATE orders SET note = 'before' WHERE id % 3 = 0; DELETE FROM orders WHERE id % 10 = 7`)
  await backend!.wait({ iceberg: true })
  const follower = await connected(standby)
  await until('the slot on the standby', async () => {
    // A little traffic, so that the slot moves and the standby can keep what it needs.
    await client.query(`UPDATE orders SET note = note || '.' WHERE id = 1`)
    const { rowCount } = await follower.query(
      'SELECT FROM pg_replication_slots WHERE failover AND synced AND NOT temporary AND invalidation_reason IS NULL',
    )
    return rowCount === 1
  })
  return { ...servers, follower, start }
}

async function isEqual(): Promise<void> {
  const result = await verified(backend!.url, directory)
  expect(result.stdout, result.stderr).toMatch(/public\.orders: equal/)
}

const ordersOf = async (condition: string) =>
  Number((await backend!.query(`SELECT count(*) FROM public.orders WHERE ${condition}`).catch(() => [[-1]]))[0][0])

test('a failover slot outlives the primary: the mirror goes on from the standby, nothing lost or repeated', async (context) => {
  const pair = await startPair({ synchronized_standby_slots: 'standby' })
  if (pair === null) return context.skip('failover slots need Postgres 17')
  const { client, follower, primary, standby } = pair
  await client.query(`INSERT INTO orders SELECT i, 'last words' FROM generate_series(2001, 2100) i`)
  await backend!.wait()

  process.kill(primary.pid, 'SIGKILL')
  proxy!.retarget(standby.port)
  await until('word of the standby', async () =>
    /PG_STANDBY the address leads to a standby/.test((await backend!.status()).source.reason ?? ''),
  )
  await follower.query('SELECT pg_promote(true, 30)')
  await follower.query(
    `UPDATE orders SET note = 'after' WHERE id % 5 = 0; DELETE FROM orders WHERE id = 2001; INSERT INTO orders VALUES (9999, 'new primary')`,
  )
  await until('the new primary', async () => (await ordersOf('id = 9999')) === 1)
  await isEqual()
  expect(backend!.said).not.toMatch(/made equal to its source/)
  const { rows } = await follower.query<{ slot: string }>('SELECT slot_name AS slot FROM pg_replication_slots WHERE active AND failover')
  expect(rows).toHaveLength(1)
  expect((await backend!.table('public.orders')).state).toBe('streaming')
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})

test('what was prepared before source.twoPhase, and commits after a failover, is not missed; servers that tell standbys too little of it are warned of', async (context) => {
  const pair = await startPair({ synchronized_standby_slots: 'standby' })
  if (pair === null) return context.skip('failover slots need Postgres 17')
  const { client, follower, primary, standby, start } = pair
  await client.query(`BEGIN; INSERT INTO orders VALUES (5000, 'prepared'); PREPARE TRANSACTION 'early'`)
  await client.query(`INSERT INTO orders VALUES (5001, 'later')`)
  await backend!.wait({ iceberg: true })
  expect(await backend!.stop()).toBe(0)
  const restarted = await start('state', { MOONLINK_SOURCE_TWO_PHASE: 'true' })
  const isTold = Number.parseInt(primary.version) >= 18
  const warning = expect.stringMatching(/^Postgres 17\S* does not tell standbys since when slot "moonlink_postgres"/) as string
  expect((await restarted.status()).source).toMatchObject({ notes: isTold ? [] : [warning] })
  expect(/does not tell standbys/.test(restarted.said)).toBe(!isTold)
  await until('the slot that sends prepared transactions on the standby', async () => {
    await client.query(`UPDATE orders SET note = note || '.' WHERE id = 1`)
    const { rowCount } = await follower.query('SELECT FROM pg_replication_slots WHERE two_phase AND synced AND NOT temporary')
    return rowCount === 1
  })
  await restarted.wait({ iceberg: true })

  process.kill(primary.pid, 'SIGKILL')
  proxy!.retarget(standby.port)
  await follower.query('SELECT pg_promote(true, 30)')
  await follower.query(`COMMIT PREPARED 'early'`)
  await follower.query(`INSERT INTO orders VALUES (9999, 'new primary')`)
  await until('what was prepared', async () => (await ordersOf('id IN (5000, 9999)')) === 2)
  await until('a table that streams', async () => (await restarted.table('public.orders')).state === 'streaming')
  await isEqual()
  expect(/PG_PREPARED_LOST/.test(readFileSync(join(directory, 'state', 'moonlink.log'), 'utf8'))).toBe(!isTold)
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})

test('a start whose address leads to a standby says so, and goes on once that is promoted', async (context) => {
  const servers = await startServers({})
  if (servers === null) return context.skip('failover slots need Postgres 17')
  const { client, standby } = servers
  await client.query(`CREATE TABLE orders (id bigint PRIMARY KEY); INSERT INTO orders SELECT i FROM generate_series(1, 1000) i`)
  const follower = await connected(standby)
  await until('the rows on the standby', async () => {
    const { rows } = await follower.query<{ there: boolean }>(`SELECT to_regclass('orders') IS NOT NULL AS there`)
    return rows[0].there && (await follower.query('SELECT FROM orders')).rowCount === 1000
  })
  backend = BackendProcess.launch(['--source', standby.connectionString, '--state-dir', join(directory, 'state')])
  const standing = /PG_STANDBY the address leads to a standby\. Mirroring goes on once it is promoted/
  await expect.poll(async () => (await fetch(`${backend!.url}/ready`)).text().catch(() => ''), { timeout: 30_000 }).toMatch(standing)
  await follower.query('SELECT pg_promote(true, 30)')
  await backend.ready()
  await backend.wait()
  await isEqual()
  expect(backend.said).toMatch(standing)
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})

test('a backend that meets the new primary with a table that is new there takes that one alone for new', async (context) => {
  const pair = await startPair({ synchronized_standby_slots: 'standby' })
  if (pair === null) return context.skip('failover slots need Postgres 17')
  const { client, follower, primary, standby, start } = pair
  await backend!.stop()
  process.kill(primary.pid, 'SIGKILL')
  proxy!.retarget(standby.port)
  await follower.query('SELECT pg_promote(true, 30)')
  await follower.query(
    `CREATE TABLE added (id int PRIMARY KEY); INSERT INTO added VALUES (1); UPDATE orders SET note = 'after' WHERE id = 5`,
  )
  const said = (await start()).said
  await until('the new primary', async () => (await ordersOf(`note = 'after'`)) === 1)
  await until('the new table', async () => (await backend!.table('public.added')).state === 'streaming')
  await isEqual()
  expect(said + backend!.said).not.toMatch(/made equal to (its|the) source/)
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})

test('a standby that was promoted without what is mirrored already is known by its history, and the table is made equal to it', async (context) => {
  const pair = await startPair({}, true)
  if (pair === null) return context.skip('failover slots need Postgres 17')
  const { client, primary, standby } = pair
  await standby.stop()
  await client.query(`INSERT INTO orders SELECT i, 'lost' FROM generate_series(2001, 2100) i; DELETE FROM orders WHERE id = 2`)
  await backend!.wait({ iceberg: true })
  const { appliedLsn } = await backend!.table('public.orders')

  process.kill(primary.pid, 'SIGKILL')
  const promoted = await startAgain(standby.dataDir, {})
  const follower = await connected(promoted)
  await follower.query('SELECT pg_promote(true, 30)')
  await follower.query(`UPDATE orders SET note = 'after' WHERE id % 5 = 0; INSERT INTO orders VALUES (9999, 'new primary')`)
  standbyProxy!.retarget(promoted.port)
  // Its log grows beyond where the mirror is: by its length alone it could not be told from one that has everything.
  await until('more log than is mirrored', async () => {
    const sql = `SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000)), pg_current_wal_flush_lsn() > $1::pg_lsn AS "isBeyond"`
    return (await follower.query<{ isBeyond: boolean }>(sql, [appliedLsn])).rows[0].isBeyond
  })
  await until('the new primary', async () => (await ordersOf('id = 9999')) === 1)
  await until('a table that streams', async () => (await backend!.table('public.orders')).state === 'streaming')
  expect(await ordersOf(`note = 'lost'`)).toBe(0)
  await isEqual()
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})

test('of two standbys that were promoted beside each other, one is not taken for the other', async (context) => {
  const pair = await startPair({}, true)
  if (pair === null) return context.skip('failover slots need Postgres 17')
  const { client, follow, primary, standby } = pair
  await standby.stop()
  const other = join(directory, 'other')
  cpSync(standby.dataDir, other, { recursive: true })
  // One standby has more of the primary's log than the other.
  await client.query(`UPDATE orders SET note = 'more' WHERE id = 3`)
  const followed = await follow()
  const reader = await connected(followed)
  const hasMore = async () => (await reader.query(`SELECT FROM orders WHERE note = 'more'`)).rowCount === 1
  await until('what the primary has on the standby', () => hasMore().catch(() => false))
  await backend!.wait({ iceberg: true })
  await reader.end()
  await followed.stop()
  process.kill(primary.pid, 'SIGKILL')
  const promote = async (dataDir: string, sql: string) => {
    const promoted = await startAgain(dataDir, {})
    const follower = await connected(promoted)
    await follower.query('SELECT pg_promote(true, 30)')
    await follower.query(sql)
    return { promoted, follower }
  }
  const first = await promote(standby.dataDir, `INSERT INTO orders VALUES (5001, 'first')`)
  standbyProxy!.retarget(first.promoted.port)
  await until('what the first has', async () => (await ordersOf('id = 5001')) === 1)
  await backend!.wait({ iceberg: true })
  const { appliedLsn } = await backend!.table('public.orders')
  const second = await promote(other, `INSERT INTO orders VALUES (5002, 'second')`)
  standbyProxy!.retarget(second.promoted.port)
  await until('more log than is mirrored', async () => {
    const sql = `SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000)), pg_current_wal_flush_lsn() > $1::pg_lsn AS "isBeyond"`
    return (await second.follower.query<{ isBeyond: boolean }>(sql, [appliedLsn])).rows[0].isBeyond
  })
  await until('what the second has', async () => (await ordersOf('id = 5002')) === 1)
  await until('a table that streams', async () => (await backend!.table('public.orders')).state === 'streaming')
  expect(await ordersOf('id = 5001')).toBe(0)
  expect(backend!.said).toMatch(/another server was promoted beside it/)
  await isEqual()
  await Promise.all([client, first.follower, second.follower].map((each) => each.end().catch(() => undefined)))
})

test('that is known from the tables alone where the state is lost, too, however long the new log is by then', async (context) => {
  const pair = await startPair({}, true)
  if (pair === null) return context.skip('failover slots need Postgres 17')
  const { client, primary, standby, start } = pair
  await standby.stop()
  await client.query(`INSERT INTO orders SELECT i, 'lost' FROM generate_series(2001, 2100) i; DELETE FROM orders WHERE id = 2`)
  await backend!.wait({ iceberg: true })
  const { committedLsn } = await backend!.table('public.orders')
  await backend!.stop('SIGKILL')

  process.kill(primary.pid, 'SIGKILL')
  const promoted = await startAgain(standby.dataDir, {})
  const follower = await connected(promoted)
  await follower.query('SELECT pg_promote(true, 30)')
  standbyProxy!.retarget(promoted.port)
  await follower.query(`UPDATE orders SET note = 'after' WHERE id % 5 = 0; INSERT INTO orders VALUES (9999, 'new primary')`)
  await until('more log than is committed', async () => {
    const sql = `SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000)), pg_current_wal_flush_lsn() > $1::pg_lsn AS "isBeyond"`
    return (await follower.query<{ isBeyond: boolean }>(sql, [committedLsn])).rows[0].isBeyond
  })
  await start('another-state')
  await until('the new primary', async () => (await ordersOf('id = 9999')) === 1)
  expect(await ordersOf(`note = 'lost'`)).toBe(0)
  await isEqual()

  // What was compared is of the new timeline: no start compares it again, with the state or without.
  await follower.query(`INSERT INTO orders VALUES (10000, 'later')`)
  await backend!.wait({ iceberg: true })
  await backend!.stop('SIGKILL')
  await start('a-third-state')
  await until('what came later', async () => (await ordersOf('id = 10000')) === 1)
  expect(backend!.said).not.toMatch(/PG_DIVERGED/)
  await isEqual()
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})

test.each([
  ['a snapshot of its disk', 'runs', true],
  ['a snapshot of its disk', 'is down', true],
  ['a base backup, without its slot and to a new timeline', 'runs', false],
  ['a base backup, without its slot and to a new timeline', 'is down', false],
])(
  'a server that is restored from %s while the backend %s lacks what is mirrored, and the tables are made equal to it',
  async (_, while_, isSnapshot) => {
    const dataDir = join(directory, 'primary')
    const primary = await startAgain(dataDir, {})
    proxy = await TcpProxy.start(primary.port)
    const address = primary.connectionString.replace(`:${primary.port}`, `:${proxy.port}`)
    const args = ['--source', address, '--state-dir', join(directory, 'state')]
    const env = { MOONLINK_FLUSH_INTERVAL_MS: '300', MOONLINK_SOURCE_SLOT_CHECK_MS: '200' }
    let client = await connected(primary)
    await client.query(
      `CREATE TABLE orders (id bigint PRIMARY KEY, note text); INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 1000) i`,
    )
    backend = await BackendProcess.start(args, env)
    await backend.wait({ iceberg: true })
    await client.end()
    await primary.stop()
    const backup = join(directory, 'backup')
    cpSync(dataDir, backup, { recursive: true })
    if (!isSnapshot) {
      for (const slot of readdirSync(join(backup, 'pg_replslot'))) rmSync(join(backup, 'pg_replslot', slot), { recursive: true })
      writeFileSync(join(backup, 'recovery.signal'), '')
    }

    const again = await startAgain(dataDir, {})
    proxy.retarget(again.port)
    client = await connected(again)
    // So much that the restored server has not as much log at once.
    await client.query(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 4000000))`)
    await client.query(`INSERT INTO orders SELECT i, 'lost' FROM generate_series(2001, 2100) i; DELETE FROM orders WHERE id = 2`)
    await backend.wait({ iceberg: true })
    const { appliedLsn } = await backend.table('public.orders')
    if (while_ === 'is down') expect(await backend.stop()).toBe(0)
    await client.end()
    await again.stop()
    const restored = await startAgain(backup, isSnapshot ? {} : { restore_command: 'false' })
    proxy.retarget(restored.port)
    if (while_ === 'is down') backend = BackendProcess.launch(args, env)
    client = await connected(restored)
    await until('a primary', async () => {
      const { rows } = await client.query<{ recovers: boolean }>('SELECT pg_is_in_recovery() AS recovers')
      return !rows[0].recovers
    })
    await client.query(`UPDATE orders SET note = 'after' WHERE id % 5 = 0; INSERT INTO orders VALUES (9999, 'restored')`)
    await expect.poll(() => readFileSync(join(directory, 'state', 'moonlink.log'), 'utf8')).toMatch(/before \S+ that was read already/)
    if (while_ === 'is down') {
      // As by a supervisor. What was found of the server is not forgotten.
      await backend.stop('SIGKILL')
      backend = BackendProcess.launch(args, env)
    }
    await until('more log than was read', async () => {
      const sql = `SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000)), pg_current_wal_flush_lsn() > $1::pg_lsn AS "isBeyond"`
      return (await client.query<{ isBeyond: boolean }>(sql, [appliedLsn])).rows[0].isBeyond
    })
    await until('what the restored server has', async () => (await ordersOf('id = 9999').catch(() => -1)) === 1)
    await until('a table that streams', async () => (await backend!.table('public.orders')).state === 'streaming')
    expect(await ordersOf(`note = 'lost'`)).toBe(0)
    await isEqual()
    await client.end()
  },
)

test('another cluster at the address ends the backend, and is not touched', async () => {
  const primary = await startAgain(join(directory, 'primary'), {})
  const client = await connected(primary)
  await client.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text)')
  proxy = await TcpProxy.start(primary.port)
  const address = primary.connectionString.replace(`:${primary.port}`, `:${proxy.port}`)
  backend = await BackendProcess.start(['--source', address, '--state-dir', join(directory, 'state')])
  await client.query(`INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 1000) i`)
  await backend.wait({ iceberg: true })

  const ended = new Promise<number | null>((resolve) => backend!.child.once('exit', resolve))
  const other = await startAgain(join(directory, 'other'), {})
  const url = new URL(other.connectionString)
  const stranger = await connected(other)
  await stranger.query(`ALTER ROLE ${url.username} PASSWORD '${new URL(primary.connectionString).password}'`)
  await stranger.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text)')
  proxy.retarget(other.port)
  proxy.cut()
  expect(await ended).toBe(1)
  expect(backend.said).toMatch(/PG_OTHER_CLUSTER /)
  const { rows } = await stranger.query(
    'SELECT (SELECT count(*)::int FROM pg_publication) AS publications, (SELECT count(*)::int FROM pg_replication_slots) AS slots',
  )
  expect(rows).toEqual([{ publications: 0, slots: 0 }])
  await Promise.all([client.end(), stranger.end()])
})
