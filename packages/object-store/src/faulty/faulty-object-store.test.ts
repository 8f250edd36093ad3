import { systemClock, type Clock } from '@moonlink/core'
import { describeObjectStore } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { MemoryObjectStore } from '../memory-object-store.ts'
import { seededFaults, type Fate, type FaultPlan } from './fault-plan.ts'
import { FaultyObjectStore } from './faulty-object-store.ts'

const URI = 'memory://a/b'
const bytes = Uint8Array.of(1)
const unavailable = { kind: 'retry', code: 'STORE_UNAVAILABLE' }

describeObjectStore('FaultyObjectStore without faults', async () => ({
  store: new FaultyObjectStore({ inner: new MemoryObjectStore(), plan: seededFaults({ seed: 1, maxLatencyMs: 1 }), clock: systemClock }),
  root: 'memory://objects/',
}))

function faulty(fate: Fate) {
  const inner = new MemoryObjectStore()
  let release = () => {}
  const clock: Clock = { nowMs: () => 0, sleep: () => new Promise<void>((resolve) => (release = resolve)) }
  const plan: FaultPlan = () => ({ fate, latencyMs: 0, lateByMs: 5 })
  return { inner, store: new FaultyObjectStore({ inner, plan, clock }), release: () => release() }
}

test('a failed call has done nothing', async () => {
  const { inner, store } = faulty('fail')
  await expect(store.putIfAbsent(URI, bytes)).rejects.toMatchObject(unavailable)
  await expect(store.list('memory://').next()).rejects.toMatchObject(unavailable)
  expect(await inner.head(URI)).toBeNull()
})

test('a lost answer has done its work', async () => {
  const { inner, store } = faulty('lose answer')
  await expect(store.putIfAbsent(URI, bytes)).rejects.toMatchObject(unavailable)
  expect(await inner.get(URI)).toEqual(bytes)
  await expect(store.get(URI)).rejects.toMatchObject(unavailable)
  await expect(store.delete(URI)).rejects.toMatchObject(unavailable)
  expect(await inner.head(URI)).toBeNull()
})

test('a list whose answer is lost ends within it', async () => {
  const { inner, store } = faulty('lose answer')
  for (const name of ['a', 'b', 'c']) await inner.put(`memory://list/${name}`, bytes)
  const listed = store.list('memory://list/')
  expect(await listed.next()).toMatchObject({ done: false })
  await expect(listed.next()).rejects.toMatchObject(unavailable)
})

test('a late put happens after it failed, with the bytes it was given', async () => {
  const { inner, store, release } = faulty('late')
  const given = bytes.slice()
  await expect(store.put(URI, given)).rejects.toMatchObject(unavailable)
  given.fill(9)
  expect(await inner.head(URI)).toBeNull()
  release()
  await store.settled()
  expect(await inner.get(URI)).toEqual(bytes)
})

test('a seed gives the same fates again, in about the shares asked for', () => {
  const fates = (seed: number) => {
    const plan = seededFaults({ seed, fail: 0.1, loseAnswer: 0.2, late: 0.1, operations: ['put'] })
    return Array.from({ length: 4000 }, (_, index) => plan({ operation: 'put', uri: URI, index }).fate)
  }
  expect(fates(7)).toEqual(fates(7))
  expect(fates(7)).not.toEqual(fates(8))
  const share = (fate: Fate) => fates(7).filter((one) => one === fate).length / 4000
  expect(share('fail')).toBeCloseTo(0.1, 1)
  expect(share('lose answer')).toBeCloseTo(0.2, 1)
  expect(share('late')).toBeCloseTo(0.1, 1)
  const plan = seededFaults({ seed: 7, fail: 1, operations: ['put'] })
  expect(plan({ operation: 'get', uri: URI, index: 0 }).fate).toBe('pass')
})
