import type { Lsn } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { PgSourceConfig } from './config.ts'
import { follow, sourceState, tableOf, type Following } from './harness.test.support.ts'
import { sorted } from './replica.test.support.ts'
import { openPgSource, type PgSource } from './source.ts'

/** What becomes of partitions where no event trigger tells of it: what the stream says of them, and what the catalog does. */
const postgres = withPostgres({ settings: { logical_decoding_work_mem: '64kB', max_prepared_transactions: '10' } })
const EVENTS = tableOf('public.events')

let database: TestDatabase
let following: Following
beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`
    CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); CREATE TABLE other (id int PRIMARY KEY);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100);
    CREATE TABLE e2 PARTITION OF events FOR VALUES FROM (100) TO (200) PARTITION BY LIST (at); CREATE TABLE e2_a PARTITION OF e2 DEFAULT`)
})
afterEach(() => following?.source.uninstall().then(() => following.close()))

const config = (more: Partial<PgSourceConfig> = {}): PgSourceConfig => ({
  connection: database.connectionString,
  slot: `parts_${database.name}`,
  ...more,
})

const start = async (more: Partial<PgSourceConfig> = {}, after?: Lsn) => {
  following = await follow(config(more), ['public.events'], after)
}

/** What two looks at the catalog say, the second when the stream has all that the first saw. */
async function looks(): Promise<readonly (string | undefined)[]> {
  await following.source.publicationChanges()
  await following.catchUp()
  const changes = await following.source.publicationChanges()
  return changes.map((change) => ('reason' in change ? change.reason : undefined))
}

async function run(...statements: readonly string[]): Promise<void> {
  for (const statement of statements) await database.client.query(statement)
}

async function recopy(source: PgSource): Promise<void> {
  const [listing] = await source.listTables([EVENTS])
  if (!listing.mirrorable) throw new Error(listing.reason)
  await (await source.copy([listing], new AbortController().signal)).close()
}

const isEqual = async () => {
  await following.catchUp()
  expect(sorted(following.replica.rowsOf('public.events'))).toEqual(await sourceState(database.client, 'events'))
}

const CREATED = 'CREATE TABLE e3 PARTITION OF events FOR VALUES FROM (200) TO (300)'
const ROWS = 'INSERT INTO events VALUES (1, 250)'
const LARGE = 'INSERT INTO events SELECT n, 250 FROM generate_series(1, 5000) n'
const GONE = ['a partition that is gone had rows']
const EMPTIED = ['partition public.e3 came, and had rows that are gone']

test.each([
  ['dropped', [CREATED, ROWS, 'DROP TABLE e3'], GONE],
  ['detached', [CREATED, ROWS, 'ALTER TABLE events DETACH PARTITION e3'], GONE],
  ['dropped in one statement with all else', [`${CREATED}; ${ROWS}; DROP TABLE e3`], GONE],
  [
    'dropped from a partition of a partition',
    [`CREATE TABLE e2_b PARTITION OF e2 FOR VALUES IN (150)`, 'INSERT INTO events VALUES (1, 150)', 'DROP TABLE e2_b'],
    GONE,
  ],
  ['dropped after a transaction that is streamed while it is in progress', [CREATED, LARGE, 'DROP TABLE e3'], GONE],
  [
    'dropped after a prepared transaction',
    [CREATED, `BEGIN; ${ROWS}; PREPARE TRANSACTION 'p'`, `COMMIT PREPARED 'p'`, 'DROP TABLE e3'],
    GONE,
  ],
  ['dropped, with another of its name in its place', [CREATED, ROWS, 'DROP TABLE e3', CREATED], GONE],
  ['truncated by itself', [CREATED, ROWS, 'TRUNCATE e3'], EMPTIED],
  ['truncated by itself in the transaction that made it', [`BEGIN; ${CREATED}; ${ROWS}; TRUNCATE e3; COMMIT`], EMPTIED],
  [
    'emptied while it was detached',
    [
      CREATED,
      ROWS,
      'ALTER TABLE events DETACH PARTITION e3',
      'DELETE FROM e3',
      'ALTER TABLE events ATTACH PARTITION e3 FOR VALUES FROM (200) TO (300)',
    ],
    [expect.stringMatching(/^partition public.e3 came,/)],
  ],
  ['dropped without ever having had a row', [CREATED, 'DROP TABLE e3'], []],
  ['made, and nothing more', [CREATED], []],
])(
  'a partition that was made, got rows and was %s between two looks is noticed, until the table is copied',
  async (_, statements, expected) => {
    await start({ twoPhase: postgres.major >= 15 })
    await run(...statements)
    expect(await looks()).toEqual(expected)
    expect(await looks()).toEqual(expected)
    if (expected.length === 0) await isEqual()
    await recopy(following.source)
    await run('INSERT INTO events VALUES (2, 50)')
    expect(await looks()).toEqual([])
  },
)

test('partitions that rows came from in the stream are no news where they are there, have rows of late, or a look shows what became of them', async () => {
  await start()
  await run('INSERT INTO events VALUES (1, 50), (1, 150)')
  expect(await looks()).toEqual([])
  await run(CREATED)
  expect(await looks()).toEqual([])
  await run(ROWS, 'DELETE FROM events WHERE at = 250')
  expect(await looks()).toEqual([])
  await run('DROP TABLE e3')
  expect(await looks()).toEqual(['partition public.e3 was detached or dropped'])
})

test('a relation that is truncated together with the table is none of its partitions', async () => {
  await run('CREATE PUBLICATION given FOR TABLE events, other WITH (publish_via_partition_root = true)')
  await start({ publication: 'given' })
  await run('TRUNCATE events, other', 'INSERT INTO other VALUES (1)', 'INSERT INTO events VALUES (1, 50)')
  expect(await looks()).toEqual([])
  await isEqual()
})

test.each([
  ['in a transaction of its own', 'TRUNCATE events'],
  ['after rows of the same transaction', 'BEGIN; INSERT INTO events VALUES (9, 50), (9, 150); TRUNCATE events; COMMIT'],
  ['after a large part of it', 'BEGIN; INSERT INTO events SELECT n, 50 FROM generate_series(10, 5000) n; TRUNCATE events; COMMIT'],
  ['and so is a partition, before and after', 'BEGIN; TRUNCATE e1; TRUNCATE events; TRUNCATE e2; COMMIT'],
  ['after a partition was rewritten', 'VACUUM FULL e1|TRUNCATE events'],
  ['twice', 'TRUNCATE events|INSERT INTO events VALUES (9, 50)|TRUNCATE events'],
  ['and has rows again at once', 'TRUNCATE events|INSERT INTO events VALUES (9, 50)'],
  ['by a prepared transaction', `BEGIN; TRUNCATE events; PREPARE TRANSACTION 'p'|COMMIT PREPARED 'p'`],
])('a partitioned table that is truncated %s is followed in the stream alone', async (_, statements) => {
  await start({ twoPhase: postgres.major >= 15 })
  await run('INSERT INTO events VALUES (1, 50), (1, 150)', ...statements.split('|'), 'INSERT INTO events VALUES (2, 50)')
  expect(await looks()).toEqual([])
  await isEqual()
})

const REFILED = [expect.stringMatching(/^partition public.e\w+ was truncated or rewritten by itself$/)]
test.each([
  ['truncated by itself', 'TRUNCATE e1', REFILED],
  ['truncated by itself, at a level between', 'TRUNCATE e2', REFILED],
  ['truncated by itself, after all were', 'TRUNCATE events|INSERT INTO events VALUES (9, 50)|TRUNCATE e1', REFILED],
  // Nothing tells those two apart.
  [
    'truncated by itself, after all were, in one transaction',
    'BEGIN; TRUNCATE events; INSERT INTO events VALUES (9, 50); TRUNCATE e1; COMMIT',
    REFILED,
  ],
  ['filled, after all were truncated, in one transaction', 'BEGIN; TRUNCATE events; INSERT INTO events VALUES (9, 50); COMMIT', REFILED],
  [
    'filled, after all were truncated, in one large transaction',
    'BEGIN; TRUNCATE events; INSERT INTO events SELECT n, 50 FROM generate_series(10, 5000) n; COMMIT',
    REFILED,
  ],
  ['truncated with all others in a savepoint', 'BEGIN; SAVEPOINT s; TRUNCATE events; COMMIT', REFILED],
  ['rewritten', 'VACUUM FULL e1', REFILED],
  ['rewritten by its order', 'CLUSTER e1 USING e1_pkey', REFILED],
  ['indexed anew', 'REINDEX TABLE e1', []],
  ['vacuumed and analyzed', 'VACUUM (FREEZE, ANALYZE) e1', []],
  ['truncated and brought back', 'BEGIN; TRUNCATE e1; TRUNCATE events; ROLLBACK', []],
])('of a partition that is %s is known what there is to know', async (_, statements, expected) => {
  await start()
  await run('INSERT INTO events VALUES (1, 50), (1, 150)', ...statements.split('|'))
  expect(await looks()).toEqual(expected)
  if (expected.length === 0) return isEqual()
  expect(await looks()).toEqual(expected)
  await recopy(following.source)
  await run('INSERT INTO events VALUES (2, 50)')
  expect(await looks()).toEqual([])
})

test('a partition that brought rows, and of which no look has told yet, is remembered for the next process', async () => {
  /** Whether a process that comes after this one, and after the statements, finds the partitions as they were. */
  const isFoundSame = async (statement: string) => {
    const throughLsn = await following.catchUp()
    const marks = { 'public.events': following.source.baselines.mark(EVENTS) }
    await following.close()
    await run(statement)
    const next = await openPgSource(config())
    next.baselines.resume(marks)
    await next.prepare([EVENTS])
    const isRepublished = next.baselines.isRepublished(EVENTS)
    await next.close()
    await start({}, throughLsn)
    return !isRepublished
  }
  await start()
  await run('INSERT INTO events VALUES (1, 50)')
  expect(await isFoundSame('INSERT INTO events VALUES (1, 51)')).toBe(true)
  await run(CREATED, ROWS)
  expect(await isFoundSame('DROP TABLE e3')).toBe(false)
  await run(CREATED)
  await looks()
  expect(await isFoundSame('INSERT INTO events VALUES (1, 52)')).toBe(true)
})
