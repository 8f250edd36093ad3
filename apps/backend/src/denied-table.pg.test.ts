import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseLsn } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { allow, canDeny, deny } from './testing/denied-directory.ts'
import { until } from './testing/until.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-denied-table-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const MAX_BYTES = 256 * 1024
const testDenied = test.skipIf(!canDeny())

let database: TestDatabase
let stateDir: string
let backend: BackendProcess
/** Of the table whose permission is missing. */
let files: readonly string[]

beforeEach(async () => {
  database = await postgres.createDatabase()
  stateDir = join(directory, database.name)
  files = ['data', 'metadata'].map((name) => join(stateDir, 'warehouse/public/bad', name))
  await database.client.query(`CREATE TABLE good (id bigint PRIMARY KEY, note text); CREATE TABLE bad (LIKE good INCLUDING ALL)`)
  for (const table of ['good', 'bad']) await database.client.query(`INSERT INTO ${table} SELECT i, 'a' FROM generate_series(1, 500) i`)
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
  allow(files)
})

const start = async (env: Record<string, string> = {}) => {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', stateDir], {
    MOONLINK_FLUSH_INTERVAL_MS: '200ms',
    MOONLINK_CHANGE_LOG_MAX_BYTES: String(MAX_BYTES),
    ...env,
  })
}
let changes = 0
const change = async (tables: readonly string[] = ['good', 'bad']) => {
  const note = String(++changes).repeat(40)
  for (const table of tables) {
    await database.client.query(`INSERT INTO ${table} SELECT $1 * 1000 + i, $2 FROM generate_series(1, 200) i`, [changes, note])
    await database.client.query(`UPDATE ${table} SET note = $1 WHERE id % 7 = $2 % 7`, [note, changes])
    await database.client.query(`DELETE FROM ${table} WHERE id % 11 = $1 % 11`, [changes])
  }
}
const currentLsn = async () =>
  parseLsn((await database.client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')).rows[0].lsn)
const state = async () => {
  const { state, reason } = await backend.table('public.bad')
  return { state, reason }
}
const isState = (wanted: string) => until(`bad to be ${wanted}`, async () => (await state()).state === wanted)
const loggedBytes = async () => (await backend.status()).log.bytes

async function changesUntilPaused(): Promise<void> {
  await until('bad to be paused', async () => {
    await change()
    return (await state()).state === 'paused'
  })
}

/** Past all that was committed by now, while the other table changes. */
async function slotFollows(): Promise<void> {
  const lsn = await currentLsn()
  await until('the slot', async () => {
    await change(['good'])
    return parseLsn((await backend.status()).source.confirmedFlushLsn) >= lsn
  })
}

async function expectEqual(): Promise<void> {
  await backend.wait({ iceberg: true })
  await expectVerified(backend.url, directory)
}

/** Changes of both until the log would have had to hold more than it may; the slot follows. */
async function outlastLog(): Promise<void> {
  deny(files)
  const beganLsn = await currentLsn()
  await changesUntilPaused()
  while ((await currentLsn()) < beganLsn + 4n * BigInt(MAX_BYTES)) await change()
  const lsn = await currentLsn()
  await until('the slot', async () => parseLsn((await backend.status()).source.confirmedFlushLsn) >= lsn)
  await until('the log to let go', async () => {
    await change(['good'])
    return (await loggedBytes()) < MAX_BYTES / 2
  })
  expect((await backend.status()).log.reason).toBeNull()
}

testDenied(
  'a table that may not be written is paused as the log nears its bound, the others go on, and it goes on by itself once it may be',
  async () => {
    await start()
    await outlastLog()
    expect(await state()).toEqual({ state: 'paused', reason: expect.stringMatching(/^STORE_NOT_WRITABLE .*bad.*made equal/) as string })
    const good = await backend.table('public.good')
    expect(parseLsn(good.committedLsn!)).toBeGreaterThan(parseLsn((await backend.table('public.bad')).committedLsn!))
    allow(files)
    await isState('streaming')
    await change()
    await expectEqual()
  },
)

testDenied('one that is killed meanwhile, and started again before and after that is allowed, finds what such a table misses', async () => {
  await start()
  await outlastLog()
  await backend.stop('SIGKILL')
  await change()
  await start()
  expect((await state()).reason).toMatch(/STORE_NOT_WRITABLE .*bad/)
  await change()
  await slotFollows()
  allow(files)
  await isState('streaming')
  await expectEqual()
  expect(await backend.stop()).toBe(0)
  await start()
  await expectEqual()
})

testDenied('without a log it is paused once it was refused for as long as is set', async () => {
  await start({ MOONLINK_CHANGE_LOG_ENABLED: 'false', MOONLINK_FLUSH_DENIED_MS: '2s' })
  deny(files)
  await changesUntilPaused()
  await slotFollows()
  allow(files)
  await isState('streaming')
  await expectEqual()
})

testDenied('one that is paused by request stays so', async () => {
  await start({ MOONLINK_FLUSH_DENIED_MS: '1s' })
  deny(files)
  await changesUntilPaused()
  await expect(backend.post('/tables/public.bad/pause', {})).rejects.toMatchObject({ code: 'NOT_RECORDED' })
  allow(files)
  await until('the pause to be recorded', async () => {
    await backend.post('/tables/public.bad/pause', {})
    return true
  })
  await change()
  await backend.stop('SIGKILL')
  await start()
  expect(await state()).toEqual({ state: 'paused', reason: expect.stringMatching(/^PAUSED by request/) as string })
})

testDenied('an append-only one that is refused when it is resumed is opened by itself once it may be written', async () => {
  await start({ MOONLINK_SOURCE_APPEND_ONLY: 'public.bad' })
  await backend.post('/tables/public.bad/pause', {})
  await database.client.query(`INSERT INTO bad SELECT 2000 + i, 'b' FROM generate_series(1, 100) i`)
  deny(files)
  await expect(backend.post('/tables/public.bad/resume', {})).rejects.toMatchObject({ code: 'STORE_NOT_WRITABLE' })
  expect(await state()).toEqual({ state: 'failed', reason: expect.stringMatching(/^STORE_NOT_WRITABLE .*tried again/) as string })
  await change(['good'])
  allow(files)
  await isState('paused')
  await backend.post('/tables/public.bad/resume', {})
  await isState('streaming')
  await database.client.query(`INSERT INTO bad SELECT 3000 + i, 'c' FROM generate_series(1, 100) i`)
  await expectEqual()
})
