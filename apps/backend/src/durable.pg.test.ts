import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseLsn, systemClock } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { until } from './testing/until.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-durable-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let stateDir: string
let backend: BackendProcess
/** Nothing is committed to Iceberg unless asked for. */
const idle = { MOONLINK_FLUSH_INTERVAL_MS: '1h' }

beforeEach(async () => {
  database = await postgres.createDatabase()
  stateDir = join(directory, database.name)
  await database.client.query(`CREATE TABLE orders (id bigint PRIMARY KEY, note text); CREATE TABLE still (id int PRIMARY KEY, note text)`)
  await database.client.query(
    `INSERT INTO orders SELECT i, 'note ' || i FROM generate_series(1, 1000) i; INSERT INTO still VALUES (1, 'a')`,
  )
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

const start = async (env: Record<string, string> = {}) => {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir], { ...idle, ...env })
}
const change = async (note: string) => {
  await database.client.query(`INSERT INTO orders SELECT (SELECT max(id) FROM orders) + i, $1 FROM generate_series(1, 300) i`, [note])
  await database.client.query(`UPDATE orders SET note = $1 WHERE id % 7 = 3`, [note])
  await database.client.query(`DELETE FROM orders WHERE id % 11 = 5`)
}
const print = `count(*) || ':' || coalesce(sum(id), 0) || ':' || coalesce(min(note), '') || ':' || coalesce(max(note), '')`

async function expectEqual(): Promise<void> {
  await backend.wait()
  for (const table of ['orders', 'still']) {
    const { rows } = await database.client.query<{ print: string }>(`SELECT ${print} AS print FROM ${table}`)
    expect(await backend.query(`SELECT ${print} AS print FROM public.${table}`)).toEqual([[rows[0].print]])
  }
}

const currentLsn = async () =>
  parseLsn((await database.client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')).rows[0].lsn)
const slotLsn = async () => {
  const sql = 'SELECT confirmed_flush_lsn AS lsn FROM pg_replication_slots WHERE database = current_database()'
  return parseLsn((await database.client.query<{ lsn: string }>(sql)).rows[0].lsn)
}
const confirmed = async () => parseLsn((await backend.status()).source.confirmedFlushLsn)
/** Until a status update told the source that everything up to there has come; it says up to where the slot may let go, too. */
const reported = (lsn: bigint) =>
  until('a status update', async () => {
    const sql = `SELECT write_lsn FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid WHERE database = current_database()`
    const { rows } = await database.client.query<{ write_lsn: string }>(sql)
    return rows.length > 0 && parseLsn(rows[0].write_lsn) >= lsn
  })
const logged = () => readFileSync(join(stateDir, 'moonlink.log'), 'utf8')
const segments = () => readdirSync(join(stateDir, 'changelog')).sort()

/** The slot is told of everything that is committed by now. */
async function slotFollows(): Promise<void> {
  const lsn = await currentLsn()
  await until('the slot', async () => (await confirmed()) >= lsn)
}

/** The log takes changes again. */
async function logGoesOn(): Promise<void> {
  await until('the log to go on', async () => {
    await database.client.query(`UPDATE still SET note = note || '.'`)
    return (await backend.status()).log.reason === null
  })
}

test('the slot follows the log while nothing is committed; a killed backend finds all of it in its log', async () => {
  await start()
  for (const round of [1, 2, 3]) {
    const { committedLsn } = await backend.table('public.orders')
    await change(`round ${round}`)
    const lsn = await currentLsn()
    await until('the slot', async () => (await confirmed()) >= lsn)
    const report = await backend.table('public.orders')
    expect(parseLsn(report.durableLsn!)).toBeGreaterThanOrEqual(lsn)
    expect(report.committedLsn).toBe(committedLsn)
    await backend.stop('SIGKILL')
    await change(`down ${round}`)
    await start()
    await expectEqual()
  }
  expect(logged()).not.toMatch(/made equal|copied again|change log has/)
  // What is in Iceberg leaves the log.
  const { bytes } = (await backend.status()).log
  await change('last')
  await backend.wait({ iceberg: true })
  expect(bytes).toBeGreaterThan(50_000)
  expect(await backend.stop()).toBe(0)
  await start()
  await expectEqual()
})

test('under a light, constant load the slot passes within a second where the source was, as a rule', async () => {
  await start()
  const stopped = new AbortController()
  const load = (async () => {
    for (let id = 1_000_000; !stopped.signal.aborted; id++) {
      await database.client.query(`INSERT INTO orders VALUES ($1, 'load')`, [id])
      await systemClock.sleep(10)
    }
  })()
  const watcher = new Client(database.connectionString)
  await watcher.connect()
  const sql = `SELECT pg_current_wal_insert_lsn()::text AS now, confirmed_flush_lsn::text AS confirmed FROM pg_replication_slots WHERE database = current_database()`
  const look = async () => (await watcher.query<{ now: string; confirmed: string }>(sql)).rows[0]
  /** Whether the slot was, a second later, beyond where the source is now. */
  const follows = async () => {
    const { now } = await look()
    await systemClock.sleep(1000)
    return parseLsn((await look()).confirmed) >= parseLsn(now)
  }
  try {
    // A machine may be too busy for a while: then another ten are looked at.
    await until('a slot that follows', async () => {
      let following = 0
      for (let sample = 0; sample < 10; sample++) if (await follows()) following++
      return following > 5
    })
  } finally {
    stopped.abort()
    await load
    await watcher.end()
  }
})

test('segments leave the log as Iceberg takes what they have, and a table that is still does not keep them', async () => {
  await start({ MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '50KiB' })
  // How much a segment holds depends on how much one sync brings.
  for (let round = 0; segments().length <= 3; round++) {
    await change(`round ${round}`)
    await backend.wait()
  }
  const before = segments()
  await backend.wait({ iceberg: true })
  await until('fewer segments', async () => segments().length <= 2)
  expect(segments()[0] > before[0]).toBe(true)
  await change('after')
  await backend.wait()
  await slotFollows()
  await backend.stop('SIGKILL')
  await start()
  await expectEqual()
  expect(logged()).not.toMatch(/made equal|copied again/)
})

test('a lost log is said, and what is missing is made up for by comparing with the source', async () => {
  await start()
  await change('logged')
  await backend.wait()
  await slotFollows()
  await backend.stop('SIGKILL')
  rmSync(join(stateDir, 'changelog'), { recursive: true })
  await start()
  await expectEqual()
  expect(logged()).toMatch(/neither the slot nor the change log has the changes from/)
})

test('a lost state directory, too', async () => {
  const warehouse = join(directory, `${database.name}-warehouse`)
  const again = async () => {
    backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir, '--warehouse', warehouse], idle)
  }
  await again()
  await change('logged')
  await backend.wait()
  await slotFollows()
  await backend.stop('SIGKILL')
  rmSync(stateDir, { recursive: true })
  await again()
  await expectEqual()
  expect(logged()).toMatch(/neither the slot nor the change log has the changes from/)
})

test('a log that is lost while it is written is said at once, what it had is committed, and a new one begins', async () => {
  await start()
  await change('logged')
  await backend.wait()
  await slotFollows()
  rmSync(join(stateDir, 'changelog'), { recursive: true })
  await change('lost')
  await until('that it is said', async () => (await backend.status()).log.reason !== null)
  expect((await backend.status()).log.reason).toMatch(/changelog\/\d+\.segment is gone/)
  // What only it had is committed at once.
  await logGoesOn()
  await change('in the new log')
  await slotFollows()
  await backend.stop('SIGKILL')
  await start()
  await expectEqual()
  expect(logged()).not.toMatch(/made equal|copied again/)
})

test('a flipped bit in the log is named with its file, and made up for', async () => {
  await start()
  for (let round = 0; round < 3; round++) await change(`round ${round}`)
  await backend.wait()
  await slotFollows()
  await change('more')
  await slotFollows()
  await backend.stop('SIGKILL')
  const path = join(stateDir, 'changelog', segments().at(-1) ?? '')
  const bytes = readFileSync(path)
  bytes[bytes.indexOf('round 1') + 2] ^= 1
  writeFileSync(path, bytes)
  await start()
  await expectEqual()
  expect(logged()).toMatch(new RegExp(`LOG_CORRUPT.*${path} is damaged at byte \\d+`))
})

test('at its bound the log stops and says so; the slot keeps the rest, and all goes on once Iceberg has caught up', async () => {
  await start({ MOONLINK_CHANGE_LOG_MAX_BYTES: '200KiB', MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '20KiB' })
  // In one transaction, so that no early commit makes room.
  await database.client.query(
    `INSERT INTO orders SELECT (SELECT max(id) FROM orders) + i, repeat('x', 100) FROM generate_series(1, 5000) i`,
  )
  await backend.wait()
  expect((await backend.status()).log.reason).toMatch(/bound of 204800 bytes/)
  expect((await backend.status()).log.bytes).toBeLessThan(300_000)
  const beyond = await currentLsn()
  await reported(beyond)
  expect(await slotLsn()).toBeLessThan(beyond)
  await expectEqual()
  await backend.stop('SIGKILL')
  await start({ MOONLINK_CHANGE_LOG_MAX_BYTES: '200KiB', MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '20KiB' })
  await expectEqual()
  await backend.wait({ iceberg: true })
  await change('after')
  await logGoesOn()
  await slotFollows()
  await backend.stop('SIGKILL')
  await start()
  await expectEqual()
  expect(logged()).not.toMatch(/made equal|copied again/)
})

test('as the log nears its bound, tables are committed early, and it never stops', async () => {
  const maxBytes = 4 * 2 ** 20
  await start({ MOONLINK_CHANGE_LOG_MAX_BYTES: String(maxBytes), MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '50KiB' })
  const { committedLsn } = await backend.table('public.orders')
  const isCommitted = async () => (await backend.table('public.orders')).committedLsn !== committedLsn
  const bytes = async () => (await backend.status()).log.bytes
  // Only so much that what is written meanwhile has room.
  for (let round = 0; !(await isCommitted()) && (await bytes()) < maxBytes / 2; round++) {
    await change(`round ${round} ${'x'.repeat(500)}`)
    await backend.wait()
  }
  await until('an early commit', isCommitted)
  await until('room in the log', async () => (await bytes()) < maxBytes / 4)
  expect(logged()).toMatch(/tables are committed early for the change log/)
  expect(logged()).not.toMatch(/the change log has stopped/)
  await expectEqual()
})

test('a state of the first version is upgraded; one of a later version is refused', async () => {
  await start()
  await expectEqual()
  expect(await backend.stop()).toBe(0)
  const path = join(stateDir, 'state.json')
  const { coveredLsn: _, crc32: __, ...rest } = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  // Then the slot was told what Iceberg has, and no more.
  const { rows } = await database.client.query<{ lsn: string }>(
    'SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE database = current_database()',
  )
  writeFileSync(path, JSON.stringify({ ...rest, version: 1, acknowledgedLsn: rows[0].lsn }))
  rmSync(join(stateDir, 'changelog'), { recursive: true })
  await start()
  await expectEqual()
  expect(logged()).not.toMatch(/made equal|copied again/)
  expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ version: 4 })
  await backend.stop()
  writeFileSync(path, JSON.stringify({ ...rest, version: 9 }))
  await expect(start()).rejects.toThrow(/STATE_VERSION.*version 9/)
})

test('a backup of the state is restored onto a new machine: taken while stopped, while running under load, and an old one', async () => {
  const warehouse = join(directory, `${database.name}-warehouse`)
  const startThere = async () => {
    backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir, '--warehouse', warehouse], idle)
  }
  const backup = (name: string) => {
    for (const part of ['state.json', 'changelog']) cpSync(join(stateDir, part), join(directory, name, part), { recursive: true })
  }
  let machines = 0
  const restore = async (name: string) => {
    stateDir = join(directory, `${database.name}-machine-${++machines}`)
    cpSync(join(directory, name), stateDir, { recursive: true })
    await startThere()
  }
  await startThere()
  await change('before')
  expect(await backend.stop()).toBe(0)
  backup('stopped')
  await restore('stopped')
  await expectEqual()
  expect(logged()).not.toMatch(/made equal|copied again|is damaged/)

  const stopped = new AbortController()
  const load = (async () => {
    while (!stopped.signal.aborted) await change('running')
  })()
  await slotFollows()
  backup('running')
  await backend.stop('SIGKILL')
  stopped.abort()
  await load
  await restore('running')
  await expectEqual()

  // A day later: other segments, other files, and a table that is not mirrored any more.
  for (let round = 0; round < 3; round++) {
    await change(`later ${round}`)
    await backend.wait({ iceberg: true })
  }
  expect((await fetch(`${backend.url}/tables/public.still`, { method: 'DELETE' })).ok).toBe(true)
  await database.client.query(`UPDATE still SET note = 'later'; INSERT INTO still VALUES (2, 'b')`)
  await slotFollows()
  await backend.stop('SIGKILL')
  await restore('stopped')
  await expectEqual()
  expect(logged()).toMatch(/neither the slot nor the change log has the changes from/)
}, 400_000)

test('a warehouse that is put back as it was some time ago lacks what slot and log have let go of, which is made up for', async () => {
  const place = (name: string) => join(directory, `${database.name}-${name}`)
  const warehouse = place('warehouse')
  const startThere = async () => {
    const env = { ...idle, MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '16KiB' }
    backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir, '--warehouse', warehouse], env)
  }
  await startThere()
  await change('kept')
  await backend.wait({ iceberg: true })
  const kept = await currentLsn()
  expect(await backend.stop()).toBe(0)
  cpSync(warehouse, place('backup'), { recursive: true })
  await startThere()
  await until('a log that has let go of more', async () => {
    await change('gone')
    await backend.wait({ iceberg: true })
    const { coveredLsn } = JSON.parse(readFileSync(join(stateDir, 'state.json'), 'utf8')) as { coveredLsn: string }
    return parseLsn(coveredLsn) > kept
  })
  expect(await backend.stop()).toBe(0)
  rmSync(warehouse, { recursive: true })
  cpSync(place('backup'), warehouse, { recursive: true })
  await startThere()
  await expectEqual()
  expect(logged()).toMatch(/its catalog has gone back/)
})

test('without a log, the slot keeps what Iceberg lacks', async () => {
  await start({ MOONLINK_CHANGE_LOG_ENABLED: 'false' })
  await change('kept by the slot')
  await backend.wait()
  const lsn = await currentLsn()
  for (const round of [1, 2]) {
    await change(`more ${round}`)
    await reported(await currentLsn())
  }
  expect(await slotLsn()).toBeLessThan(lsn)
  await backend.stop('SIGKILL')
  await start({ MOONLINK_CHANGE_LOG_ENABLED: 'false' })
  await expectEqual()
})
