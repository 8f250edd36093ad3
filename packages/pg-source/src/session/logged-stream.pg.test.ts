import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LocalLogDisk, SegmentedLog } from '@moonlink/change-log'
import { parseLsn, type Lsn } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, beforeEach, expect, test, vi } from 'vitest'
import { follow, sourceState, tableOf, type Following } from './harness.test.support.ts'
import { Replica, sorted } from './replica.test.support.ts'
import { openPgSource, type PgSource } from './source.ts'

const postgres = withPostgres({ settings: { max_prepared_transactions: '10' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-logged-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let log: SegmentedLog
beforeEach(async () => {
  database = await postgres.createDatabase()
})

// A slot is of the whole server.
const config = () => ({ connection: database.connectionString, slot: `logged_${database.name}` })
const openLog = (sourceFromLsn: Lsn, segmentBytes = 20_000) =>
  SegmentedLog.open({
    disk: new LocalLogDisk(join(directory, database.name)),
    log: database.name,
    sourceFromLsn,
    segmentBytes,
    syncIntervalMs: 10,
  })

const confirmed = async (): Promise<Lsn> => {
  const source = await openPgSource(config())
  const { confirmedFlushLsn } = await source.position()
  await source.close()
  return confirmedFlushLsn!
}

/** Follows through the log, which the slot is told of as soon as something is durable. */
async function followLogged(names: readonly string[], after: Lsn, replica: Replica, twoPhase = false): Promise<Following> {
  const following = await follow({ ...config(), twoPhase }, names, after, replica, log)
  log.onDurable(() => {
    if (log.durableLsn !== null) following.stream.acknowledge(log.durableLsn)
  })
  return following
}

test('what the slot has let go of comes from the log, and the stream goes on behind it', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY, body text)')
  const source = await openPgSource(config())
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  await source.close()
  log = await openLog(slotLsn)
  log.prune(slotLsn)
  let following = await followLogged(['public.items'], slotLsn, new Replica())
  await client.query(`INSERT INTO items SELECT n, repeat('x', 100) FROM generate_series(1, 3000) n`)
  for (let n = 1; n <= 300; n++) await client.query(`UPDATE items SET body = $1 WHERE id = $2`, [`v${n}`, n])
  const lsn = await following.catchUp()
  // The slot follows the log within moments, while nothing is committed anywhere.
  await expect.poll(async () => (await following.source.position()).confirmedFlushLsn! >= lsn).toBe(true)
  await following.close()
  await log.close()

  await client.query(`UPDATE items SET body = 'meanwhile' WHERE id < 100`)
  log = await openLog(await confirmed())
  expect(log.status.range!.startLsn).toBe(slotLsn)
  following = await followLogged(['public.items'], slotLsn, new Replica())
  await client.query('DELETE FROM items WHERE id > 2000')
  await following.catchUp()
  expect(sorted(following.replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
  expect(following.replica.missing).toEqual([])
  await following.close()
  await log.close()
})

test('a connection that is cut off while the log is read back is opened again, like one that is lost later', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource(config())
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  log = await openLog(slotLsn)
  const begin = log.begin.bind(log)
  vi.spyOn(log, 'begin').mockImplementationOnce(async (...args) => {
    await begin(...args)
    const ofStream = `datname = current_database() AND backend_type = 'walsender'`
    await client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${ofStream}`)
    await expect.poll(async () => (await client.query(`SELECT FROM pg_stat_activity WHERE ${ofStream}`)).rowCount).toBe(0)
  })
  const open = () => source.open(slotLsn, new AbortController().signal, log, [])
  await expect(open()).rejects.toMatchObject({ kind: 'retry', code: 'PG_CONNECTION_LOST' })
  const stream = await open()
  await stream.close()
  await source.close()
  await log.close()
})

test('a prepared transaction whose commit comes again, without its changes, where what is left of the log begins, is not lost', async (context) => {
  if (Number(postgres.server.version.split('.')[0]) < 15) return context.skip()
  const { client, name } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource({ ...config(), twoPhase: true })
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  await source.close()
  const replica = new Replica()
  const session = async (after: Lsn) => {
    log = await openLog(after === slotLsn ? slotLsn : await confirmed())
    log.prune(after)
    return followLogged(['public.items'], after, replica, true)
  }
  /** Gives where the log ends: who has all of it begins anew behind that, with a log of its own. */
  const end = async (following: Following): Promise<Lsn> => {
    const lsn = await following.catchUp()
    await expect.poll(() => (log.durableLsn ?? 0n) >= lsn).toBe(true)
    await following.close()
    const { endLsn } = log.status.range!
    await log.close()
    return endLsn
  }
  let following = await session(slotLsn)
  await client.query(`BEGIN; INSERT INTO items VALUES (1); PREPARE TRANSACTION 'first_${name}'`)
  const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn')
  await client.query(`BEGIN; INSERT INTO items VALUES (2); PREPARE TRANSACTION 'second_${name}'`)
  await client.query(`COMMIT PREPARED 'first_${name}'`)
  await following.catchUp()
  // As far as the second one lets the slot go: behind the first one's changes, before its commit.
  await expect.poll(async () => (await following.source.position()).confirmedFlushLsn! >= parseLsn(rows[0].lsn)).toBe(true)
  const behindCommit = await end(following)

  await client.query(`ROLLBACK PREPARED 'second_${name}'`)
  following = await session(behindCommit)
  await end(following)

  // Reads what the session before has logged, from its beginning.
  following = await session(behindCommit)
  await client.query('INSERT INTO items VALUES (3)')
  await end(following)
  expect(sorted(replica.rowsOf('public.items'))).toEqual(await sourceState(client, 'items'))
})

test('where slot and log together do not reach back, it says so rather than stream on', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource(config())
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  await client.query('INSERT INTO items VALUES (1)')
  await client.query('SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())', [config().slot])
  log = await openLog(slotLsn)
  await expect(source.open(slotLsn, new AbortController().signal, log)).rejects.toMatchObject({ kind: 'invalid', code: 'PG_CHANGES_LOST' })
  await source.close()
  await log.close()
})

/** A log is to be read back on a server that lacks what was read, as it says before that. */
async function refusesBeforeReplay(readOn: (source: PgSource, slotLsn: Lsn) => void): Promise<void> {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource(config())
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  log = await openLog(slotLsn)
  log.prune(slotLsn)
  await log.begin(slotLsn, () => new Uint8Array())
  await client.query('INSERT INTO items VALUES (1)')
  readOn(source, slotLsn)
  await log.sync()
  const replay = vi.spyOn(log, 'replay')
  const opened = source.open(slotLsn, new AbortController().signal, log)
  await expect(opened).rejects.toMatchObject({ kind: 'invalid', code: 'PG_DIVERGED' })
  expect(replay).not.toHaveBeenCalled()
  await source.close()
  await log.close()
}

test('where nobody knows of which history the log is, a server that lacks some of it is found out before the log is read back', () =>
  refusesBeforeReplay((_, slotLsn) => {
    // Of a server that had come further. This one's log would have grown beyond that before a long replay ends.
    log.append(Buffer.from('changes'), slotLsn + 2n ** 40n, true)
  }))

test('so is one that lacks what a table has of another timeline than the log: what that has is not for such a table', () =>
  refusesBeforeReplay((source, slotLsn) => {
    log.append(Buffer.from('changes'), slotLsn + 1n, true)
    source.history.resume(1, 0n, () => Promise.resolve())
    source.history.committed({ timeline: 2, lsn: slotLsn }, slotLsn)
  }))

test('a slot that is let go further while the log is read is noticed before the stream goes on behind it', async () => {
  const { client } = database
  await client.query('CREATE TABLE items (id int PRIMARY KEY)')
  const source = await openPgSource(config())
  const { slotLsn } = await source.prepare([tableOf('public.items')])
  log = await openLog(slotLsn)
  log.prune(slotLsn)
  const following = await followLogged(['public.items'], slotLsn, new Replica())
  await client.query('INSERT INTO items VALUES (1)')
  await following.catchUp()
  await following.close()
  const stream = await source.open(slotLsn, new AbortController().signal, log)
  await client.query('INSERT INTO items VALUES (2)')
  await client.query('SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())', [config().slot])
  const readAll = async () => {
    for await (const event of stream) expect(event.kind).not.toBe('never')
  }
  await expect(readAll()).rejects.toMatchObject({ kind: 'invalid', code: 'PG_CHANGES_LOST' })
  await stream.close()
  await source.close()
  await log.close()
})

const names = ['public.keyed', 'public.bag']
const statement = fc.oneof(
  fc.nat(40).map((id) => `INSERT INTO keyed VALUES (${id}, 'a') ON CONFLICT (id) DO UPDATE SET v = keyed.v || 'b'`),
  fc.tuple(fc.nat(6), fc.nat(500)).map(([rest, n]) => `UPDATE keyed SET v = repeat('x', ${n}) WHERE id % 7 = ${rest}`),
  fc.nat(6).map((rest) => `DELETE FROM keyed WHERE id % 7 = ${rest}`),
  fc.nat(3).map((x) => `INSERT INTO bag SELECT ${x}, n::text FROM generate_series(1, 200) n`),
  fc.nat(3).map((x) => `DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE x = ${x} LIMIT 50)`),
  fc.constant('TRUNCATE bag'),
)
const step = fc.record({
  statements: fc.array(statement, { minLength: 1, maxLength: 5 }),
  next: fc.constantFrom('go on', 'go on', 'go on', 'lose the stream', 'restart', 'restart from the start', 'prune'),
})

test('random transactions, lost streams and restarts: what is committed and the log make what SELECT shows', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      database = await postgres.createDatabase()
      const { client } = database
      await client.query(
        'CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE bag (x int, y text); ALTER TABLE bag REPLICA IDENTITY FULL',
      )
      const source = await openPgSource(config())
      const { slotLsn } = await source.prepare(names.map(tableOf))
      await source.close()
      log = await openLog(slotLsn, 4000)
      log.prune(slotLsn)
      /** What a restart goes back to. */
      let base = { lsn: slotLsn, replica: new Replica() }
      let following = await followLogged(names, slotLsn, copyOf(base.replica))
      try {
        for (const { statements, next } of steps) {
          await client.query('BEGIN')
          for (const sql of statements) await client.query(sql)
          await client.query('COMMIT')
          if (next === 'go on') continue
          const lsn = await following.catchUp()
          if (next === 'prune') {
            base = { lsn, replica: copyOf(following.replica) }
            log.prune(lsn)
            continue
          }
          await following.close()
          if (next === 'lose the stream') {
            following = await followLogged(names, lsn, following.replica)
            continue
          }
          await log.close()
          log = await openLog(await confirmed(), 4000)
          log.prune(base.lsn)
          following = await followLogged(names, base.lsn, copyOf(base.replica))
        }
        await following.catchUp()
        for (const table of ['keyed', 'bag'])
          expect(sorted(following.replica.rowsOf(`public.${table}`))).toEqual(await sourceState(client, table))
        expect(following.replica.missing).toEqual([])
        expect(following.replica.otherEvents).toEqual([])
      } finally {
        await following.source.uninstall()
        await following.close()
        await log.close()
      }
    }),
    { numRuns: 12 },
  )
})

function copyOf(replica: Replica): Replica {
  const copy = new Replica()
  for (const [name, rows] of replica.tables) copy.tables.set(name, [...rows])
  copy.watermarkLsn = replica.watermarkLsn
  copy.appliedLsn = replica.appliedLsn
  return copy
}
