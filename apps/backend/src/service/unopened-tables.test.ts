import { MoonlinkError, silentLogger, systemClock, systemRandom, type Lsn } from '@moonlink/core'
import { expect, test } from 'vitest'
import { UnopenedTables } from './unopened-tables.ts'

const denied = new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', 'may not write it: allow it.')
const sourceIsAway = new MoonlinkError('retry', 'PG_UNREACHABLE', 'nobody answers.')

/** Looks for as long as a table is not opened; attempts end by `outcomes`, then well. */
function looking(outcomes: Error[], hasLog = true) {
  const engine = { streamedLsn: 1000n as Lsn }
  const status = { byteSize: 0, maxBytes: 4000, range: null, trouble: null as string | null }
  const attempts: string[] = []
  const notKept: unknown[] = []
  const unopened = new UnopenedTables({
    engine,
    log: hasLog ? { status } : null,
    maxLogBytes: 4000,
    floorLsn: 1000n,
    clock: { ...systemClock, nowMs: () => systemClock.nowMs() * 100 },
    random: systemRandom,
    logger: { ...silentLogger, warn: (message, fields) => message.includes('are not kept') && void notKept.push(fields?.['table']) },
    openAgain: async (name) => {
      attempts.push(name)
      const failure = outcomes.shift()
      if (failure !== undefined) throw failure
    },
  })
  return { attempts, engine, notKept, status, unopened }
}

test('a table is tried again until it can be opened, and says why it can not: not that the source is away', async () => {
  const { attempts, unopened } = looking([sourceIsAway, denied, denied])
  unopened.tryAgain('public.t', denied, false)
  unopened.refuse('public.u', 'TABLE_DROPPED it is gone')
  unopened.start()
  await expect.poll(() => attempts.length).toBeGreaterThan(0)
  expect(unopened.reasons.get('public.t')).toBe('STORE_NOT_WRITABLE may not write it: allow it. It is tried again by itself.')
  await expect.poll(() => unopened.has('public.t')).toBe(false)
  await unopened.stop()
  expect(attempts).toEqual(['public.t', 'public.t', 'public.t', 'public.t'])
  expect([...unopened.reasons]).toEqual([['public.u', 'TABLE_DROPPED it is gone']])
})

test.each([
  ['too much is kept', (log: { byteSize: number }) => void (log.byteSize = 1000), true],
  ['the log has stopped', (log: { trouble: string | null }) => void (log.trouble = 'LOG_DISK_FULL'), true],
  ['the slot keeps too much', (_: unknown, engine: { streamedLsn: Lsn }) => void (engine.streamedLsn = 2000n), false],
])('where %s, nothing is kept any more', async (_, happens, hasLog) => {
  const { engine, notKept, status, unopened } = looking(
    Array.from({ length: 10_000 }, () => denied),
    hasLog,
  )
  unopened.tryAgain('public.t', denied, true)
  unopened.tryAgain('public.u', denied, false)
  expect([unopened.keeping, unopened.keptFromLsn, notKept]).toEqual([['public.t'], 1000n, ['public.u']])
  unopened.start()
  happens(status, engine)
  await expect.poll(() => unopened.keptFromLsn).toBe(null)
  await unopened.stop()
  expect([unopened.keeping, unopened.has('public.t'), notKept]).toEqual([[], true, ['public.u', 'public.t']])
})
