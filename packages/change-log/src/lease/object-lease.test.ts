import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MoonlinkError, systemClock, type Clock, type LeaseHolder, type ObjectStore } from '@moonlink/core'
import { LocalObjectStore, MemoryObjectStore, pathToFileUri } from '@moonlink/object-store'
import { describeLease } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { ObjectLease } from './object-lease.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-lease-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const timing = { renewIntervalMs: 20, takeoverMs: 200 }
const placeOn = (store: ObjectStore, prefix: string) => ({
  open: (holder: LeaseHolder, clock = systemClock) => new ObjectLease({ store, prefix, holder, clock, ...timing }),
})

let places = 0
describeLease('ObjectLease in memory', async () => placeOn(new MemoryObjectStore(), 'memory://leases/one/'))
describeLease('ObjectLease on a local disk', async () =>
  placeOn(new LocalObjectStore(), `${pathToFileUri(join(directory, String(places++)))}/`),
)

const holderOf = (name: string): LeaseHolder => ({ id: name, home: name, name })
const prefix = 'memory://leases/one/'

test('one that was away between its look and its claim does not win by an old name that is free again', async () => {
  const store = new MemoryObjectStore()
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  const slow: ObjectStore = Object.assign(Object.create(store) as MemoryObjectStore, {
    get: store.get.bind(store),
    put: store.put.bind(store),
    delete: store.delete.bind(store),
    list: store.list.bind(store),
    putIfAbsent: async (uri: string, bytes: Uint8Array) => {
      reached.resolve()
      await goOn.promise
      return store.putIfAbsent(uri, bytes)
    },
  })
  const late = new AbortController()
  const waiting = placeOn(slow, prefix).open(holderOf('slow')).acquire({ waits: true, signal: late.signal })
  waiting.catch(() => {})
  await reached.promise
  for (const name of ['a', 'b', 'c']) {
    const lease = await placeOn(store, prefix).open(holderOf(name)).acquire({ waits: false })
    if (name === 'c') {
      // Older records are removed by whoever holds it.
      while ((await store.head(`${prefix}000000001.json`)) !== null) await systemClock.sleep(1)
      goOn.resolve()
      const outcome = await Promise.race([waiting.then(() => 'won'), systemClock.sleep(150).then(() => 'waits')])
      expect(outcome).toBe('waits')
      await lease.check()
    }
    await lease.release()
  }
  expect((await waiting).epoch).toBe(4)
  await (await waiting).release()
})

test('a claim whose answer is lost is found to be ours', async () => {
  const store = new MemoryObjectStore()
  let isFirst = true
  const claim = store.putIfAbsent.bind(store)
  store.putIfAbsent = async (uri, bytes) => {
    const outcome = await claim(uri, bytes)
    if (!isFirst) return outcome
    isFirst = false
    throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the answer is lost')
  }
  const lease = await placeOn(store, prefix).open(holderOf('one')).acquire({ waits: true })
  expect(lease.epoch).toBe(1)
  await lease.release()
})

test('what a holder wrote before a check that held is found by its successor, in any interleaving', async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.integer({ min: 2, max: 4 }), async (scheduler, count) => {
      const store = new MemoryObjectStore()
      // Every call begins and ends at a moment that the scheduler chooses; who waits for it is as good as paused.
      const scheduled = new Proxy(store, {
        get: (target, name) => {
          const method = Reflect.get(target, name) as (...args: unknown[]) => unknown
          if (name === 'list')
            return async function* (under: string) {
              const found: unknown[] = []
              await scheduler.schedule(Promise.resolve(), 'list')
              for await (const meta of target.list(under)) found.push(meta)
              await scheduler.schedule(Promise.resolve(), 'listed')
              yield* found
            }
          return async (...args: unknown[]) => {
            await scheduler.schedule(Promise.resolve(), String(name))
            const result = await method.apply(target, args)
            await scheduler.schedule(Promise.resolve(), `${String(name)} done`)
            return result
          }
        },
      })
      const clock = { nowMs: () => 0, sleep: () => scheduler.schedule(Promise.resolve(), 'sleep') }
      const lives: { epoch: number; found: string[]; durable: string[] }[] = []
      const live = async (name: string) => {
        // One home: each takes it as soon as it asks, however alive the one before it is.
        const place = new ObjectLease({ store: scheduled, prefix, holder: { id: name, home: 'home', name }, clock })
        const lease = await place.acquire({ waits: true })
        const life = { epoch: lease.epoch, found: [] as string[], durable: [] as string[] }
        lives.push(life)
        for await (const { uri } of scheduled.list('memory://log/') as AsyncIterable<{ uri: string }>) life.found.push(uri)
        try {
          for (let item = 0; item < 3; item++) {
            const uri = `memory://log/${lease.epoch}-${item}`
            await scheduled.put(uri, new Uint8Array(1))
            await lease.check()
            life.durable.push(uri)
          }
        } catch (error) {
          expect(error).toMatchObject({ kind: 'fenced' })
        }
      }
      const names = Array.from({ length: count }, (_, index) => `life ${index}`)
      await scheduler.waitFor(Promise.all(names.map(live)))
      expect(new Set(lives.map(({ epoch }) => epoch)).size).toBe(count)
      for (const { durable, epoch } of lives)
        for (const later of lives.filter((life) => life.epoch > epoch)) expect(later.found).toEqual(expect.arrayContaining(durable))
    }),
    { numRuns: 100 },
  )
})

test('a dead holder is waited for as long as was promised, and not until the look after that', async () => {
  const store = new MemoryObjectStore()
  const options = { store, prefix, renewIntervalMs: 4000, takeoverMs: 5000 }
  const dead = { nowMs: () => 0, sleep: () => new Promise<void>(() => {}) }
  await new ObjectLease({ ...options, holder: holderOf('dead'), clock: dead }).acquire({ waits: false })
  await expect.poll(async () => new TextDecoder().decode(await store.get(`${prefix}000000001.json`))).toContain('"renewals":1')
  let nowMs = 0
  let hasLease = false
  const clock: Clock = {
    nowMs: () => nowMs,
    sleep: async (ms) => {
      if (hasLease) return new Promise(() => {})
      nowMs += ms
    },
  }
  await new ObjectLease({ ...options, holder: holderOf('next'), clock }).acquire({ waits: true })
  hasLease = true
  expect(nowMs).toBe(5000)
})
