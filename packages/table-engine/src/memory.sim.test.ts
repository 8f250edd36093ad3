import { appendValue, BatchBuilder, ChangeOp, silentLogger, systemClock, systemRandom, type Lsn, type TableSchema } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits, type EngineLimits } from './limits.ts'
import type { Mirror } from './mirror.ts'
import { insertedNotes, notesSchema as schema } from './testing/notes.ts'
import { readPlan } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const table = { schema: 'public', name: 't' }
const ROWS = 5_000

const inserts = (first: number, endLsn: Lsn | null) => insertedNotes(table, first, ROWS, endLsn)

/** An engine with one table, whose empty copy is done. */
async function streaming(storage: MemoryTableStorage, limits: Partial<EngineLimits>): Promise<{ engine: Engine; mirror: Mirror }> {
  const engine = new Engine({
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...simulatedIndexes(),
    limits: { ...defaultEngineLimits, flushIntervalMs: 3_600_000, ...limits },
  })
  const mirror = await engine.addMirror({ table, schema: storage.snapshot.schema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  return { engine, mirror }
}

test('a table far larger than the memory limit passes below it, and the source waits while the store is away', async () => {
  const memoryLimitBytes = 12 * 1024 * 1024
  const storage = new MemoryTableStorage(table, schema)
  const { engine } = await streaming(storage, { memoryLimitBytes })
  const batches = 150
  let peak = 0
  for (let index = 0; index < batches; index++) {
    if (index % 40 === 20) storage.failNext.push('before', 'before', 'before')
    const lsn = BigInt(index + 1) * 100n
    await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, lsn) })
    await engine.apply(watermark(lsn))
    peak = Math.max(peak, engine.memoryBytes)
  }
  const written = batches * ROWS * 60
  expect(written).toBeGreaterThan(3 * memoryLimitBytes)
  expect(peak).toBeLessThan(memoryLimitBytes)
  storage.failNext.length = 0
  await engine.flush()
  expect(storage.snapshot.files.reduce((sum, file) => sum + file.recordCount, 0)).toBe(batches * ROWS)
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: batches * ROWS })
  await engine.close()
})

test('a transaction far larger than the memory limit passes below it, and is seen all at once or not at all', async () => {
  const memoryLimitBytes = 12 * 1024 * 1024
  const storage = new MemoryTableStorage(table, schema)
  const { engine } = await streaming(storage, { memoryLimitBytes, earlyFileBytes: memoryLimitBytes / 8 })
  const rowsSeen = async () => {
    const lease = await engine.acquire({ tables: ['public.t'], lsn: null, timeoutMs: 1000 })
    const rows = readPlan(lease.tables.get('public.t')!, storage).length
    lease.release()
    return rows
  }
  const mark = { ...inserts(0, 0n), ops: new Uint8Array(0), rows: new BatchBuilder(schema.fields).view() }
  const end = async (endLsn: bigint) => {
    await engine.apply({ kind: 'batch', batch: { ...mark, marks: { endLsns: [endLsn], changeCounts: [0], commitTimesMs: [0] } } })
    await engine.apply(watermark(endLsn))
  }
  await engine.apply({ kind: 'batch', batch: inserts(0, 100n) })
  await engine.apply(watermark(100n))
  const batches = 150
  let peak = 0
  const send = async (from: number, openLsn: bigint) => {
    for (let index = from; index < batches; index++) {
      if (index % 40 === 20) storage.failNextWrites = 2
      await engine.apply({ kind: 'batch', batch: { ...inserts(index * ROWS, null), openLsn } })
      peak = Math.max(peak, engine.memoryBytes)
    }
  }
  await send(1, 150n)
  expect(peak).toBeLessThan(memoryLimitBytes)
  expect(await rowsSeen()).toBe(ROWS)
  const early = storage.unreferenced.length
  expect(early).toBeGreaterThan(5)
  // The stream is lost: the transaction comes again from its beginning, and what was written of it goes away.
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(storage.unreferenced).toEqual([])
  if (engine.restartLsn() < 100n) await engine.apply({ kind: 'batch', batch: inserts(0, 100n) })
  await engine.apply(watermark(100n))
  await send(1, 150n)
  // It changes what it has written itself, in files already.
  const touched = { ...inserts(ROWS, null), ops: new Uint8Array(ROWS).fill(ChangeOp.update), openLsn: 150n }
  await engine.apply({ kind: 'batch', batch: touched })
  expect(peak).toBeLessThan(memoryLimitBytes)
  expect(await rowsSeen()).toBe(ROWS)
  await end(200n)
  expect(await rowsSeen()).toBe(batches * ROWS)
  const before = storage.retained().length
  await engine.flush()
  expect(await rowsSeen()).toBe(batches * ROWS)
  expect(storage.retained().length - before).toBeLessThan(3)
  expect(storage.snapshot.committedLsn).toBe(200n)
  expect(storage.unreferenced).toEqual([])
  expect(storage.snapshot.vectors.reduce((sum, vector) => sum + vector.cardinality, 0)).toBe(ROWS)
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: batches * ROWS })
  await engine.close()
})

test('a flush that a transaction came before does not keep that transaction from being written to files', async () => {
  const memoryLimitBytes = 12 * 1024 * 1024
  const storage = new MemoryTableStorage(table, schema)
  const { engine, mirror } = await streaming(storage, { memoryLimitBytes, earlyFileBytes: memoryLimitBytes / 8 })
  // A commit that takes long: the flush that memory asks for waits behind it.
  let release = () => {}
  const slow = new Promise<void>((resolve) => (release = resolve))
  const commit = storage.commit.bind(storage)
  storage.commit = async (change) => {
    await slow
    return commit(change)
  }
  await engine.apply({ kind: 'batch', batch: inserts(0, 100n) })
  const first = mirror.flush()
  let index = 1
  for (; engine.memoryBytes < memoryLimitBytes * 0.6; index++)
    await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, BigInt(index + 1) * 100n) })
  const openLsn = BigInt(index + 1) * 100n
  let peak = 0
  for (const last = index + 60; index < last; index++) {
    const applied = engine.apply({ kind: 'batch', batch: { ...inserts(index * ROWS, null), openLsn } })
    if (engine.memoryBytes > memoryLimitBytes * 0.7) release()
    await applied
    peak = Math.max(peak, engine.memoryBytes)
  }
  await first
  expect(peak).toBeLessThan(memoryLimitBytes)
  await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, openLsn) })
  await engine.flush()
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: (index + 1) * ROWS })
  await engine.close()
})

test('filters of key indexes give way to the memory limit, and look-ups in all files go on without them', async () => {
  const memoryLimitBytes = 4 * 1024 * 1024
  const keys: TableSchema = { fields: [schema.fields[0]], identifierFieldIds: [1] }
  const storage = new MemoryTableStorage(table, keys)
  const { engine } = await streaming(storage, { memoryLimitBytes, compaction: { ...defaultEngineLimits.compaction, enabled: false } })
  let lsn = 0n
  const apply = async (op: number, first: number, count: number, step: number) => {
    const rows = new BatchBuilder(keys.fields, count)
    for (let row = 0; row < count; row++) appendValue(rows.builders[0], BigInt(first + row * step))
    const old = new BatchBuilder(keys.fields).view()
    const [filled, empty] = [rows.view(), old]
    const isDelete = op === ChangeOp.delete
    const marks = { endLsns: [(lsn += 10n)], changeCounts: [count], commitTimesMs: [0] }
    const batch = { table, ops: new Uint8Array(count).fill(op), rows: isDelete ? empty : filled, old: isDelete ? filled : empty }
    await engine.apply({ kind: 'batch', batch: { ...batch, unchanged: [], marks } })
    await engine.apply(watermark(lsn))
    peak = Math.max(peak, engine.memoryBytes)
  }
  const COUNT = 1_500_000
  const BATCH = 20_000
  let peak = 0
  for (let first = 0; first < COUNT; first += BATCH) await apply(ChangeOp.insert, first, BATCH, 1)
  await engine.flush()
  // Filters of all keys would take 1.5 bytes each.
  expect(engine.status()[0].dataFiles).toBeGreaterThan(5)
  expect(engine.memoryBytes).toBeLessThan(memoryLimitBytes / 2)
  for (let pass = 0; pass < 5; pass++) await apply(ChangeOp.update, pass, COUNT / 500, 500)
  for (let pass = 5; pass < 10; pass++) await apply(ChangeOp.delete, pass, COUNT / 500, 500)
  expect(peak).toBeLessThan(memoryLimitBytes)
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: COUNT - (5 * COUNT) / 500 })
  await engine.close()
})
