import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseLsn } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { moonlink } from './testing/command-line.ts'
import { allow, canDeny, deny } from './testing/denied-directory.ts'
import { GoodAndBad } from './testing/good-and-bad.ts'
import { until } from './testing/until.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-denied-table-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const MAX_BYTES = 256 * 1024
const testDenied = test.skipIf(!canDeny())

let pair: GoodAndBad
let stateDir: string
/** Of the table whose permission is missing. */
let files: readonly string[]

beforeEach(async () => {
  const database = await postgres.createDatabase()
  stateDir = join(directory, database.name)
  files = filesOf('bad')
  pair = await GoodAndBad.create(database, directory)
})
afterEach(async () => {
  await pair.kill()
  allow(files)
})

const logged = () => readFileSync(join(stateDir, 'moonlink.log'), 'utf8')
const filesOf = (table: string) => ['data', 'metadata'].map((name) => join(stateDir, 'warehouse/public', table, name))
const start = (env: Record<string, string> = {}) =>
  pair.start(['--state-dir', stateDir], { MOONLINK_CHANGE_LOG_MAX_BYTES: String(MAX_BYTES), ...env })

/** Changes of both until the log would have had to hold more than it may; the slot follows. */
async function outlastLog(): Promise<void> {
  deny(files)
  const beganLsn = await pair.currentLsn()
  await pair.changeUntilStopped()
  while ((await pair.currentLsn()) < beganLsn + 4n * BigInt(MAX_BYTES)) await pair.change()
  await pair.slotFollows()
  await until('the log to let go', async () => {
    await pair.change(['good'])
    return (await pair.backend.status()).log.bytes < MAX_BYTES / 2
  })
  expect((await pair.backend.status()).log.reason).toBeNull()
}

testDenied(
  'a table that may not be written is paused as the log nears its bound, the others go on, and it goes on by itself once it may be',
  async () => {
    await start()
    await outlastLog()
    expect(await pair.state()).toEqual({
      state: 'paused',
      reason: expect.stringMatching(/^STORE_NOT_WRITABLE .*bad.*made equal/) as string,
    })
    const good = await pair.backend.table('public.good')
    expect(parseLsn(good.committedLsn!)).toBeGreaterThan(parseLsn((await pair.backend.table('public.bad')).committedLsn!))
    expect(logged()).toContain('table paused')
    allow(files)
    await pair.isState('streaming')
    await pair.change()
    await pair.expectEqual()
  },
)

testDenied('one that is killed meanwhile, and started again before and after that is allowed, finds what such a table misses', async () => {
  await start()
  await outlastLog()
  await pair.kill()
  await pair.change()
  await start()
  expect((await pair.state()).reason).toMatch(/STORE_NOT_WRITABLE .*bad/)
  await pair.change()
  await pair.slotFollows()
  allow(files)
  await pair.isState('streaming')
  await pair.expectEqual()
  expect(await pair.backend.stop()).toBe(0)
  await start()
  await pair.expectEqual()
})

testDenied('without a log it is paused once it was refused for as long as is set', async () => {
  await start({ MOONLINK_CHANGE_LOG_ENABLED: 'false', MOONLINK_FLUSH_DENIED_MS: '2s' })
  deny(files)
  await pair.changeUntilStopped()
  await pair.slotFollows()
  allow(files)
  await pair.isState('streaming')
  await pair.expectEqual()
})

testDenied('one that is paused by request stays so', async () => {
  await start({ MOONLINK_FLUSH_DENIED_MS: '1s' })
  deny(files)
  await pair.changeUntilStopped()
  await expect(pair.backend.post('/tables/public.bad/pause', {})).rejects.toMatchObject({ code: 'NOT_RECORDED' })
  allow(files)
  await until('the pause to be recorded', async () => {
    await pair.backend.post('/tables/public.bad/pause', {})
    return true
  })
  await pair.change()
  await pair.kill()
  await start()
  expect(await pair.state()).toEqual({ state: 'paused', reason: expect.stringMatching(/^PAUSED by request/) as string })
})

testDenied('an append-only one that is refused when it is resumed is opened by itself once it may be written', async () => {
  await start({ MOONLINK_SOURCE_APPEND_ONLY: 'public.bad' })
  await pair.backend.post('/tables/public.bad/pause', {})
  await pair.database.client.query(`INSERT INTO bad SELECT 2000 + i, 'b' FROM generate_series(1, 100) i`)
  deny(files)
  await expect(pair.backend.post('/tables/public.bad/resume', {})).rejects.toMatchObject({ code: 'STORE_NOT_WRITABLE' })
  expect(await pair.state()).toEqual({ state: 'failed', reason: expect.stringMatching(/^STORE_NOT_WRITABLE .*tried again/) as string })
  await pair.change(['good'])
  allow(files)
  await pair.isState('paused')
  await pair.backend.post('/tables/public.bad/resume', {})
  await pair.isState('streaming')
  await pair.database.client.query(`INSERT INTO bad SELECT 3000 + i, 'c' FROM generate_series(1, 100) i`)
  await pair.expectEqual()
})

testDenied('where the slot is lost meanwhile, the others are made equal, and it is once it may be written', async () => {
  // It is not paused before, for want of room.
  await start({ MOONLINK_CHANGE_LOG_MAX_BYTES: '1GiB' })
  await pair.change()
  await pair.backend.wait({ iceberg: true })
  deny(files)
  await pair.change()
  await until('bad to be refused', async () => (await pair.state()).reason?.startsWith('STORE_NOT_WRITABLE ') === true)
  const { client } = pair.database
  const { slot } = (await pair.backend.status()).source
  await until('the slot to be gone', async () => {
    await client.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active`, [slot])
    await client.query(`SELECT pg_drop_replication_slot($1)`, [slot])
    return true
  })
  await pair.change()
  await pair.isState('paused')
  await until('good to be equal', async () => {
    await pair.change(['good'])
    await pair.backend.wait({ timeoutMs: 5_000 })
    return (await pair.backend.table('public.good')).state === 'streaming'
  })
  expect((await pair.state()).reason).toMatch(/^STORE_NOT_WRITABLE .*bad/)
  await pair.slotFollows()
  allow(files)
  await pair.isState('streaming')
  await pair.change()
  await pair.expectEqual()
})

testDenied(
  'where no table may be written, that is waited for: the log keeps to its bound, which status warns of, and nothing is paused',
  async () => {
    await start()
    files = [...filesOf('good'), ...filesOf('bad')]
    deny(files)
    const said: string[] = []
    await until('the log to stop', async () => {
      await pair.change()
      const { log } = await pair.backend.status()
      expect(log.bytes).toBeLessThanOrEqual(MAX_BYTES)
      said.push((await moonlink(['status'], { MOONLINK_URL: pair.backend.url }, directory)).stdout)
      return log.reason !== null
    })
    expect(said.some((text) => /beyond that the slot keeps what comes/.test(text))).toBe(true)
    expect(said.at(-1)).toMatch(
      /stopped: it has reached its bound .*\n[^]*public\.bad is streaming: STORE_NOT_WRITABLE .*\n.*public\.good is streaming: STORE_NOT_WRITABLE /,
    )
    await pair.change()
    allow(files)
    await pair.expectEqual()
    await until('the log to begin anew', async () => {
      await pair.change()
      return (await pair.backend.status()).log.reason === null
    })
    await pair.slotFollows()
    expect(logged()).not.toContain('table paused')
  },
)
