import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { verified } from './testing/verified.ts'

/** Partitions that are truncated by themselves, where a trigger on each tells of it. */
const postgres = withPostgres({ settings: { max_prepared_transactions: '10' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-truncated-partitions-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let backend: BackendProcess
let sql: (...statements: readonly string[]) => Promise<void>
let start: (slotCheckMs?: number) => Promise<void>
beforeEach(async () => {
  const { client, connectionString, name } = await postgres.createDatabase()
  sql = async (...statements) => {
    for (const statement of statements) await client.query(statement)
  }
  start = async (slotCheckMs = 3_600_000) => {
    const args = ['--source', connectionString, '--state-dir', join(directory, name)]
    backend = await BackendProcess.start([...args, '--set', `source.slotCheckMs=${slotCheckMs}`, '--set', 'flush.intervalMs=100ms'])
  }
  await sql(`CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100);
    CREATE TABLE e2 PARTITION OF events FOR VALUES FROM (100) TO (200) PARTITION BY LIST (id); CREATE TABLE e2_a PARTITION OF e2 DEFAULT;
    INSERT INTO events SELECT n, n % 200 FROM generate_series(1, 400) n`)
  const { status, stderr } = await moonlink(['ddl', 'install', '--partitions', '--source', connectionString])
  expect(`${status} ${stderr}`).toBe('0 ')
})
afterEach(() => backend?.stop('SIGKILL'))

const count = async (atLsn?: string) => (await backend.query('SELECT count(*)::INT FROM events', atLsn ?? null))[0][0]
/** LSNs between the last change before a truncation and the comparison after it may be refused, and none is shown wrong. */
const shows = (expected: unknown, atLsn: string) =>
  expect
    .poll(() => count(atLsn).catch((error: Error) => (error.message.includes('LSN_NOT_HELD') ? expected : error.message)))
    .toBe(expected)
const isEqual = async () => {
  const { status, stderr, stdout } = await verified(backend.url, directory, 'public.events')
  expect(`${status} ${stdout}${stderr}`).toMatch(/^0 /)
}

test('reads at LSNs on both sides of it are exact, whoever truncates, and no look at the catalog is needed', async () => {
  await start()
  for (const [statements, expected] of [
    ['TRUNCATE e1', 200],
    ['INSERT INTO events SELECT n, 50 FROM generate_series(1001, 1010) n', 210],
    ['BEGIN; DELETE FROM events WHERE at = 50 AND id < 1003; TRUNCATE e2; INSERT INTO events VALUES (1, 1), (1, 101); COMMIT', 10],
    [
      'BEGIN; TRUNCATE events; INSERT INTO events VALUES (1, 1), (2, 2), (1, 101); TRUNCATE e1; INSERT INTO events VALUES (3, 3); COMMIT',
      2,
    ],
    [`BEGIN; INSERT INTO events VALUES (4, 4); TRUNCATE e2_a; PREPARE TRANSACTION 'p'|COMMIT PREPARED 'p'`, 2],
  ] as const) {
    const before = await backend.wait({})
    const countBefore = await count()
    await sql(...statements.split('|'))
    const after = await backend.wait({})
    expect(await count(), statements).toBe(expected)
    await shows(countBefore, before)
    await sql('INSERT INTO events VALUES (9999, 99)')
    await backend.wait({})
    expect(await count()).toBe(expected + 1)
    await shows(expected, after)
    await sql('DELETE FROM events WHERE id = 9999')
  }
  await isEqual()
})

test('a partition that is truncated while no backend runs, or right before it is killed, is told of all the same', async () => {
  await start()
  await sql('TRUNCATE e1')
  await backend.stop('SIGKILL')
  await sql('INSERT INTO events VALUES (1, 1)', 'TRUNCATE e2', 'VACUUM FULL e1', 'INSERT INTO events VALUES (1, 101), (2, 102)')
  await start()
  await expect.poll(() => count().catch((error: Error) => error.message)).toBe(3)
  await isEqual()
})

test('a rewrite of a partition costs no comparison, while it runs and after', async () => {
  await start(100)
  const lsn = await backend.wait({ iceberg: true })
  await sql(
    'VACUUM FULL e1',
    'CLUSTER e2_a USING e2_a_pkey',
    'BEGIN; TRUNCATE events; INSERT INTO events VALUES (1, 1); COMMIT',
    'VACUUM FULL e2_a',
  )
  await backend.wait({ iceberg: true })
  await backend.stop()
  await sql('VACUUM FULL e1')
  await start(100)
  await backend.wait({ iceberg: true })
  expect(await count()).toBe(1)
  expect(await count(lsn)).toBe(400)
  expect(backend.said).not.toMatch(/equal to its source again|by itself/)
})
