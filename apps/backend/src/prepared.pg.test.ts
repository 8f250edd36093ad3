import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { Client, type ClientConfig } from 'pg'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { expectVerified } from './testing/verified.ts'

/** Prepared transactions through the backend, small ones and ones that are streamed, whatever `source.twoPhase` says and said before. */
const postgres = withPostgres({ settings: { max_prepared_transactions: '50', logical_decoding_work_mem: '64kB' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-prepared-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
let backend: BackendProcess
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

const LARGE = 600
const SMALL = 3

/** Prepares a transaction of so many rows from `from` on, a part of it rolled back, and one that is not seen in the end. */
async function prepare(client: Client, gid: string, from: number, rows: number): Promise<void> {
  const insert = (first: number, note: string) =>
    client.query(`INSERT INTO t SELECT g, '${note}', repeat(md5(g::text), 5) FROM generate_series(${first}, ${first + rows - 1}) g`)
  await client.query('BEGIN')
  await insert(from, gid)
  await client.query('SAVEPOINT a')
  await insert(from + rows, 'rolled back')
  await client.query('SAVEPOINT b')
  await client.query(`UPDATE t SET note = 'rolled back' WHERE id >= ${from}`)
  await client.query('RELEASE b; ROLLBACK TO a')
  await client.query(`UPDATE t SET note = note || '!' WHERE id = ${from + 1}; DELETE FROM t WHERE id = ${from + 2}`)
  await client.query(`PREPARE TRANSACTION '${gid}'`)
}

test(
  'what is prepared under one setting of source.twoPhase and ends under another is seen once, when it commits',
  { timeout: 360_000 },
  async (context) => {
    if (postgres.major < 15) return context.skip()
    const { client, connectionString, name } = await postgres.createDatabase()
    await client.query('CREATE TABLE t (id int PRIMARY KEY, note text, more text)')
    const start = async (twoPhase: boolean) => {
      backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, name)], {
        MOONLINK_SOURCE_TWO_PHASE: String(twoPhase),
        MOONLINK_SOURCE_SPOOL_BYTES: '64KiB',
      })
    }
    const sql = 'SELECT id, note, more FROM public.t ORDER BY id'
    let rowsSeen = 0
    const expectEqual = async () => {
      await backend.wait()
      const { rows } = await client.query<unknown[]>({ text: sql, rowMode: 'array' })
      expect(await backend.query(sql)).toEqual(rows)
      expect(rows.length).toBeGreaterThan(rowsSeen)
      rowsSeen = rows.length
    }
    let next = 1
    const another = () => client.query(`INSERT INTO t VALUES (${next++}, 'another', NULL)`)
    const fates = ['while down', 'after', 'rolled back', 'rolled back while down', 'a round later'] as const
    const end = (how: 'COMMIT' | 'ROLLBACK', gid: string) => client.query(`${how} PREPARED '${gid}'`)

    const settings = [false, true, false, false]
    await start(settings[0])
    let lasting: string[] = []
    for (const [round, twoPhase] of settings.slice(1).entries()) {
      const gids = (fate: (typeof fates)[number]) => [SMALL, LARGE].map((rows) => `${fate} ${rows} ${round}`)
      for (const fate of fates) {
        for (const rows of [SMALL, LARGE]) {
          await prepare(client, `${fate} ${rows} ${round}`, (next += 10_000), rows)
          next += 2 * rows
          await another()
        }
      }
      await expectEqual()
      // What is in the log is committed, and the server may be told of it.
      await backend.wait({ iceberg: true })
      await backend.stop(round % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
      for (const gid of gids('while down')) await end('COMMIT', gid)
      for (const gid of gids('rolled back while down')) await end('ROLLBACK', gid)
      await another()
      await start(twoPhase)
      await expectEqual()
      for (const gid of [...gids('after'), ...lasting]) {
        await end('COMMIT', gid)
        await another()
      }
      for (const gid of gids('rolled back')) await end('ROLLBACK', gid)
      await another()
      await expectEqual()
      lasting = gids('a round later')
    }
    for (const gid of lasting) await end('COMMIT', gid)
    await expectEqual()
    await expectVerified(backend.url, directory)
  },
)

test('changes of a prepared transaction that the source does not send any more are found by comparing, with a new slot', async (context) => {
  // As a standby of 17 has the slot after a failover: it sends prepared transactions, and does not know since when.
  if (postgres.major < 18) return context.skip('ALTER_REPLICATION_SLOT (TWO_PHASE) came with 18')
  const { client, connectionString, name } = await postgres.createDatabase()
  await client.query('CREATE TABLE t (id int PRIMARY KEY, note text, more text)')
  const stateDir = join(directory, name)
  const start = (twoPhase: boolean, onSlotLoss: 'stop' | 'resync') =>
    BackendProcess.start(['--source', connectionString, '--state-dir', stateDir], {
      MOONLINK_SOURCE_TWO_PHASE: String(twoPhase),
      MOONLINK_SOURCE_ON_SLOT_LOSS: onSlotLoss,
    })
  backend = await start(false, 'resync')
  await prepare(client, 'early', 1, SMALL)
  await client.query(`INSERT INTO t VALUES (1000, 'another', NULL)`)
  await backend.wait({ iceberg: true })
  expect(await backend.stop()).toBe(0)
  const replication = new Client({ connectionString, replication: 'database' } as ClientConfig)
  await replication.connect()
  await replication.query(`ALTER_REPLICATION_SLOT moonlink_${name} (TWO_PHASE true)`)
  await replication.end()

  backend = await start(true, 'stop')
  await client.query(`COMMIT PREPARED 'early'`)
  await backend.ended()
  expect(backend.said).toMatch(/PG_SLOT_LOST slot "\S+" does not have all changes: prepared transaction "early" committed/)
  // What it read is in the change log.
  backend = await start(true, 'resync')
  await client.query(`INSERT INTO t VALUES (1001, 'another', NULL)`)
  const ids = async () => (await client.query<unknown[]>({ text: 'SELECT id FROM t ORDER BY id', rowMode: 'array' })).rows
  await expect.poll(async () => backend.query('SELECT id FROM public.t ORDER BY id')).toEqual(await ids())
  await expect.poll(async () => (await backend.table('public.t')).state).toBe('streaming')
  await client.query(`INSERT INTO t VALUES (1002, 'later', NULL)`)
  await backend.wait({ iceberg: true })
  expect(await backend.query('SELECT id FROM public.t ORDER BY id')).toEqual(await ids())
  await expectVerified(backend.url, directory)
  expect(readFileSync(join(stateDir, 'moonlink.log'), 'utf8')).toMatch(/PG_PREPARED_LOST.*\n(.*\n)*.*the slot is made anew/)
})
