import { MoonlinkError, type LeaseHolder, type Lsn } from '@moonlink/core'
import { MemoryObjectStore } from '@moonlink/object-store'
import { beforeEach, expect, test } from 'vitest'
import { ObjectLease } from './lease/object-lease.ts'
import { ObjectLogDisk } from './object-log-disk.ts'
import { SegmentedLog } from './segmented-log.ts'

const prefix = 'memory://logs/one/'
let store: MemoryObjectStore
beforeEach(() => {
  store = new MemoryObjectStore()
})

const state = () => new Uint8Array()
const transaction = (lsn: Lsn) => Buffer.from(`transaction ${lsn} ${'.'.repeat(80)}\n`)

/** One home: each takes over as soon as it is there, however alive the one before is. */
async function owner(name: string, sourceFromLsn: Lsn = 0n) {
  const holder: LeaseHolder = { id: name, home: 'home', name }
  const place = new ObjectLease({ store, prefix: `${prefix}lease/`, holder, renewIntervalMs: 1e8 })
  const lease = await place.acquire({ waits: false })
  const log = await SegmentedLog.open({
    disk: new ObjectLogDisk(store, prefix),
    log: 'test',
    sourceFromLsn,
    lease,
    segmentBytes: 250,
    clock: { nowMs: () => 0, sleep: () => new Promise(() => {}) },
  })
  return { lease, log }
}

/** Begins the log behind 100. */
async function firstOwner(lsns: readonly Lsn[]) {
  const first = await owner('first')
  await first.log.begin(100n, state)
  first.log.prune(100n)
  await write(first.log, lsns)
  return first
}

/** Goes on from what the first wrote, up to `at`. */
async function secondOwner(at: Lsn) {
  const second = await owner('second', at)
  second.log.prune(100n)
  await second.log.begin(at, state)
  return second
}

async function write(log: SegmentedLog, lsns: readonly Lsn[]): Promise<void> {
  for (const lsn of lsns) {
    log.append(transaction(lsn), lsn, true)
    await log.sync()
  }
}

async function taken(log: SegmentedLog, after: Lsn): Promise<string[]> {
  const lines: string[] = []
  for await (const entry of log.replay(after)) if (entry.kind === 'frames') lines.push(Buffer.from(entry.bytes).toString().split(' ')[1])
  return lines
}

const segments = async () => {
  const names: string[] = []
  for await (const { uri } of store.list(prefix)) if (uri.endsWith('.segment')) names.push(uri.slice(prefix.length))
  return names.sort()
}

test('nothing that a stale owner writes counts, for itself or for anybody after it; it is told at once', async () => {
  const first = await firstOwner([101n, 102n])
  expect(first.log.durableLsn).toBe(102n)

  const second = await owner('second', 102n)
  second.log.prune(100n)
  expect(second.log.durableLsn).toBe(102n)
  // The first knows of nothing yet, and writes what the source sends it.
  await write(first.log, [110n])
  expect(first.log.durableLsn).toBe(102n)
  expect(first.log.status.trouble).toMatch(/^second has taken over this mirror/)
  expect(() => first.log.append(transaction(111n), 111n, true)).toThrow(expect.objectContaining({ kind: 'fenced', code: 'LEASE_LOST' }))

  await second.log.begin(102n, state)
  await write(second.log, [103n, 104n])
  expect(second.log.durableLsn).toBe(104n)
  const third = await owner('third', 104n)
  expect(third.log.damages).toEqual([])
  expect(await taken(third.log, 100n)).toEqual(['101', '102', '103', '104'])
})

test('what a stale owner left stays out where the segment it follows is removed already, and goes then', async () => {
  const first = await firstOwner([101n, 102n, 103n])
  const second = await secondOwner(103n)
  await write(second.log, [104n, 105n, 106n, 107n, 108n])
  // In a segment that a reader could begin at.
  await write(first.log, [200n])
  const stale = (await segments()).filter((name) => name.startsWith('001'))
  second.log.prune(106n)
  await second.log.close()
  expect((await segments()).filter((name) => name.startsWith('001'))).toEqual(stale.slice(-1))

  const third = await owner('third', 108n)
  expect(third.log.damages).toEqual([])
  expect(third.log.status.range).toMatchObject({ endLsn: 108n })
  expect(await taken(third.log, 106n)).toEqual(['107', '108'])
  await third.log.begin(108n, state)
  await third.log.close()
  expect((await segments()).filter((name) => name.startsWith('001'))).toEqual([])
})

test('what a stale owner left behind a segment that its successor has cut off does not end the log there', async () => {
  const first = await firstOwner([101n, 102n])
  // A segment without a record yet.
  await first.log.begin(102n, state)
  const second = await secondOwner(102n)
  await second.log.sync()
  await write(first.log, [110n])
  await write(second.log, [103n, 104n])
  const third = await owner('third', 104n)
  expect(third.log.damages).toEqual([])
  expect(await taken(third.log, 100n)).toEqual(['101', '102', '103', '104'])
})

test('what a stale owner goes on from, beside what its successor went on from, cuts nothing off', async () => {
  const first = await firstOwner([101n, 102n])
  const second = await owner('second', 102n)
  // Too late for the second, which has looked, and in time for the third.
  await write(first.log, [103n])
  const third = await owner('third', 102n)
  await expect(second.log.begin(102n, state)).rejects.toMatchObject({ kind: 'fenced', code: 'LEASE_LOST' })
  third.log.prune(100n)
  await third.log.begin(103n, state)
  await write(third.log, [104n, 105n])
  expect(third.log.durableLsn).toBe(105n)

  const fourth = await owner('fourth', 105n)
  expect(fourth.log.damages).toEqual([])
  expect(fourth.log.status.range).toMatchObject({ startLsn: 100n, endLsn: 105n })
  expect(await taken(fourth.log, 100n)).toEqual(['101', '102', '103', '104', '105'])
})

test('a segment that was never made whole, and could not be removed, ends nothing', async () => {
  const first = await firstOwner([101n, 102n])
  await first.log.close()
  const unmade = `${prefix}001000000009.segment`
  await store.put(unmade, new Uint8Array())
  const second = await secondOwner(102n)
  await write(second.log, [103n])
  await store.put(unmade, new Uint8Array())

  const third = await owner('third', 103n)
  expect(third.log.damages).toEqual([])
  expect(await taken(third.log, 100n)).toEqual(['101', '102', '103'])

  // Also where the log begins later.
  await second.log.close()
  for (const name of (await segments()).slice(0, 1)) await store.delete(`${prefix}${name}`)
  const fourth = await owner('fourth', 103n)
  expect(fourth.log.damages).toEqual([])
  expect(fourth.log.status.range).toMatchObject({ endLsn: 103n })
})

test('what an owner went back on, and could remove but a part of, ends nothing', async () => {
  const first = await firstOwner([101n, 102n])
  await first.log.close()
  const second = await secondOwner(102n)
  // It does not learn that its next segment was made, and begins anew behind what the first had written.
  const lost = `${prefix}002000000002.segment`
  const failing = <T>(call: (uri: string, ...rest: never[]) => Promise<T>) =>
    async function (uri: string, ...rest: never[]): Promise<T> {
      const made = await call.call(store, uri, ...rest)
      if (uri === lost) throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'no answer came.')
      return made
    }
  store.putIfAbsent = failing(store.putIfAbsent.bind(store)) as never
  const remove = store.delete.bind(store)
  store.delete = async (uri) => {
    if (uri !== lost) await remove(uri)
  }
  await write(second.log, [103n])
  expect(second.log.status.trouble).toContain('no answer came')
  await second.log.begin(102n, state)
  second.log.prune(100n)
  await write(second.log, [103n, 104n])
  expect(second.log.durableLsn).toBe(104n)
  expect(await segments()).toEqual(expect.arrayContaining(['002000000002.segment', '002000000003.segment']))
  expect(await segments()).not.toContain('002000000001.segment')

  const third = await owner('third', 104n)
  expect(third.log.damages).toEqual([])
  expect(third.log.status.range).toMatchObject({ startLsn: 100n, endLsn: 104n })
  expect(await taken(third.log, 100n)).toEqual(['101', '102', '103', '104'])
})

test('a stale owner removes nothing', async () => {
  const first = await firstOwner([101n, 102n, 103n, 104n, 105n, 106n])
  const second = await owner('second', 106n)
  const before = await segments()
  first.log.prune(106n)
  await first.log.close()
  expect(await segments()).toEqual(before)
  expect(await taken(second.log, 100n)).toEqual(['101', '102', '103', '104', '105', '106'])
})
