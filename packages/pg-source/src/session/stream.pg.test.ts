import { isMoonlinkError, type SourceEvent } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openPgSource } from './source.ts'
import { follow, sourceState, tableOf, type Following } from './harness.test.support.ts'
import { Replica, sorted } from './replica.test.support.ts'

const postgres = withPostgres()
let database: TestDatabase
let count = 0
let slot: string
const open: Following[] = []

beforeEach(async () => {
  database = await postgres.createDatabase()
  slot = `slot_${++count}`
})
afterEach(async () => {
  for (const following of open.splice(0)) {
    await following.close()
  }
})

async function begin(tables: string[], config = {}, ...rest: [bigint?, Replica?]): Promise<Following> {
  const following = await follow({ connection: database.connectionString, slot, ...config }, tables, ...rest)
  open.push(following)
  return following
}

test('inserts, updates, deletes, key changes, rollbacks and savepoints arrive as SELECT shows them', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY, name text, amount bigint NOT NULL)')
  const { replica, catchUp } = await begin(['public.items'])
  const check = async () => {
    await catchUp()
    expect(sorted(replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
  }
  await client.query(`INSERT INTO items SELECT n, 'name ' || n, n * 10 FROM generate_series(1, 200) n`)
  await check()
  await client.query(`UPDATE items SET amount = amount + 1 WHERE id % 3 = 0`)
  await client.query(`DELETE FROM items WHERE id % 7 = 0`)
  await client.query(`UPDATE items SET id = id + 1000 WHERE id % 11 = 0`)
  await check()
  await client.query(`BEGIN; INSERT INTO items VALUES (5000, 'never', 0); ROLLBACK`)
  await client.query(`BEGIN; INSERT INTO items VALUES (5001, 'kept', 0); SAVEPOINT a; INSERT INTO items VALUES (5002, 'lost', 0);
    ROLLBACK TO a; INSERT INTO items VALUES (5003, NULL, 0); UPDATE items SET id = 5004 WHERE id = 5003; DELETE FROM items WHERE id = 5001; COMMIT`)
  await check()
  await client.query('TRUNCATE items')
  await client.query(`INSERT INTO items VALUES (1, 'after', -9223372036854775808)`)
  await check()
  expect(replica.missing).toEqual([])
  expect(replica.otherEvents).toEqual([])
})

test('composite and text keys, tables without a key under REPLICA IDENTITY FULL, and unchanged TOAST values', async () => {
  const { client } = database
  await client.query(`CREATE TABLE pairs (a int, b text, v text, PRIMARY KEY (b, a));
    CREATE TABLE bag (x int, y text); ALTER TABLE bag REPLICA IDENTITY FULL;
    CREATE TABLE large (id int PRIMARY KEY, n int, body text); ALTER TABLE large ALTER body SET STORAGE EXTERNAL`)
  const { replica, catchUp } = await begin(['public.pairs', 'public.bag', 'public.large'])
  await client.query(`INSERT INTO pairs SELECT n, 'k' || n % 5, 'v' FROM generate_series(1, 50) n`)
  await client.query(
    `UPDATE pairs SET v = 'w' WHERE a < 10; UPDATE pairs SET b = 'moved' WHERE a > 45; DELETE FROM pairs WHERE a BETWEEN 20 AND 25`,
  )
  await client.query(`INSERT INTO bag SELECT n % 3, NULL FROM generate_series(1, 9) n; INSERT INTO bag VALUES (7, 'seven')`)
  await client.query(
    `UPDATE bag SET y = 'set' WHERE ctid = (SELECT min(ctid) FROM bag WHERE x = 1); DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE x = 2)`,
  )
  await client.query(`INSERT INTO large SELECT n, 0, repeat(n::text, 5000) FROM generate_series(1, 5) n`)
  await client.query(`UPDATE large SET n = 1; UPDATE large SET body = 'short' WHERE id = 2; UPDATE large SET id = 30, n = 2 WHERE id = 3`)
  await catchUp()
  for (const table of ['pairs', 'bag', 'large']) expect(sorted(replica.rowsOf(`public.${table}`))).toEqual(await sourceState(client, table))
  expect(replica.missing).toEqual([])
})

test('names that need quotes, and a stream of several schemas', async () => {
  const { client } = database
  await client.query(`CREATE SCHEMA "Sales 2"; CREATE TABLE "Sales 2"."Order ""x""" ("Id" int PRIMARY KEY, "select" text)`)
  const { replica, catchUp } = await begin(['Sales 2.Order "x"'], { publication: 'My "pub", really' })
  await client.query(`INSERT INTO "Sales 2"."Order ""x""" VALUES (1, 'one')`)
  await catchUp()
  expect(replica.rowsOf('Sales 2.Order "x"')).toEqual([{ Id: '1', select: 'one' }])
})

test('a restart continues after the last LSN: nothing repeated, nothing missed, slot and publication kept', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY, name text)')
  const identity = async () =>
    (
      await client.query(
        `SELECT (SELECT oid FROM pg_publication) AS publication, (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1) AS slots`,
        [slot],
      )
    ).rows
  const first = await begin(['public.items'])
  const before = await identity()
  await client.query(`INSERT INTO items SELECT n, 'a' FROM generate_series(1, 10) n`)
  const lsn = await first.catchUp()
  await first.close()
  await client.query(`INSERT INTO items SELECT n, 'b' FROM generate_series(11, 20) n`)
  const second = await begin(['public.items'], {}, lsn, first.replica)
  expect(await second.source.prepare([tableOf('public.items')])).toMatchObject({ slotCreated: false })
  await second.catchUp()
  expect(sorted(second.replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
  expect(second.replica.transactions).toBe(2)
  expect(await identity()).toEqual(before)
  // Nothing was acknowledged, so the slot still has everything: an earlier position replays it all.
  await second.close()
  const third = await begin(['public.items'])
  await third.catchUp()
  expect(third.replica.transactions).toBe(2)
})

test('an acknowledgement reaches the slot, by itself and at close', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const { source, stream, catchUp, close } = await begin(['public.items'])
  await client.query('INSERT INTO items VALUES (1)')
  const lsn = await catchUp()
  stream.acknowledge(lsn)
  const confirmed = async () => (await source.slot())!.confirmedFlushLsn!
  await expect.poll(confirmed).toBe(lsn)
  await client.query('INSERT INTO items VALUES (2)')
  const later = await catchUp()
  stream.acknowledge(later)
  await close()
  const { rows } = await client.query<{ active: boolean; done: boolean }>(
    'SELECT active, confirmed_flush_lsn >= $2::pg_lsn AS done FROM pg_replication_slots WHERE slot_name = $1',
    [slot, `${(later >> 32n).toString(16)}/${(later & 0xffff_ffffn).toString(16)}`],
  )
  expect(rows).toEqual([{ active: false, done: true }])
})

test('an idle mirror follows a source that is busy elsewhere, and hears of commits within moments', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE other (id int)')
  const { catchUp, replica } = await begin(['public.items'])
  await client.query('INSERT INTO other SELECT generate_series(1, 10000)')
  await catchUp()
  expect(replica.batches).toBe(0)
  // An open transaction leaves the log's end unflushed.
  await client.query('BEGIN')
  await client.query('INSERT INTO other VALUES (1)')
  await catchUp()
  await client.query('COMMIT')
  await client.query('SET synchronous_commit = off')
  await client.query('INSERT INTO items VALUES (1)')
  await catchUp()
  expect(replica.rowsOf('public.items')).toEqual([{ id: '1' }])
})

test('what comes from elsewhere (an origin) is mirrored; messages of others, and transactions that change nothing, only move the position', async () => {
  const { client } = database
  const origin = `origin_${slot}`
  await client.query('CREATE TABLE items (id int PRIMARY KEY, body text)')
  const { catchUp, replica } = await begin(['public.items'])
  await client.query(`SELECT pg_replication_origin_create('${origin}'), pg_replication_origin_session_setup('${origin}')`)
  try {
    await client.query(`BEGIN; SELECT pg_replication_origin_xact_setup('0/AA', now()); INSERT INTO items VALUES (1, 'from elsewhere');
      SELECT pg_logical_emit_message(true, 'theirs', 'amid it'); INSERT INTO items VALUES (2, 'so too'); COMMIT`)
  } finally {
    await client.query(`SELECT pg_replication_origin_session_reset()`)
    await client.query(`SELECT pg_replication_origin_drop('${origin}')`)
  }
  await catchUp()
  expect(sorted(replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
  const { batches, watermarkLsn } = replica
  await client.query(
    `SELECT pg_logical_emit_message(true, 'theirs', repeat('x', 1000000)), pg_logical_emit_message(false, 'theirs', '{}'), pg_logical_emit_message(true, 'moonlink', 'x')`,
  )
  await client.query(`BEGIN; SELECT pg_current_xact_id(); COMMIT`)
  await client.query(`BEGIN; SAVEPOINT s; INSERT INTO items VALUES (3, 'undone'); ROLLBACK TO s; COMMIT`)
  await catchUp()
  expect([replica.batches, replica.watermarkLsn > watermarkLsn, replica.otherEvents]).toEqual([batches, true, []])
  await client.query(`INSERT INTO items VALUES (4, 'later')`)
  await catchUp()
  expect(sorted(replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
})

test('a consumer that does not take events makes the server wait, within a bound', async () => {
  const { client } = database
  await client.query(`CREATE TABLE items (id int PRIMARY KEY, body text); ALTER DATABASE ${database.name} SET wal_sender_timeout = '6s'`)
  const source = await openPgSource({ connection: database.connectionString, slot, batchBytes: 1 << 20, statusIntervalMs: 50 })
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  const stream = await source.open(slotLsn, new AbortController().signal)
  await client.query(`INSERT INTO items SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) n`)
  const lsn = await source.currentLsn()
  await expect.poll(() => stream.bufferedBytes).toBeGreaterThan(1 << 20)
  // Our status updates keep the connection alive all the while.
  const heard = `SELECT FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid WHERE slot_name = '${slot}' AND reply_time >= $1`
  for (let update = 0; update < 2; update++) {
    const now = new Date()
    await expect.poll(async () => (await client.query(heard, [now])).rowCount).toBe(1)
  }
  expect(stream.bufferedBytes).toBeLessThan(4 << 20)
  let rows = 0
  let largest = 0
  let done = false
  for await (const event of stream) {
    if (event.kind === 'batch') {
      rows += event.batch.ops.length
      largest = Math.max(largest, event.batch.ops.length)
    }
    done = event.kind === 'watermark' && event.lsn >= lsn
    if (done) break
  }
  expect(rows).toBe(30_000)
  expect(largest).toBeLessThan(5000)
  await source.close()
})

test('a lost connection ends the iteration with retry, and abort ends it quietly', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const following = await begin(['public.items'])
  const waiting = (async () => {
    for await (const event of following.stream) following.replica.apply(event)
  })().catch((error: unknown) => error)
  await client.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1', [slot])
  const error = await waiting
  expect(isMoonlinkError(error, 'retry') && error.code).toBe('PG_CONNECTION_LOST')
  const controller = new AbortController()
  const again = await following.source.open(0n, controller.signal)
  const events: SourceEvent[] = []
  const ended = (async () => {
    for await (const event of again) events.push(event)
  })()
  controller.abort()
  await ended
})

test('a slot that is gone, or in use elsewhere, is said by name', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const first = await begin(['public.items'])
  const second = await openPgSource({ connection: database.connectionString, slot, slotWaitMs: 100 })
  const inUse = { kind: 'retry', code: 'PG_SLOT_IN_USE', message: expect.stringContaining(slot) as string }
  await expect(second.waitUntilUnused()).rejects.toMatchObject(inUse)
  await second.close()
  await first.stream.close()
  await first.source.uninstall()
  expect(
    (
      await client.query(
        'SELECT (SELECT count(*)::int FROM pg_publication) AS p, (SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = $1) AS s',
        [slot],
      )
    ).rows,
  ).toEqual([{ p: 0, s: 0 }])
  const gone = await first.source.open(0n, new AbortController().signal).catch((error: unknown) => error)
  expect(isMoonlinkError(gone, 'invalid') && gone.code).toBe('PG_SLOT_MISSING')
})

test('append-only tables take inserts and leave updates of the source alone', async () => {
  const { client } = database
  await client.query('CREATE TABLE log (at int, line text); CREATE TABLE items (id int PRIMARY KEY)')
  const { replica, catchUp } = await begin(['public.log', 'public.items'], { appendOnly: ['public.log'] })
  await client.query(`INSERT INTO log VALUES (1, 'one'), (2, 'two'); INSERT INTO items VALUES (1)`)
  await client.query(`UPDATE log SET line = 'ONE' WHERE at = 1; DELETE FROM log WHERE at = 2`)
  await catchUp()
  expect(sorted(replica.rowsOf('public.log'))).toEqual(
    sorted([
      { at: '1', line: 'one' },
      { at: '2', line: 'two' },
    ]),
  )
  expect(replica.rowsOf('public.items')).toEqual([{ id: '1' }])
})

test('a statement that a time-out cuts off on the way to a stream may be tried again, and settings of the database cut off none', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  for (const setting of ['lock_timeout', 'idle_session_timeout', 'statement_timeout'])
    await client.query(`ALTER DATABASE "${database.name}" SET ${setting} = '1ms'`)
  const { source } = await begin(['public.items'], { statementTimeoutMs: 300 })
  await client.query('RESET ALL; BEGIN; LOCK TABLE pg_publication IN ACCESS EXCLUSIVE MODE')
  const opening = source.open(0n, new AbortController().signal)
  await expect(opening).rejects.toMatchObject({
    kind: 'retry',
    code: 'PG_CONNECTION_LOST',
    message: expect.stringMatching(/cut off a statement/),
  })
  await client.query('ROLLBACK')
  await (await source.open(0n, new AbortController().signal)).close()
})

test('settings of the role that end what takes long, or forbid writing, end nothing of ours: neither statements and copies, nor a transaction that is sent slowly', async () => {
  const { client } = database
  const role = `hurried_${database.name}`
  await client.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'secret'; CREATE TABLE items (id int PRIMARY KEY, name text); CREATE TABLE later (id int PRIMARY KEY);
    INSERT INTO items SELECT n, 'x' FROM generate_series(1, 1000) n`)
  const settings = { statement_timeout: 300, lock_timeout: 1, idle_in_transaction_session_timeout: 300, idle_session_timeout: 300 }
  const all = { ...settings, ...(postgres.major >= 17 ? { transaction_timeout: 300 } : {}), default_transaction_read_only: 'on' }
  for (const [name, value] of Object.entries(all)) await client.query(`ALTER ROLE ${role} SET ${name} = '${value}'`)
  await client.query(
    `ALTER ROLE ${role} SET default_transaction_isolation = 'serializable'; ALTER ROLE ${role} SET quote_all_identifiers = on`,
  )
  const longer = () => client.query('SELECT pg_sleep(0.5)')
  const url = new URL(database.connectionString)
  url.username = role
  url.password = 'secret'
  const { catchUp, close, replica, source } = await begin(['public.items'], { connection: url.href, batchBytes: 1 << 20 })
  try {
    const listing = { table: tableOf('public.items'), schema: replica.schemas.get('public.items')! }
    const copy = await source.copy([listing], new AbortController().signal)
    await longer()
    await copy.read(listing.table, async (rows) => replica.addCopied('public.items', rows))
    await copy.close()
    const snapshot = await source.snapshot()
    await longer()
    expect(await snapshot.rows('SELECT count(*) FROM public.items')).toEqual([['1000']])
    await snapshot.close()
    // More than sockets and we hold: the server waits amid the transaction.
    await client.query(`INSERT INTO items SELECT n, repeat('y', 10000) FROM generate_series(1001, 2500) n`)
    await longer()
    await catchUp()
    expect(sorted(replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
    expect(await source.heartbeat()).toBe(true)
    await source.prepare([listing.table, tableOf('public.later')])
    expect(await source.publicationChanges()).toEqual([])
  } finally {
    await close()
    await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
  }
})

test('a transaction larger than what is held back arrives, however small that is', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY, name text)')
  const { catchUp, replica } = await begin(['public.items'], { batchBytes: 64 * 1024 })
  await client.query(`INSERT INTO items SELECT n, repeat('y', 10000) FROM generate_series(1, 300) n`)
  await catchUp()
  expect(replica.rowsOf('public.items')).toHaveLength(300)
})

test.runIf(process.platform !== 'win32')(
  'a server that falls silent amid a statement on the catalog is given up, and asked on another connection',
  async () => {
    const { client } = database
    await client.query('CREATE TABLE items (id int PRIMARY KEY)')
    const { source } = await begin(['public.items'], { statementTimeoutMs: 1000 })
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name = 'moonlink catalog' AND datname = current_database()`,
    )
    process.kill(rows[0].pid, 'SIGSTOP')
    try {
      await expect(source.position()).rejects.toMatchObject({
        kind: 'retry',
        code: 'PG_CONNECTION_LOST',
        message: expect.stringMatching(/has not answered/),
      })
      await expect(source.position()).resolves.toMatchObject({ slot: { walStatus: 'reserved' } })
    } finally {
      process.kill(rows[0].pid, 'SIGCONT')
    }
  },
)
