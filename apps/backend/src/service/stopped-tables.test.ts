import { MoonlinkError, silentLogger, type Clock } from '@moonlink/core'
import type { Mirror, MirrorStatus } from '@moonlink/table-engine'
import { expect, test } from 'vitest'
import type { Config } from '../config/schema.ts'
import { StoppedTables } from './stopped-tables.ts'

const table = { schema: 'public', name: 't' }
const full = { table, state: 'paused', reason: 'COPY_SPOOL_FULL no room' } as MirrorStatus

function setUp() {
  const mirror = { isAllowedAgain: false }
  const world = { nowMs: 0, statuses: [full] as MirrorStatus[], restarts: [] as string[], fails: false }
  const clock: Clock = { nowMs: () => world.nowMs, sleep: () => Promise.resolve() }
  const restarts = new StoppedTables({
    config: { copy: { onFullSpool: 'restart' }, flush: { deniedMs: 0 } } as unknown as Config,
    engine: { mirror: () => mirror as Mirror, pauseRefused: () => undefined, status: () => world.statuses },
    clock,
    logger: silentLogger,
    resync: async (name) => {
      world.restarts.push(`${name} ${world.nowMs / 60_000}`)
      if (world.fails) throw new MoonlinkError('retry', 'PG_UNREACHABLE', 'the source is away')
    },
  })
  const minutes = async (count: number) => {
    for (const end = world.nowMs + count * 60_000; world.nowMs < end;) {
      world.nowMs += 1000
      restarts.look()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  restarts.look()
  return { mirror, minutes, world }
}

test('a copy that was given up for lack of room is begun again after a minute, then after longer pauses, whether or not that worked', async () => {
  const { minutes, world } = setUp()
  world.fails = true
  await minutes(8)
  expect(world.restarts).toEqual(['public.t 1', 'public.t 3', 'public.t 7'])
})

test('once it has streamed, the pauses begin anew; other pauses are left alone', async () => {
  const { minutes, world } = setUp()
  await minutes(3)
  world.statuses = [{ ...full, state: 'streaming', reason: null }]
  await minutes(30)
  world.statuses = [{ ...full, reason: 'PAUSED by request' }]
  await minutes(30)
  expect(world.restarts).toHaveLength(2)
  world.statuses = [full]
  await minutes(2)
  expect(world.restarts).toHaveLength(3)
})

test('so is one that was ended for a drop that failed', async () => {
  const { minutes, world } = setUp()
  world.statuses = [{ ...full, reason: 'COPY_ENDED its copy was ended, for it is dropped.' }]
  await minutes(2)
  expect(world.restarts).toEqual(['public.t 1'])
})

test('a table that was refused something goes on a moment after its mirror says that it is allowed, tried again with growing pauses', async () => {
  const { mirror, minutes, world } = setUp()
  world.statuses = [{ ...full, reason: 'STORE_NOT_WRITABLE may not' }]
  await minutes(5)
  expect(world.restarts).toEqual([])
  mirror.isAllowedAgain = true
  await minutes(1)
  // At 1 s, 2 s, 4 s and so on, as long as it does not stream.
  expect(world.restarts.map((at) => at.split(' ')[0])).toEqual(Array.from({ length: 5 }, () => 'public.t'))
})
