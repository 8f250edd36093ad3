import { MoonlinkError, silentLogger } from '@moonlink/core'
import { expect, test } from 'vitest'
import { SchemaFollower } from './schema-follower.ts'

const changed = { table: { schema: 'public', name: 'orders' }, state: 'paused', reason: 'SCHEMA_CHANGED column "a" was added' } as const

function followerThat(fails: () => Error | null, isThere = () => false, reason: string = changed.reason) {
  let nowMs = 0
  let tries = 0
  const status = () => [{ ...changed, reason }]
  const follower = new SchemaFollower({
    engine: { status } as never,
    clock: { nowMs: () => nowMs, sleep: () => Promise.resolve() },
    logger: silentLogger,
    resync: async () => {
      tries++
      const error = fails()
      if (error !== null) throw error
    },
    isThere: () => Promise.resolve(isThere()),
  })
  const look = async (atMs: number) => {
    nowMs = atMs
    follower.look()
    await new Promise((resolve) => setImmediate(resolve))
    return tries
  }
  return Object.assign(look, { follower })
}

test.each([
  ['the source was away', new MoonlinkError('retry', 'PG_UNREACHABLE', 'away')],
  ['the warehouse was full', new MoonlinkError('invalid', 'STORE_FULL', 'no room')],
])('a table that could not be taken on since %s is tried again after a while', async (_, error) => {
  const look = followerThat(() => error)
  expect([await look(0), await look(100), await look(999), await look(1000), await look(1100), await look(2000)]).toEqual([
    1, 1, 1, 2, 2, 3,
  ])
})

test('a table of which a copy met rows of an altered type is taken on', async () => {
  const reason = 'TYPE_CHANGED type public.pair was altered: it has 3 attributes now, and had 2'
  const look = followerThat(
    () => null,
    () => false,
    reason,
  )
  expect(look.follower.willTakeOn({ ...changed, reason })).toBe(true)
  expect(await look(0)).toBe(1)
})

test("a table that can't be taken on is tried once", async () => {
  const look = followerThat(() => new MoonlinkError('invalid', 'SCHEMA_INCOMPATIBLE', 'no'))
  expect([await look(0), await look(5000)]).toEqual([1, 1])
})

test("a table that can't be mirrored as it was altered is taken on once it can be again", async () => {
  let isThere = false
  const look = followerThat(
    () => null,
    () => isThere,
    'TABLE_UNSUPPORTED public.orders has no column to mirror',
  )
  expect([await look(0), await look(2500)]).toEqual([0, 0])
  isThere = true
  expect(await look(5000)).toBe(1)
})

test('a changed table that was dropped before it could be taken on is taken on once there is another of its name', async () => {
  let isThere = false
  const look = followerThat(
    () => (isThere ? null : new MoonlinkError('invalid', 'TABLE_UNKNOWN', 'gone')),
    () => isThere,
  )
  expect([await look(0), await look(2500)]).toEqual([1, 1])
  isThere = true
  expect([await look(5000), await look(5001)]).toEqual([2, 3])
})

test('whether a paused table will be taken on is told, until it turns out that it can not be', async () => {
  const look = followerThat(() => new MoonlinkError('invalid', 'SCHEMA_INCOMPATIBLE', 'no'))
  expect(look.follower.willTakeOn(changed)).toBe(true)
  expect(look.follower.willTakeOn({ ...changed, reason: 'PAUSED by request' })).toBe(false)
  expect(look.follower.willTakeOn({ ...changed, state: 'streaming' })).toBe(false)
  const looking = look(0)
  expect(look.follower.willTakeOn(changed)).toBe(true)
  await looking
  expect(look.follower.willTakeOn(changed)).toBe(false)
})
