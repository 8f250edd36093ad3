import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { verified } from './testing/verified.ts'

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
  await expect.poll(async () => (await status()).confirmedFlushLsn).not.toBe(before.confirmedFlushLsn)
})

async function isEqual(): Promise<void> {
  const result = await verified(backend!.url, directory)
  expect(result.stdout, result.stderr).toMatch(/My Shop\.orders: equal/)
  expect(result).toMatchObject({ status: 0 })
}

const tableReport = () => backend!.table('My Shop.orders')
const hasState = (state: string) => expect.poll(tableReport).toMatchObject({ state })
const change = (round: number) =>
  database.client.query(
    `UPDATE "My Shop".orders SET note = 'round ${round}' WHERE id % 7 = ${round % 7};
     DELETE FROM "My Shop".orders WHERE id % 50 = ${round};
     INSERT INTO "My Shop".orders SELECT i + 1000 * ${round}, 'new' FROM generate_series(1, 20) i`,
  )
const running = async (env: Record<string, string> = {}) => {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', join(directory, database.name)], {
    MOONLINK_SOURCE_SLOT_CHECK_MS: '200',
    ...env,
  })
}
const slotName = async () => ((await (await fetch(`${backend!.url}/status`)).json()) as { source: { slot: string } }).source.slot
const dropSlot = async (slot: string) => {
  await database.client.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active`, [slot])
  for (;;) {
    const gone = await database.client.query(`SELECT pg_drop_replication_slot($1)`, [slot]).then(
      () => true,
      (error: { code?: string }) => error.code === '42704',
    )
    if (gone) return
    await database.client.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active`, [slot])
  }
}

test('a slot that nears the bound of what the server keeps for it is warned of before it is lost', async () => {
  const { client } = database
  await client.query(`ALTER SYSTEM SET max_slot_wal_keep_size = '96MB'`)
  await client.query('SELECT pg_reload_conf()')
  try {
    // Then the slot keeps what Iceberg lacks.
    await running({ MOONLINK_CHANGE_LOG_ENABLED: 'false', MOONLINK_FLUSH_INTERVAL_MS: '1h' })
    const source = async () => (await backend!.status()).source
    const log = () => readFileSync(join(directory, database.name, 'moonlink.log'), 'utf8')
    expect((await source()).slotHeadroomBytes).toBeGreaterThan(0)
    let before = Infinity
    for (let round = 1; !/the slot nears max_slot_wal_keep_size/.test(log()); round++) {
      await change(round % 40)
      await client.query(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 4000000))`)
      const { slotHeadroomBytes, slotStatus } = await source()
      expect(slotStatus).not.toMatch(/unreserved|lost/)
      expect(slotHeadroomBytes).toBeLessThanOrEqual(before)
      before = slotHeadroomBytes!
      await backend!.wait()
    }
    const metrics = await (await fetch(`${backend!.url}/metrics`)).text()
    expect(Number(/^moonlink_slot_headroom_bytes (\d+)/m.exec(metrics)?.[1])).toBeLessThan(96 * 2 ** 20)
    await backend!.wait({ iceberg: true })
    // A checkpoint's record is where the slot can begin again.
    await expect
      .poll(async () => {
        await client.query('CHECKPOINT')
        return log()
      })
      .toMatch(/the slot has room again/)
    expect(log()).not.toMatch(/made equal/)
  } finally {
    await client.query('ALTER SYSTEM RESET max_slot_wal_keep_size')
    await client.query('SELECT pg_reload_conf()')
  }
})

test('a table is paused, resumed and made equal on request, the backend going on', async () => {
  await running()
  const run = async (...command: string[]) => {
    const result = await moonlink(['tables', ...command], { MOONLINK_URL: backend!.url }, directory)
    expect(result, result.stderr).toMatchObject({ status: 0 })
  }
  await run('pause', 'My Shop.orders')
  await hasState('paused')
  expect((await tableReport()).reason).toMatch(/PAUSED by request; moonlink tables resume/)
  await change(1)
  await run('resume', 'My Shop.orders')
  await hasState('streaming')
  await isEqual()
  await change(2)
  await run('resync', 'My Shop.orders')
  await change(3)
  await hasState('streaming')
  await isEqual()
  expect((await moonlink(['tables', 'pause', 'no.thing'], { MOONLINK_URL: backend!.url }, directory)).stderr).toMatch(
    /TABLE_UNKNOWN no\.thing is not mirrored/,
  )
})

/** A backend that a lost slot ends. */
const startedToStop = () => {
  const stateDir = join(directory, database.name)
  const flags = ['--state-dir', stateDir, '--set', 'source.onSlotLoss=stop', '--http', '127.0.0.1:0']
  return moonlink(['start', '--source', database.connectionString, ...flags], {}, directory)
}

test('a slot that vanishes while it runs is made anew, and the table becomes equal again', async () => {
  await running()
  await change(1)
  await backend!.wait({ iceberg: true })
  const slot = await slotName()
  await dropSlot(slot)
  await change(2)
  await expect
    .poll(async () => (await database.client.query('SELECT FROM pg_replication_slots WHERE slot_name = $1', [slot])).rowCount)
    .toBe(1)
  await hasState('streaming')
  await change(3)
  await isEqual()
})

test('a table that is dropped together with the slot is paused alone, and the others become equal again', async () => {
  await database.client.query('CREATE TABLE dropped (id int PRIMARY KEY)')
  // So that the loss is met first.
  await running({ MOONLINK_SOURCE_SLOT_CHECK_MS: '600000' })
  await change(1)
  await backend!.wait({ iceberg: true })
  const slot = await slotName()
  await database.client.query('DROP TABLE dropped')
  await dropSlot(slot)
  await change(2)
  await expect
    .poll(() => backend!.table('public.dropped'))
    .toMatchObject({ state: 'paused', reason: expect.stringMatching(/^TABLE_UNKNOWN /) as string })
  await hasState('streaming')
  await database.client.query('CREATE TABLE dropped (id int PRIMARY KEY); INSERT INTO dropped VALUES (1)')
  await expect.poll(() => backend!.query('SELECT * FROM dropped').catch(() => [])).toEqual([[1]])
  await isEqual()
})

test('a slot that was there before source.failover becomes one that standbys keep, with all that it has', async (context) => {
  if (postgres.major < 17) return context.skip('failover slots need Postgres 17')
  await running()
  await backend!.wait({ iceberg: true })
  const slot = await slotName()
  const isFailover = async () =>
    (await database.client.query<{ failover: boolean }>('SELECT failover FROM pg_replication_slots WHERE slot_name = $1', [slot])).rows
  expect(await isFailover()).toEqual([{ failover: false }])
  await backend!.stop()
  await change(1)
  await running({ MOONLINK_SOURCE_FAILOVER: 'true' })
  expect(await isFailover()).toEqual([{ failover: true }])
  await backend!.wait({ iceberg: true })
  await isEqual()
  expect(readFileSync(join(directory, database.name, 'moonlink.log'), 'utf8')).not.toMatch(/made equal|made anew/)
})

test('a slot that vanished, or was invalidated, while the backend was down is noticed at its start', async () => {
  await running()
  await change(1)
  const slot = await slotName()
  expect(await backend!.stop()).toBe(0)
  await dropSlot(slot)
  await change(2)
  const ended = await startedToStop()
  expect(ended).toMatchObject({ status: 1 })
  expect(ended.stderr).toMatch(
    /^PG_SLOT_LOST slot "\S+" does not have all changes: it is not there any more\. .*source\.onSlotLoss: resync/,
  )
  expect((await database.client.query('SELECT FROM pg_replication_slots WHERE slot_name = $1', [slot])).rowCount).toBe(0)
  await running()
  await hasState('streaming')
  await isEqual()
  expect(await (await fetch(`${backend!.url}/metrics`)).text()).toMatch(/^moonlink_slot_losses_total 1$/m)
  expect(await backend!.stop()).toBe(0)

  await change(3)
  await database.client.query(`ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'`)
  await database.client.query('SELECT pg_reload_conf()')
  for (let round = 0; round < 4; round++) {
    await database.client.query(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)); SELECT pg_switch_wal()`)
    await database.client.query('CHECKPOINT')
  }
  const { rows } = await database.client.query<{ status: string }>(
    'SELECT wal_status AS status FROM pg_replication_slots WHERE slot_name = $1',
    [slot],
  )
  expect(rows[0].status).toBe('lost')
  await database.client.query(`ALTER SYSTEM RESET max_slot_wal_keep_size`)
  await database.client.query('SELECT pg_reload_conf()')
  const stopped = await startedToStop()
  expect(stopped).toMatchObject({ status: 1 })
  expect(stopped.stderr).toMatch(/^PG_SLOT_LOST /)
  await running()
  await hasState('streaming')
  await change(4)
  await isEqual()
})
