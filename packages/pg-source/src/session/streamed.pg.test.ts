import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LocalLogDisk, SegmentedLog } from '@moonlink/change-log'
import type { Lsn } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import * as fc from 'fast-check'
import pg from 'pg'
import { afterAll, expect, test } from 'vitest'
import { follow, sourceState, type Following } from './harness.test.support.ts'
import { Replica, sorted } from './replica.test.support.ts'
import { openPgSource } from './source.ts'

/** Transactions in progress and prepared ones, from a server that streams as soon as it may. */
const postgres = withPostgres({ settings: { max_prepared_transactions: '20', logical_decoding_work_mem: '64kB', max_connections: '300' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-streamed-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const SESSIONS = 3
const tables = ['single', ...Array.from({ length: SESSIONS }, (_, session) => `bag_${session}`)]
const names = tables.map((table) => `public.${table}`)
const schema = `CREATE TABLE single (id int PRIMARY KEY, v text, n int); ALTER TABLE single ALTER v SET STORAGE EXTERNAL;
  ${tables
    .slice(1)
    .map((bag) => `CREATE TABLE ${bag} (x int, y text); ALTER TABLE ${bag} REPLICA IDENTITY FULL;`)
    .join(' ')}`

/** A statement of one session: of rows and of a table that no other session touches. */
const statement = fc.oneof(
  fc.tuple(fc.nat(20), fc.nat(40)).map(
    ([id, n]) =>
      (session: number) =>
        `INSERT INTO single SELECT ${session} * 1000 + i, repeat(i::text, 900), 0 FROM generate_series(${id}, ${id + n}) i ON CONFLICT (id) DO UPDATE SET n = single.n + 1`,
  ),
  fc.nat(6).map((rest) => (session: number) => `UPDATE single SET n = n + 1 WHERE id / 1000 = ${session} AND id % 7 = ${rest}`),
  fc
    .nat(40)
    .map(
      (id) => (session: number) =>
        `UPDATE single SET id = id + 500 WHERE id = ${session} * 1000 + ${id} AND NOT EXISTS (SELECT FROM single WHERE id = ${session} * 1000 + ${id + 500})`,
    ),
  fc.nat(6).map((rest) => (session: number) => `DELETE FROM single WHERE id / 1000 = ${session} AND id % 7 = ${rest}`),
  fc.nat(3).map((x) => (session: number) => `INSERT INTO bag_${session} SELECT ${x}, repeat('y', 200) FROM generate_series(1, 40) n`),
  fc
    .nat(3)
    .map(
      (x) => (session: number) =>
        `UPDATE bag_${session} SET y = 'again' WHERE ctid IN (SELECT ctid FROM bag_${session} WHERE x = ${x} LIMIT 5)`,
    ),
  fc
    .nat(3)
    .map((x) => (session: number) => `DELETE FROM bag_${session} WHERE ctid IN (SELECT ctid FROM bag_${session} WHERE x = ${x} LIMIT 7)`),
  fc.constant((session: number) => `TRUNCATE bag_${session}`),
)
const step = fc.record({
  session: fc.nat(SESSIONS - 1),
  act: fc.oneof(
    { weight: 12, arbitrary: statement },
    { weight: 2, arbitrary: fc.constant('savepoint' as const) },
    { weight: 2, arbitrary: fc.constantFrom('rollback to' as const, 'release' as const) },
    {
      weight: 3,
      arbitrary: fc.constantFrom('commit' as const, 'commit' as const, 'commit' as const, 'rollback' as const, 'prepare' as const),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom('commit prepared' as const, 'rollback prepared' as const, 'check' as const, 'restart' as const),
    },
  ),
})
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** One transaction of more than what any server holds back here: it is streamed for certain. */
const surelyStreamed: Step[] = [
  { session: 0, act: () => `INSERT INTO single SELECT i, repeat('s', 3000), 0 FROM generate_series(1, 100) i` },
  { session: 0, act: 'commit' },
]

let run = 0

/** Several sessions that take turns. */
class Sessions {
  private readonly clients: pg.Client[]
  private readonly savepoints = Array.from({ length: SESSIONS }, () => 0)
  /** One that has a prepared transaction waits for it. */
  private readonly prepared: (string | null)[] = Array.from({ length: SESSIONS }, () => null)
  private readonly hasTruncated = Array.from({ length: SESSIONS }, () => false)
  private readonly isOpen = Array.from({ length: SESSIONS }, () => false)

  constructor(clients: pg.Client[]) {
    this.clients = clients
  }

  async do({ act, session }: Step): Promise<void> {
    const client = this.clients[session]
    const gid = this.prepared[session]
    if (act === 'commit prepared' || act === 'rollback prepared') {
      if (gid === null) return
      await client.query(`${act} '${gid}'`)
      this.hasTruncated[session] = false
      this.prepared[session] = null
      return
    }
    if (gid !== null) return
    if (typeof act === 'string') return this.control(act, session)
    if (!this.isOpen[session]) await client.query('BEGIN')
    this.isOpen[session] = true
    const sql = act(session)
    if (sql.startsWith('TRUNCATE')) this.hasTruncated[session] = true
    await client.query(sql)
  }

  private async control(act: string, session: number): Promise<void> {
    const client = this.clients[session]
    if (!this.isOpen[session]) return
    if (act === 'savepoint') await client.query(`SAVEPOINT s${++this.savepoints[session]}`)
    else if (act === 'release' || act === 'rollback to') {
      if (this.savepoints[session] === 0) return
      await client.query(`${act} s${this.savepoints[session]}`)
      if (act === 'release') this.savepoints[session]--
    } else if (['commit', 'rollback', 'prepare'].includes(act)) {
      const name = `p${run}_${session}_${Math.random()}`
      await client.query(act === 'prepare' ? `PREPARE TRANSACTION '${name}'` : act)
      if (act === 'prepare') this.prepared[session] = name
      this.isOpen[session] = false
      if (act !== 'prepare') this.hasTruncated[session] = false
      this.savepoints[session] = 0
    }
  }

  /** Whether a TRUNCATE has locked a table, even against a look at the publication. */
  get isLocked(): boolean {
    return this.hasTruncated.includes(true)
  }

  /** Tables that no open transaction has locked. */
  get readable(): string[] {
    return ['single', ...this.isOpen.flatMap((isOpen, session) => (isOpen || this.prepared[session] !== null ? [] : [`bag_${session}`]))]
  }

  async end(): Promise<void> {
    for (let session = 0; session < SESSIONS; session++) {
      await this.do({ session, act: 'commit prepared' })
      await this.do({ session, act: 'commit' })
      await this.clients[session].end()
    }
  }
}

async function prepareDatabase(): Promise<{ database: TestDatabase; isImmediate: boolean }> {
  const database = await postgres.createDatabase()
  await database.client.query(schema)
  const isImmediate = Number(postgres.server.version.split('.')[0]) >= 16
  // Every change goes out at once, rather than with the next 64 kB.
  if (isImmediate) await database.client.query(`ALTER DATABASE ${database.name} SET debug_logical_replication_streaming = immediate`)
  return { database, isImmediate }
}

const openSessions = async (database: TestDatabase) => {
  const clients = Array.from({ length: SESSIONS }, () => new pg.Client(database.connectionString))
  for (const client of clients) client.on('error', () => {})
  for (const client of clients) await client.connect()
  return new Sessions(clients)
}

async function expectSame(following: Following, client: pg.Client, among: readonly string[]): Promise<void> {
  await following.catchUp()
  for (const table of among) expect(sorted(following.replica.rowsOf(`public.${table}`)), table).toEqual(await sourceState(client, table))
  expect(following.replica.missing).toEqual([])
  expect(following.replica.otherEvents).toEqual([])
}

async function countStreamed(client: pg.Client, slot: string): Promise<number> {
  const { rows } = await client.query<{ n: number }>('SELECT stream_txns::int AS n FROM pg_stat_replication_slots WHERE slot_name = $1', [
    slot,
  ])
  return rows[0]?.n ?? 0
}

const modes = [
  { name: 'as they come', twoPhase: false, isLogged: false },
  { name: 'with prepared transactions sent early', twoPhase: true, isLogged: false },
  { name: 'through a log', twoPhase: false, isLogged: true },
  { name: 'through a log, with prepared transactions sent early', twoPhase: true, isLogged: true },
]

test.for(modes)('sessions side by side, streamed $name: what SELECT shows', async ({ twoPhase, isLogged }) => {
  if (twoPhase && Number(postgres.server.version.split('.')[0]) < 15) return
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const { database } = await prepareDatabase()
      const spoolDirectory = join(directory, database.name)
      const config = {
        connection: database.connectionString,
        slot: `streamed_${++run}`,
        twoPhase,
        spoolDirectory,
        spoolMemoryBytes: 20_000,
      }
      const sessions = await openSessions(database)
      let log: SegmentedLog | undefined
      /** Where the log begins. */
      let baseLsn: Lsn | undefined
      let isWhole = true
      const openLog = (from: Lsn) =>
        SegmentedLog.open({
          disk: new LocalLogDisk(join(spoolDirectory, 'log')),
          log: database.name,
          sourceFromLsn: from,
          segmentBytes: 9000,
          syncIntervalMs: 5,
        })
      const followFrom = async (after: Lsn | undefined, replica: Replica) => {
        const following = await follow(config, names, after, replica, log)
        log?.onDurable(() => {
          if (log?.durableLsn) following.stream.acknowledge(log.durableLsn)
        })
        return following
      }
      if (isLogged) {
        const source = await openPgSource(config)
        const { slotLsn } = await source.prepare([{ schema: 'public', name: 'single' }])
        await source.close()
        log = await openLog(slotLsn)
        log.prune(slotLsn)
        baseLsn = slotLsn
      }
      let following = await followFrom(baseLsn, new Replica())
      try {
        for (const next of steps) {
          await sessions.do(next)
          if (next.act === 'check') await expectSame(following, database.client, sessions.readable)
          if (next.act !== 'restart' || sessions.isLocked) continue
          await following.catchUp()
          const lsn = following.replica.watermarkLsn
          const isFromTheStart = isLogged && isWhole && next.session === 0
          // As once all tables are committed: what is prepared by then may be in no segment that stays.
          if (next.session === 1) isWhole = false
          // Nothing but the slot, or the log, knows what was in progress.
          following.stream.acknowledge(isLogged ? 0n : lsn)
          await following.close()
          if (log !== undefined) {
            await log.close()
            const source = await openPgSource(config)
            log = await openLog((await source.position()).confirmedFlushLsn!)
            await source.close()
            log.prune(isWhole ? baseLsn! : lsn)
          }
          following = await (isFromTheStart ? followFrom(baseLsn, new Replica()) : followFrom(lsn, following.replica))
        }
        await sessions.end()
        await expectSame(following, database.client, tables)
        expect(readdirSync(spoolDirectory).filter((file) => file.endsWith('.spool'))).toEqual([])
        // Older servers count with a delay.
        if (steps === surelyStreamed) await expect.poll(() => countStreamed(database.client, config.slot)).not.toBe(0)
      } finally {
        await following.source.uninstall()
        await following.close()
        await log?.close()
      }
    }),
    { numRuns: 6, examples: [[surelyStreamed]] },
  )
})

test('a prepared transaction is not let go of before its commit is safe, over a restart', async () => {
  if (Number(postgres.server.version.split('.')[0]) < 15) return
  const { database } = await prepareDatabase()
  const { client } = database
  const config = { connection: database.connectionString, slot: 'held', twoPhase: true }
  let following = await follow(config, names)
  const confirmed = async () => (await following.source.position()).confirmedFlushLsn!
  /** Acknowledges, and waits until the server has heard from us since. */
  const acknowledge = async (lsn: bigint) => {
    const now = new Date()
    following.stream.acknowledge(lsn)
    const heard = `SELECT FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid WHERE slot_name = 'held' AND reply_time >= $1`
    await expect.poll(async () => (await client.query(heard, [now])).rowCount).toBe(1)
  }
  await client.query(`BEGIN; INSERT INTO single VALUES (1, 'prepared', 0); PREPARE TRANSACTION 'held'`)
  await client.query(`INSERT INTO single VALUES (2, 'after', 0)`)
  const lsn = await following.catchUp()
  expect(following.replica.rowsOf('public.single')).toHaveLength(1)
  await acknowledge(lsn)
  expect(await confirmed()).toBeLessThan(lsn)
  await following.close()
  following = await follow(config, names, lsn, following.replica)
  await client.query(`COMMIT PREPARED 'held'`)
  const committed = await following.catchUp()
  expect(sorted(following.replica.rowsOf('public.single'))).toEqual(await sourceState(client, 'single'))
  // As long as the consumer has not made it safe, the slot waits; so a restart finds it.
  await acknowledge(lsn)
  expect(await confirmed()).toBeLessThan(lsn)
  await following.close()
  following = await follow(config, names, committed, following.replica)
  await client.query(`INSERT INTO single VALUES (3, 'last', 0)`)
  const last = await following.catchUp()
  expect(sorted(following.replica.rowsOf('public.single'))).toEqual(await sourceState(client, 'single'))
  following.stream.acknowledge(last)
  await expect.poll(confirmed).toBeGreaterThanOrEqual(committed)
  await following.close()
})

test('prepared transactions that change nothing, or nothing that lasts, end either way', async () => {
  if (Number(postgres.server.version.split('.')[0]) < 15) return
  const { database } = await prepareDatabase()
  const { client } = database
  const following = await follow({ connection: database.connectionString, slot: 'empty', twoPhase: true }, names)
  const nothing = [
    'SELECT pg_current_xact_id()',
    'SAVEPOINT s; TRUNCATE single; ROLLBACK TO s',
    `SAVEPOINT s; INSERT INTO single VALUES (9, 'undone', 0); ROLLBACK TO s`,
    'SAVEPOINT s; LOCK TABLE single; SELECT pg_current_xact_id(); ROLLBACK TO s',
  ]
  try {
    for (const [index, work] of nothing.entries()) {
      await client.query(`BEGIN; ${work}; PREPARE TRANSACTION 'empty ${index}'`)
      await client.query(`INSERT INTO single VALUES (${index}, 'beside', 0)`)
      await following.catchUp()
      await client.query(`${index % 2 === 0 ? 'COMMIT' : 'ROLLBACK'} PREPARED 'empty ${index}'`)
    }
    await following.catchUp()
    expect(sorted(following.replica.rowsOf('public.single'))).toEqual(await sourceState(client, 'single'))
  } finally {
    await following.close()
  }
})
