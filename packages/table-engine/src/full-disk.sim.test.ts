import { silentLogger, systemClock, systemRandom, type Clock } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { PAUSED_PROPERTY } from './mirror-spec.ts'
import { insertedKeys, longKeys, longKeysSchema } from './testing/long-keys.ts'
import { readPlan } from './testing/scripted-table.ts'
import { simulatedDisk, simulatedIndexes } from './testing/simulated.ts'
import { rowIdsByKey, shape, streaming } from './testing/streaming-table.ts'
import { watermark } from './testing/watermark.ts'

const ROWS = 5_000
const BATCHES = 60
const MEMORY_LIMIT_BYTES = 2 * 1024 * 1024

const inserts = (first: number, endLsn: bigint) => insertedKeys(first, ROWS, endLsn)

test('while the disk is full under what waits for a copy, the source waits within the memory limit and says why; then all of it is applied', async () => {
  const disk = simulatedDisk()
  const storage = new MemoryTableStorage(longKeys, longKeysSchema)
  const limits = { ...defaultEngineLimits, memoryLimitBytes: MEMORY_LIMIT_BYTES, flushIntervalMs: 3_600_000, pausesOnFullSpool: false }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(disk), limits })
  const mirror = await engine.addMirror({ table: longKeys, schema: longKeysSchema, storage, appendOnly: false })
  let applied = 0
  let peak = 0
  const source = (async () => {
    for (let index = 0; index < BATCHES; index++) {
      const lsn = BigInt(index + 1) * 10n
      await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, lsn) })
      await engine.apply(watermark(lsn))
      peak = Math.max(peak, engine.memoryBytes)
      applied++
      if (index === 10) disk.capacity = disk.usedBytes
    }
  })()
  const { reason } = await vi.waitFor(() => {
    const [status] = engine.status()
    expect(engine.memoryBytes).toBeGreaterThan(MEMORY_LIMIT_BYTES * 0.7)
    expect(status.reason).not.toBeNull()
    return status
  }, 20_000)
  expect(reason).toMatch(/^COPY_SPOOL_FAILED .*\/waiting-changes \(ENOSPC\): free space there/)
  // It waits for as long as there is no room.
  for (let look = 0; look < 5; look++) await engine.tick()
  expect(applied).toBeLessThan(BATCHES)
  expect(BATCHES * ROWS * 8).toBeGreaterThan(MEMORY_LIMIT_BYTES)
  disk.capacity = Number.POSITIVE_INFINITY
  await source
  expect(peak).toBeLessThan(MEMORY_LIMIT_BYTES)
  expect(engine.status()[0].reason).toBeNull()
  await mirror.finishCopy(0n)
  await mirror.caughtUp()
  const lease = await engine.acquire({ tables: ['public.t'], lsn: null, timeoutMs: 10_000 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toHaveLength(BATCHES * ROWS)
  lease.release()
  await engine.close()
})

test('what waits for a copy on a disk that can not be read for a moment is read again', async () => {
  const disk = simulatedDisk()
  let failures = 0
  const session = disk.session(({ operation, path }) => {
    if (operation === 'read' && path.endsWith('/waiting-changes') && failures-- > 0) throw Object.assign(new Error('EIO'), { code: 'EIO' })
  })
  const storage = new MemoryTableStorage(longKeys, longKeysSchema)
  const limits = { ...defaultEngineLimits, memoryLimitBytes: MEMORY_LIMIT_BYTES, flushIntervalMs: 3_600_000 }
  const ports = { clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(disk), disk: session }
  const engine = new Engine({ ...ports, limits })
  const mirror = await engine.addMirror({ table: longKeys, schema: longKeysSchema, storage, appendOnly: false })
  for (let index = 0; index < 3; index++) await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, BigInt(index + 1) * 10n) })
  await engine.apply(watermark(30n))
  failures = 2
  await mirror.finishCopy(0n)
  await mirror.caughtUp()
  expect(failures).toBeLessThan(1)
  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: 3 * ROWS })
  await engine.close()
})

test('a disk too full for key indexes keeps a table from its commit, says why, and costs no more', async () => {
  const { content, disk, engine, mirror, scripted, storage, transact } = await streaming()
  scripted.insert([2n, 20])
  scripted.update(0, [1n, 11])
  await transact(20n)
  disk.capacity = disk.usedBytes
  await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FULL' })
  await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FULL' })
  expect(engine.status()[0]).toMatchObject({
    state: 'streaming',
    reason: expect.stringMatching(/^STATE_FULL .*ENOSPC.*free space/) as string,
  })
  disk.capacity = Number.POSITIVE_INFINITY
  await engine.flush()
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', reason: null })
  expect(mirror.committedLsn).toBe(20n)
  expect(await content(20n)).toEqual(scripted.contentAt(20n))
  // Files of the attempts before are gone.
  expect(storage.unreferenced).toEqual([])
  await engine.close()
})

test('nothing is begun in the warehouse while the disk is too full to list it', async () => {
  const { content, disk, engine, mirror, scripted, storage, transact } = await streaming()
  scripted.insert([2n, 20])
  await transact(20n)
  disk.capacity = disk.usedBytes
  await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FULL' })
  expect(storage.unreferenced).toEqual([])
  expect(await content(20n)).toEqual(scripted.contentAt(20n))
  disk.capacity = Number.POSITIVE_INFINITY
  await engine.flush()
  expect(mirror.committedLsn).toBe(20n)
  await engine.close()
})

test('changes wait for a disk that is too full for indexes by a new key', async () => {
  const { calls, content, disk, engine, scripted, transact } = await streaming()
  disk.capacity = disk.usedBytes
  const before = calls.createIndex
  scripted.reshape({ ...shape, identifierFieldIds: [2] }, (row) => row)
  scripted.update(0, [5n, 10])
  const applied = transact(20n)
  await vi.waitFor(() => expect(calls.createIndex).toBeGreaterThan(before + 2), 20_000)
  disk.capacity = Number.POSITIVE_INFINITY
  await applied
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', reason: null })
  expect(await content(20n)).toEqual(scripted.contentAt(20n))
  await engine.close()
})

test('a table that waits for its disk when the engine ends is not remembered, or logged, as failed', async () => {
  const errors: string[] = []
  const logger = { ...silentLogger, error: (message: string) => void errors.push(message) }
  const { calls, disk, engine, scripted, storage, transact } = await streaming({}, { logger })
  disk.capacity = disk.usedBytes
  const before = calls.createIndex
  scripted.reshape({ ...shape, identifierFieldIds: [2] }, (row) => row)
  const taken = transact(20n)
  await vi.waitFor(() => expect(calls.createIndex).toBeGreaterThan(before), 20_000)
  engine.hurry()
  await taken
  expect(engine.status()[0]).toMatchObject({ state: 'failed', reason: expect.stringMatching(/^STATE_FULL/) as string })
  await engine.tick()
  await engine.close()
  expect(storage.snapshot.properties[PAUSED_PROPERTY]).toBeUndefined()
  expect(errors).toEqual([])
})

test('changes wait for a disk whose key indexes can not be read', async () => {
  const { calls, content, engine, scripted, transact } = await streaming()
  calls.failReads = 2
  scripted.update(0, [1n, 11])
  await transact(20n)
  expect(calls.failReads).toBeLessThan(1)
  expect(engine.status()[0]).toMatchObject({ state: 'streaming' })
  expect(await content(20n)).toEqual(scripted.contentAt(20n))
  await engine.close()
})

test('changes wait for a disk whose row ids can not be read, and the rows keep theirs', async () => {
  const { calls, content, engine, scripted, storage, transact } = await streaming({ enabled: false })
  // A file that stores ids, and whose keys are in the cache.
  scripted.update(0, [1n, 11])
  scripted.insert([2n, 20])
  scripted.insert([3n, 30])
  await transact(20n)
  await engine.flush()
  const before = await rowIdsByKey(storage)
  scripted.delete(2)
  await transact(30n)
  calls.failReads = 2
  scripted.update(1, [2n, 21])
  scripted.update(0, [1n, 12])
  await transact(40n)
  expect(calls.failReads).toBeLessThan(1)
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: 2 })
  await engine.flush()
  expect(await content(40n)).toEqual(scripted.contentAt(40n))
  expect(new Set(before.keys())).toEqual(new Set([1n, 2n, 3n]))
  expect(await rowIdsByKey(storage)).toEqual(new Map([...before].filter(([key]) => key !== 3n)))
  await engine.close()
})

test('what fails behind a commit is done again without it, and a mirror that goes back to its last commit finds it there', async () => {
  const { calls, content, engine, mirror, scripted, storage, transact } = await streaming()
  const commits = vi.spyOn(storage, 'commit')
  scripted.insert([2n, 20])
  await transact(20n)
  calls.failOpens = 1
  await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FAILED' })
  await engine.flush()
  expect(commits).toHaveBeenCalledTimes(1)
  expect(await content(20n)).toEqual(scripted.contentAt(20n))
  scripted.insert([3n, 30])
  await transact(30n)
  calls.failOpens = 1
  await expect(engine.flush()).rejects.toMatchObject({ code: 'STATE_FAILED' })
  await mirror.reload(30n)
  expect(commits).toHaveBeenCalledTimes(2)
  expect(mirror.committedLsn).toBe(30n)
  await engine.tick()
  expect(await content(30n)).toEqual(scripted.contentAt(30n))
  await engine.close()
})

test('a commit whose row ids can not be read is taken over once, when they can be', async () => {
  const { calls, content, engine, mirror, scripted, storage, transact } = await streaming({ enabled: false })
  // Of two rows one keeps the id that it has in a file, so that the next file stores ids.
  scripted.update(0, [1n, 11])
  scripted.insert([2n, 20])
  await transact(20n)
  const commit = storage.commit.bind(storage)
  const commits = vi.spyOn(storage, 'commit').mockImplementationOnce(async (planned) => {
    scripted.update(1, [2n, 21])
    await transact(30n)
    calls.failReads = 1
    return commit(planned)
  })
  await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry', code: 'INDEX_UNREADABLE' })
  expect(await content(20n)).toEqual(scripted.contentAt(20n))
  expect(await content(30n)).toEqual(scripted.contentAt(30n))
  await engine.flush()
  expect(commits).toHaveBeenCalledTimes(2)
  expect(mirror.status()).toMatchObject({ rows: 2, committedLsn: 30n })
  expect(await content(30n)).toEqual(scripted.contentAt(30n))
  await engine.close()
})

test('a compaction that finds no room for its list of files, or its index, is tried again after a while, not at once', async () => {
  let nowMs = 0
  const clock = { nowMs: () => nowMs, sleep: systemClock.sleep }
  const { content, disk, engine, mirror, scripted, storage, transact } = await streaming({ minFiles: 3 }, { clock })
  for (let lsn = 20n; lsn <= 40n; lsn += 10n) {
    scripted.insert([lsn, 1])
    await transact(lsn)
    await engine.flush()
  }
  disk.capacity = disk.usedBytes
  const writes = vi.spyOn(storage, 'createFile')
  mirror.tick()
  await vi.waitFor(() => expect(writes).toHaveBeenCalled())
  await engine.flush()
  for (let look = 0; look < 10; look++) {
    mirror.tick()
    await engine.flush()
  }
  expect(writes).toHaveBeenCalledTimes(1)
  disk.capacity = Number.POSITIVE_INFINITY
  nowMs += 1000
  await vi.waitFor(() => {
    mirror.tick()
    expect(storage.snapshot.files).toHaveLength(1)
  }, 10_000)
  expect(await content(40n)).toEqual(scripted.contentAt(40n))
  await engine.close()
})

test('a table that fails beside a commit keeps the reason, and records it', async () => {
  const { engine, scripted, storage, transact } = await streaming()
  const commit = storage.commit.bind(storage)
  const held = Promise.withResolvers<void>()
  vi.spyOn(storage, 'commit').mockImplementationOnce(async (planned) => {
    await held.promise
    return commit(planned)
  })
  scripted.insert([2n, 20])
  await transact(20n)
  const flushed = engine.flush()
  // Of a row that the mirror never had.
  scripted.rows.push([9n, 90])
  scripted.delete(2)
  await transact(30n)
  held.resolve()
  await flushed
  const reason = expect.stringMatching(/^DIVERGED /) as string
  expect(engine.status()[0]).toMatchObject({ state: 'failed', reason })
  await vi.waitFor(async () => {
    await engine.tick()
    expect(storage.snapshot.properties[PAUSED_PROPERTY]).toEqual(reason)
  })
  await engine.close()
})

test('a table that fails while a flush waits for its turn commits nothing of what it did not apply', async () => {
  const { engine, scripted, storage, transact } = await streaming()
  const commit = storage.commit.bind(storage)
  const held = Promise.withResolvers<void>()
  const commits = vi.spyOn(storage, 'commit').mockImplementationOnce(async (planned) => {
    await held.promise
    return commit(planned)
  })
  scripted.insert([2n, 20])
  await transact(20n)
  const flushes = [engine.flush(), engine.flush()]
  await vi.waitFor(() => expect(commits).toHaveBeenCalledTimes(1))
  scripted.insert([3n, 30])
  await transact(25n)
  // Of a row that the mirror never had.
  scripted.rows.push([9n, 90])
  scripted.delete(3)
  await transact(30n)
  expect(engine.status()[0]).toMatchObject({ state: 'failed' })
  held.resolve()
  await Promise.all(flushes)
  expect(storage.snapshot.committedLsn).toBe(20n)
  await engine.close()
})

test('a table whose waiting changes find no room is paused before the others wait for it any longer; its copy can not end any more', async () => {
  const disk = simulatedDisk()
  const storage = new MemoryTableStorage(longKeys, longKeysSchema)
  const other = new MemoryTableStorage({ schema: 'public', name: 'other' }, longKeysSchema)
  const limits = { ...defaultEngineLimits, memoryLimitBytes: MEMORY_LIMIT_BYTES, flushIntervalMs: 3_600_000 }
  // Time passes where somebody waits.
  let nowMs = 0
  const clock: Clock = {
    nowMs: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms
      await new Promise((resolve) => setImmediate(resolve))
    },
  }
  const engine = new Engine({ clock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(disk), limits })
  const copying = await engine.addMirror({ table: longKeys, schema: longKeysSchema, storage, appendOnly: false })
  const streams = await engine.addMirror({ table: other.table, schema: longKeysSchema, storage: other, appendOnly: false })
  await streams.finishCopy(0n)
  disk.capacity = disk.usedBytes
  for (let index = 0; index < BATCHES; index++) {
    const lsn = BigInt(index + 1) * 10n
    await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, lsn) })
    await engine.apply(watermark(lsn))
  }
  await engine.apply({ kind: 'batch', batch: { ...inserts(0, 1000n), table: other.table } })
  await engine.apply(watermark(1000n))
  const [paused, streaming] = engine.status()
  expect(paused).toMatchObject({
    state: 'paused',
    reason: expect.stringMatching(/^COPY_SPOOL_FULL .*moonlink tables resume public\.t/) as string,
  })
  expect(streaming).toMatchObject({ state: 'streaming', rows: ROWS })
  expect(engine.memoryBytes).toBeLessThan(MEMORY_LIMIT_BYTES * 0.7)
  await expect(copying.finishCopy(500n)).rejects.toMatchObject({ kind: 'retry', code: 'COPY_STOPPED' })
  expect(storage.snapshot.committedLsn).toBeNull()
  await engine.close()
})
