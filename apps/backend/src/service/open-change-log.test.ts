import { ObjectLogDisk, SegmentedLog } from '@moonlink/change-log'
import type { Clock } from '@moonlink/core'
import { MemoryObjectStore } from '@moonlink/object-store'
import { expect, test } from 'vitest'
import { PacedStore } from '../testing/paced-store.ts'

const place = 'memory://lake/log'
const never: Clock = { nowMs: () => 0, sleep: () => new Promise(() => {}) }
const open = (disk: ObjectLogDisk) => SegmentedLog.open({ disk, log: 'test', clock: never, sourceFromLsn: 0n })

/** As many segments as syncs: a second each. */
async function writeLog(inner: MemoryObjectStore, count: number, word = 'transaction') {
  const log = await open(new ObjectLogDisk(inner, place))
  await log.begin(0n, () => new Uint8Array())
  for (let lsn = 1n; lsn < count; lsn++) {
    log.append(Buffer.from(`${word} ${lsn}`), lsn, true)
    await log.sync()
  }
}

async function replayed(log: SegmentedLog): Promise<string[]> {
  const found: string[] = []
  for await (const entry of log.replay(0n)) if (entry.kind === 'frames') found.push(Buffer.from(entry.bytes).toString())
  return found
}

const gets = (store: PacedStore) => store.requests.filter((request) => request.startsWith('get '))
const transactions = (count: number, word = 'transaction') => Array.from({ length: count - 1 }, (_, at) => `${word} ${at + 1}`)

test('the segments of a log in the store are read several at a time, and once', async () => {
  const inner = new MemoryObjectStore()
  await writeLog(inner, 100)
  const store = new PacedStore(inner)
  expect(await replayed(await open(new ObjectLogDisk(store, place)))).toEqual(transactions(100))
  expect(gets(store)).toHaveLength(100)
  expect(store.rounds).toBeLessThan(30)
})

test('what is kept of a log from a first reading is not taken for another that was begun in its place', async () => {
  let nowMs = 1_000
  const inner = new MemoryObjectStore({ clock: { ...never, nowMs: () => nowMs } })
  await writeLog(inner, 30)
  const disk = new ObjectLogDisk(inner, place)
  await open(disk)
  for await (const { uri } of inner.list('memory://lake/')) await inner.delete(uri)
  // Of the same names and sizes: nothing but the time tells them apart.
  nowMs = 2_000
  await writeLog(inner, 20, 'replacement')
  expect(await replayed(await open(disk))).toEqual(transactions(20, 'replacement'))
})
