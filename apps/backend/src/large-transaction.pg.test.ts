import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { SmallDisk } from './testing/chaos/small-disk.ts'
import { until } from './testing/until.ts'

/** Rows of the transaction; 20,000,000 takes about ten minutes. */
const ROWS = Number(process.env['MOONLINK_TEST_LARGE_ROWS'] ?? 600_000)
const MEMORY_LIMIT_MIB = 64

const postgres = withPostgres({ settings: { max_wal_size: '8GB', logical_decoding_work_mem: '16MB' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-large-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess
beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(
    `CREATE TABLE large (id bigint PRIMARY KEY, n int, note text); INSERT INTO large SELECT i, 0, 'before' FROM generate_series(1, 1000) i`,
  )
})
afterEach(() => backend?.stop('SIGKILL'))

const start = async (env: Record<string, string> = {}) => {
  const stateDir = join(directory, database.name)
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir], {
    MOONLINK_MEMORY_LIMIT_BYTES: `${MEMORY_LIMIT_MIB}MiB`,
    MOONLINK_SOURCE_SPOOL_BYTES: '16MiB',
    ...env,
  })
}
const peakMiB = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${backend.child.pid}/status`, 'utf8'))?.[1] ?? 0) / 1024
const print = (text: string) =>
  `SELECT count(*)::${text} || ':' || sum(id)::${text} || ':' || sum(n)::${text} || ':' || max(note) FROM large`

/** Runs the transaction; meanwhile the table must show its rows as before, and then all at once as after. */
async function expectAtOnce(sql: string): Promise<void> {
  const [[before]] = await backend.query(print('VARCHAR'))
  let isDone = false
  const seen = new Set<unknown>()
  const watch = (async () => {
    while (!isDone) {
      seen.add((await backend.query(print('VARCHAR')))[0][0])
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  })()
  await database.client.query(sql)
  const { rows } = await database.client.query<{ print: string }>(`SELECT (${print('text')}) AS print`)
  await backend.wait()
  isDone = true
  await watch
  const after = rows[0].print
  expect(await backend.query(print('VARCHAR'))).toEqual([[after]])
  expect([...seen].filter((text) => text !== before && text !== after)).toEqual([])
}

test('transactions far larger than the memory limit pass within it, and are seen all at once', { timeout: 1_800_000 }, async () => {
  await start()
  await expectAtOnce(`INSERT INTO large SELECT i, 1, md5(i::text) || md5((i + 1)::text) FROM generate_series(2001, ${ROWS + 2000}) i`)
  console.log(`peak RSS after inserting ${ROWS} rows: ${peakMiB().toFixed(0)} MiB`)
  await expectAtOnce('UPDATE large SET n = n + 1 WHERE id % 2 = 0')
  console.log(`peak RSS after updating half of them: ${peakMiB().toFixed(0)} MiB`)
  await expectAtOnce('DELETE FROM large WHERE id % 3 <> 0')
  console.log(`peak RSS after deleting two thirds: ${peakMiB().toFixed(0)} MiB`)
  await backend.wait({ iceberg: true })
  expect(await backend.table('public.large')).toMatchObject({ state: 'streaming' })
  // Node, DuckDB and what the sockets hold come on top of the limit.
  expect(peakMiB()).toBeLessThan(MEMORY_LIMIT_MIB + 900)
  await backend.stop()
  await start()
  await expectAtOnce('TRUNCATE large; INSERT INTO large VALUES (1, 1, $$one$$)')
})

test('one that is cut off by a kill leaves nothing behind, and comes again', async () => {
  await start()
  const spool = join(directory, database.name, 'spool')
  const insert = database.client.query(
    `INSERT INTO large SELECT i, 1, md5(i::text) FROM generate_series(2001, ${Math.min(ROWS, 600_000) + 2000}) i`,
  )
  await until('a part of it', async () => readdirSync(spool).length > 0)
  await backend.stop('SIGKILL')
  await insert
  await start()
  const { rows } = await database.client.query<{ print: string }>(`SELECT (${print('text')}) AS print`)
  await backend.wait()
  expect(await backend.query(print('VARCHAR'))).toEqual([[rows[0].print]])
  await backend.wait({ iceberg: true })
  await expect.poll(() => readdirSync(spool)).toEqual([])
})

test('one that the disk has no room for is asked for again until there is room, and says so', async () => {
  await start()
  const spool = join(directory, database.name, 'spool')
  rmSync(spool, { recursive: true })
  // Nothing can be written below a file.
  writeFileSync(spool, '')
  const rows = 250_000
  await database.client.query(
    `INSERT INTO large SELECT i, 1, md5(i::text) || md5((i + 1)::text) FROM generate_series(2001, ${rows + 2000}) i`,
  )
  const reason = async () => (await backend.status()).source.reason
  await expect.poll(reason).toMatch(/^SPOOL_FAILED transactions in progress .*\/spool \((ENOTDIR|EEXIST)\)/)
  expect(await backend.query('SELECT count(*)::INTEGER FROM large')).toEqual([[1000]])
  rmSync(spool)
  await backend.wait()
  expect(await backend.query('SELECT count(*)::INTEGER FROM large')).toEqual([[rows + 1000]])
  expect(await reason()).toBeNull()
})

test(
  'one that fills a small disk is asked for again until there is room, says so, and nothing is lost',
  { timeout: 300_000 },
  async (context) => {
    const { client } = database
    const disk = SmallDisk.mount('spool', join(directory, database.name, 'spool'), 64)
    if (!disk.isMounted) return context.skip()
    const env = { MOONLINK_SOURCE_SPOOL_BYTES: '1MiB' }
    const reason = async () => (await backend.status()).source.reason
    const isFull = /^SPOOL_FULL transactions in progress .*\/spool \(ENOSPC\): free space there/
    try {
      await disk.fill()
      await start(env)
      await client.query('BEGIN')
      await client.query(`INSERT INTO large SELECT i, 1, md5(i::text) FROM generate_series(2001, 252000) i`)
      await client.query(`SAVEPOINT s; DELETE FROM large WHERE id < 1000; ROLLBACK TO s; UPDATE large SET n = 2 WHERE id % 50 = 0; COMMIT`)
      await expect.poll(reason).toMatch(isFull)
      expect(await backend.query('SELECT count(*)::INT FROM large')).toEqual([[1000]])
      await backend.stop('SIGKILL')
      await start(env)
      await expect.poll(reason).toMatch(isFull)
      await disk.free()
      const { rows } = await client.query<{ print: string }>(`SELECT (${print('text')}) AS print`)
      await backend.wait()
      expect(await backend.query(print('VARCHAR'))).toEqual([[rows[0].print]])
      expect(await backend.query('SELECT count(*)::INT FROM large')).toEqual([[251_000]])
      await expect.poll(reason).toBeNull()
    } finally {
      await backend.stop('SIGKILL')
      disk.unmount()
    }
  },
)
