import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { withPostgres } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess, RequestError } from './testing/backend-process.ts'
import { isolationLevels, readings, RecordedHistory, type Reading } from './testing/history/recorded-history.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-history-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const TRANSACTIONS = 120
const READS = 8
const COMMITS = 4
/** They give way to one another: these come again. */
const conflicts = ['40001', '40P01']

test('reads of several tables beside transactions of several sessions are strictly serializable, through commits to Iceberg, compactions and a kill', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  const history = new RecordedHistory(['a', 'b', 'c'], 3)
  await history.begin(client)
  const start = () =>
    BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'state')], {
      MOONLINK_FLUSH_INTERVAL_MS: '300ms',
      MOONLINK_COMPACTION_MIN_FILES: '3',
    })
  let backend = await start()
  let isRestarting = false
  let commits = 0
  const isOver = () => history.committed >= TRANSACTIONS && commits >= COMMITS && readings.every((how) => history.count(how) >= READS)

  const write = async (isolation: (typeof isolationLevels)[number]) => {
    const session = new Client(connectionString)
    await session.connect()
    while (!isOver()) {
      await history.append(session, isolation).catch(async (error: { code?: string }) => {
        if (!conflicts.includes(error.code ?? '')) throw error
        await session.query('ROLLBACK')
      })
      await sleep(20)
    }
    await session.end()
  }
  const ask = async (what: (asked: BackendProcess) => Promise<void>) => {
    while (!isOver()) {
      const asked = backend
      await what(asked).catch(async (error: unknown) => {
        const isPast = error instanceof RequestError && error.code === 'LSN_NOT_HELD'
        if (!isPast && asked === backend && !isRestarting) throw error
        await sleep(20)
      })
    }
  }
  const read = (how: Reading) => ask((asked) => history.read(asked, how))
  // However slow the machine is, some reads lie between commits to Iceberg.
  const commit = () =>
    ask(async (asked) => {
      await asked.wait({ iceberg: true })
      await history.read(asked, 'latest')
      commits++
    })
  const killOnce = async () => {
    await expect.poll(() => history.committed).toBeGreaterThan(TRANSACTIONS / 2)
    isRestarting = true
    await backend.stop('SIGKILL')
    backend = await start()
    isRestarting = false
  }
  try {
    const writers = [...isolationLevels, ...isolationLevels].map(write)
    await Promise.all([...writers, ...readings.map(read), commit(), killOnce()])
    await history.read(backend, 'waited')
    expect(await history.check(client)).toEqual([])
  } finally {
    await backend.stop('SIGKILL')
  }
})
