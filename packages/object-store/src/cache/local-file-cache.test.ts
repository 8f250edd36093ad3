import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ByteRange, ObjectStore, PinnedFile } from '@moonlink/core'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LocalObjectStore } from '../local/local-object-store.ts'
import { MemoryObjectStore } from '../memory-object-store.ts'
import { pathToFileUri } from '../uri.ts'
import { LocalFileCache } from './local-file-cache.ts'

describe('LocalFileCache', () => {
  let directory: string
  let store: CountingStore
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'moonlink-cache-'))
    store = new CountingStore()
  })
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true })
  })

  const uri = (name: string) => `memory://lake/${name}`
  const contentOf = (name: string, sizeBytes: number) => new Uint8Array(sizeBytes).fill(name.charCodeAt(0))
  const put = (name: string, sizeBytes: number) => store.put(uri(name), contentOf(name, sizeBytes))
  const open = (maxBytes: number, waitMs = 20) => LocalFileCache.open({ store, directory, maxBytes, waitMs })
  async function touch(cache: LocalFileCache, name: string, sizeBytes: number): Promise<void> {
    const pinned = await cache.pin(uri(name), sizeBytes)
    expect(Buffer.compare(await readFile(pinned.path), contentOf(name, sizeBytes))).toBe(0)
    pinned.release()
  }

  test('a file on local disk is its own copy', async () => {
    const path = join(directory, 'a b%20')
    await writeFile(path, 'x')
    const cache = await LocalFileCache.open({ store: new LocalObjectStore(), directory: join(directory, 'cache'), maxBytes: 0 })
    expect((await cache.pin(pathToFileUri(path), 1)).path).toBe(path)
    await expect(cache.pin(pathToFileUri(`${path}-`), 1)).rejects.toMatchObject({ kind: 'invalid', code: 'OBJECT_NOT_FOUND' })
  })

  test('an object of many chunks is copied whole; a second pin fetches nothing', async () => {
    const bytes = new Uint8Array(20 * 1024 * 1024 + 5).map((_, index) => index % 251)
    await store.put(uri('large'), bytes)
    const cache = await open(30 * 1024 * 1024)
    const pinned = await cache.pin(uri('large'), bytes.length)
    expect(Buffer.compare(await readFile(pinned.path), bytes)).toBe(0)
    const gets = store.gets
    expect((await cache.pin(uri('large'), bytes.length)).path).toBe(pinned.path)
    expect(store.gets).toBe(gets)
  })

  test('pins of one object at once fetch it once', async () => {
    await put('a', 10)
    const cache = await open(10)
    const pinned = await Promise.all([1, 2, 3, 4].map(() => cache.pin(uri('a'), 10)))
    expect(new Set(pinned.map((one) => one.path)).size).toBe(1)
    expect(store.gets).toBe(1)
    expect(cache.usedBytes).toBe(10)
  })

  test('the least recently used gives way', async () => {
    for (const name of ['a', 'b', 'c']) await put(name, 10)
    const cache = await open(25)
    await touch(cache, 'a', 10)
    await touch(cache, 'b', 10)
    await touch(cache, 'a', 10)
    await touch(cache, 'c', 10)
    expect(store.gets).toBe(3)
    await touch(cache, 'a', 10)
    expect(store.gets).toBe(3)
    await touch(cache, 'b', 10)
    expect(store.gets).toBe(4)
    expect(await readdir(directory)).toHaveLength(2)
  })

  test('what is pinned stays; a pin that finds no room says so after a while', async () => {
    for (const name of ['a', 'b']) await put(name, 10)
    const cache = await open(15)
    const pinned = await cache.pin(uri('a'), 10)
    await expect(cache.pin(uri('b'), 10)).rejects.toMatchObject({ kind: 'retry', code: 'CACHE_BUSY' })
    expect(await readFile(pinned.path)).toHaveLength(10)
    expect(cache.usedBytes).toBe(10)
  })

  test('a waiting pin gets the room that is released', async () => {
    for (const name of ['a', 'b']) await put(name, 10)
    const cache = await open(15, 5000)
    const pinned = await cache.pin(uri('a'), 10)
    const waiting = cache.pin(uri('b'), 10)
    setTimeout(() => {
      pinned.release()
      pinned.release()
    }, 10)
    expect(await readFile((await waiting).path)).toEqual(Buffer.from(contentOf('b', 10)))
  })

  test('a set is pinned as a whole or not at all: two that each need what the other would hold take turns', async () => {
    const names = ['a', 'b', 'c', 'd']
    for (const name of names) await put(name, 10)
    const cache = await open(30, 60_000)
    const set = (...of: string[]) => of.map((name) => ({ uri: uri(name), sizeBytes: 10 }))
    await Promise.all(
      [set('a', 'b'), set('b', 'c'), set('c', 'd'), set('d', 'a'), set('a', 'b', 'c'), set('b', 'c', 'd', 'b')].map(async (files) => {
        const pinned = await cache.pinAll(files)
        expect(cache.usedBytes).toBeLessThanOrEqual(30)
        for (const [index, { path, release }] of pinned.entries()) {
          expect((await readFile(path, 'latin1'))[0]).toBe(files[index].uri.at(-1))
          release()
        }
      }),
    )
  })

  test('a set keeps what it has of the cache while it waits, and waits no longer than it is told', async () => {
    for (const name of ['a', 'b', 'c']) await put(name, 10)
    const cache = await open(20, 60_000)
    const held = await cache.pin(uri('c'), 10)
    const files = ['a', 'b'].map((name) => ({ uri: uri(name), sizeBytes: 10 }))
    await touch(cache, 'a', 10)
    await expect(cache.pinAll(files, { waitMs: 0 })).rejects.toMatchObject({ kind: 'retry', code: 'CACHE_BUSY' })
    const controller = new AbortController()
    const waiting = cache.pinAll(files, { signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    held.release()
    const gets = store.gets
    for (const { release } of await cache.pinAll(files)) release()
    expect(store.gets - gets).toBe(1)
  })

  test('what can never fit is refused at once, with what it needs; files come in runs that fit', async () => {
    const cache = await open(100, 60_000)
    const files = (...sizes: number[]) => sizes.map((sizeBytes, index) => ({ uri: uri(String(index)), sizeBytes }))
    const tooSmall = { kind: 'invalid', code: 'CACHE_TOO_SMALL', message: expect.stringContaining('cache.limitBytes') }
    await expect(cache.pinAll(files(60, 60))).rejects.toMatchObject({ ...tooSmall, context: { sizeBytes: 120, maxBytes: 100 } })
    expect(cache.batches(files(60, 40))).toHaveLength(1)
    expect(cache.batches(files(10, 10, 10, 90, 5, 5)).map((batch) => batch.map((file) => file.sizeBytes))).toEqual([
      [10, 10],
      [10],
      [90],
      [5, 5],
    ])
    expect(() => cache.batches(files(10, 101))).toThrow(expect.objectContaining(tooSmall))
    const own = { uri: pathToFileUri(join(directory, 'own')), sizeBytes: 1000 }
    expect(cache.batches([own, ...files(60, 40)])).toHaveLength(1)
  })

  test('a copy that is dropped is fetched again, under another name', async () => {
    await put('a', 10)
    const cache = await open(25)
    const before = await cache.pin(uri('a'), 10)
    expect(await cache.drop(uri('a'), 10)).toBe(true)
    expect(await cache.drop(uri('a'), 10)).toBe(false)
    expect(cache.usedBytes).toBe(0)
    const after = await cache.pin(uri('a'), 10)
    expect(after.path).not.toBe(before.path)
    before.release()
    await touch(cache, 'a', 10)
    expect(await readdir(directory)).toHaveLength(1)
  })

  test('a disk that runs full leaves no half of a file', async ({ skip }) => {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', directory], { stdio: 'ignore' })
    } catch {
      return skip('mounting is not allowed here')
    }
    try {
      await put('a', 100_000)
      const cache = await open(200_000)
      const full = { kind: 'retry', code: 'CACHE_DISK_FULL', message: expect.stringContaining(directory) }
      await expect(cache.pin(uri('a'), 100_000)).rejects.toMatchObject(full)
      expect(await readdir(directory)).toEqual([])
      // What nobody reads gives way.
      for (const name of ['b', 'c']) await put(name, 40_000)
      await touch(cache, 'b', 40_000)
      const pinned = await cache.pin(uri('c'), 40_000)
      expect(cache.usedBytes).toBe(40_000)
      await expect(cache.pin(uri('b'), 40_000)).rejects.toMatchObject(full)
      pinned.release()
      await touch(cache, 'b', 40_000)
    } finally {
      execFileSync('umount', ['-l', directory])
    }
  })

  test('an object larger than the cache is refused at once', async () => {
    const cache = await open(5)
    await expect(cache.pin(uri('a'), 6)).rejects.toMatchObject({ kind: 'invalid', code: 'CACHE_TOO_SMALL' })
  })

  test('a failed fetch leaves nothing, fails every waiting pin, and can be tried again', async () => {
    const cache = await open(10)
    const failing = await Promise.allSettled([cache.pin(uri('a'), 10), cache.pin(uri('a'), 10)])
    expect(failing).toMatchObject([{ reason: { code: 'OBJECT_NOT_FOUND' } }, { reason: { code: 'OBJECT_NOT_FOUND' } }])
    expect(await readdir(directory)).toEqual([])
    expect(cache.usedBytes).toBe(0)
    await put('a', 10)
    await touch(cache, 'a', 10)
  })

  test('an object shorter than said is corrupt; a missing empty one is missed', async () => {
    await put('a', 7)
    const cache = await open(100)
    await expect(cache.pin(uri('a'), 10)).rejects.toMatchObject({ kind: 'corrupt', code: 'OBJECT_SIZE_WRONG' })
    await expect(cache.pin(uri('none'), 0)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
    await put('empty', 0)
    await touch(cache, 'empty', 0)
  })

  test('a new cache adopts whole files that fit, removes the rest, and leaves what is not its own', async () => {
    for (const name of ['a', 'b']) await put(name, 10)
    const first = await open(20)
    await touch(first, 'a', 10)
    await touch(first, 'b', 10)
    const [name] = await readdir(directory)
    await writeFile(join(directory, `${'0'.repeat(64)}-5-00000000.part`), 'abc')
    await writeFile(join(directory, `${'0'.repeat(64)}-5-00000000`), 'cut')
    await writeFile(join(directory, name.replace(/.{8}$/, 'ffffffff')), new Uint8Array(10))
    await writeFile(join(directory, 'notes.txt'), 'mine')

    const second = await open(20)
    expect(second.usedBytes).toBe(20)
    expect((await readdir(directory)).filter((one) => one !== 'notes.txt')).toHaveLength(2)
    const third = await open(10)
    expect(third.usedBytes).toBe(10)
    expect(await readdir(directory)).toContain('notes.txt')
    const gets = store.gets
    const pinned = await third.pin(uri('b'), 10).catch(() => null)
    expect(pinned).not.toBeNull()
    expect(store.gets - gets).toBeLessThanOrEqual(1)
  })

  describe('on a disk that fails', () => {
    let machine: SimulatedLocalDisk
    const failing = new Set<string>()
    beforeEach(() => {
      failing.clear()
      machine = new SimulatedLocalDisk({ next: () => 0 })
    })
    const openOn = (maxBytes: number) => {
      const disk = machine.session(({ operation, path }) => {
        if (failing.has(operation)) throw Object.assign(new Error(`EIO: ${operation}`), { code: 'EIO', errno: -5, path })
      })
      return LocalFileCache.open({ store, disk, directory: '/cache', maxBytes, waitMs: 20 })
    }
    const names = async () => machine.session().list('/cache')

    test('what can not be removed keeps nobody from other files, and is gone with the next process', async () => {
      for (const name of ['a', 'b']) await put(name, 10)
      const cache = await openOn(15)
      ;(await cache.pin(uri('a'), 10)).release()
      failing.add('remove')
      const { path, release } = await cache.pin(uri('b'), 10)
      expect((await machine.session().readFile(path)).equals(contentOf('b', 10))).toBe(true)
      release()
      expect(await cache.drop(uri('b'), 10)).toBe(true)
      expect(cache.usedBytes).toBe(0)
      expect(await names()).toHaveLength(2)
      failing.clear()
      expect((await openOn(15)).usedBytes).toBe(10)
      expect(await names()).toHaveLength(1)
    })

    test.each(['open', 'write', 'sync', 'rename'])('a copy whose %s fails is none, and says so', async (operation) => {
      await put('a', 10)
      const cache = await openOn(15)
      failing.add(operation).add('remove')
      await expect(cache.pin(uri('a'), 10)).rejects.toMatchObject({ kind: 'retry', code: 'STORE_UNAVAILABLE' })
      failing.clear()
      ;(await cache.pin(uri('a'), 10)).release()
      expect(await (await openOn(15)).pin(uri('a'), 10)).toBeDefined()
      expect(await names()).toHaveLength(1)
    })

    test('a power cut leaves whole copies, or none', async () => {
      await put('a', 10)
      for (let seed = 0; seed < 50; seed++) {
        let draws = 0
        machine = new SimulatedLocalDisk({ next: () => ((seed * 0.37 + draws++ * 0.61) * 1.7) % 1 })
        const cache = await openOn(15)
        void cache.pin(uri('a'), 10).catch(() => undefined)
        for (let turn = seed % 12; turn > 0; turn--) await new Promise((resolve) => setImmediate(resolve))
        machine.cutPower()
        const { path } = await (await openOn(15)).pin(uri('a'), 10)
        expect((await machine.session().readFile(path)).equals(contentOf('a', 10))).toBe(true)
      }
    })
  })

  test('never over its limit, never without a pinned file, whatever the order of calls', async () => {
    const sizes = new Map([
      ['a', 3],
      ['b', 4],
      ['c', 5],
      ['d', 6],
    ])
    for (const [name, size] of sizes) await put(name, size)
    const step = fc.oneof(fc.record({ pin: fc.constantFrom(...sizes.keys()) }), fc.record({ release: fc.nat({ max: 5 }) }))
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const cache = await open(10, 0)
        const pinned: { name: string; file: PinnedFile }[] = []
        await Promise.all(
          steps.map(async (one) => {
            if ('release' in one) return pinned.splice(one.release, 1)[0]?.file.release()
            const file = await cache.pin(uri(one.pin), sizes.get(one.pin)!).catch((error: { code?: string }) => {
              expect(error.code).toBe('CACHE_BUSY')
              return null
            })
            if (file) pinned.push({ name: one.pin, file })
            expect(cache.usedBytes).toBeLessThanOrEqual(10)
          }),
        )
        for (const { name, file } of pinned) {
          expect(await readFile(file.path)).toEqual(Buffer.from(contentOf(name, sizes.get(name)!)))
          file.release()
        }
      }),
      { numRuns: 40 },
    )
  })
})

class CountingStore extends MemoryObjectStore implements ObjectStore {
  gets = 0

  override async get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    this.gets++
    return super.get(uri, range, signal)
  }
}
