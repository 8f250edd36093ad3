import { appendValue, BatchBuilder, ChangeOp, silentLogger, systemClock, systemRandom, type ChangeBatch } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { liveRows } from '@moonlink/union-read'
import { expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { longKeys, longKeysSchema } from './testing/long-keys.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const MEMORY_LIMIT_BYTES = 2 * 1024 * 1024
const ROWS = 320_000
const BATCH = 20_000
/** Coprime with `ROWS`: keys in an order that goes through all files again and again. */
const STRIDE = 190_007

function changes(op: number, first: number, openLsn: bigint): ChangeBatch {
  const keys = new BatchBuilder(longKeysSchema.fields, BATCH)
  for (let index = 0; index < BATCH; index++) appendValue(keys.builders[0], BigInt(((first + index) * STRIDE) % ROWS))
  const [filled, empty] = [keys.view(), new BatchBuilder(longKeysSchema.fields).view()]
  const isDelete = op === ChangeOp.delete
  const marks = { endLsns: [], changeCounts: [], commitTimesMs: [] }
  return {
    table: longKeys,
    ops: new Uint8Array(BATCH).fill(op),
    rows: isDelete ? empty : filled,
    old: isDelete ? filled : empty,
    unchanged: [],
    marks,
    openLsn,
  }
}

class Run {
  readonly storage = new MemoryTableStorage(longKeys, longKeysSchema)
  peak = 0
  readonly engine = new Engine({
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...simulatedIndexes(),
    limits: {
      ...defaultEngineLimits,
      memoryLimitBytes: MEMORY_LIMIT_BYTES,
      earlyFileBytes: MEMORY_LIMIT_BYTES / 8,
      flushIntervalMs: 3_600_000,
      flushDeletes: ROWS * 10,
      compaction: { ...defaultEngineLimits.compaction, enabled: false },
    },
  })

  async start(): Promise<void> {
    const mirror = await this.engine.addMirror({ table: longKeys, schema: longKeysSchema, storage: this.storage, appendOnly: false })
    await mirror.finishCopy(0n)
  }

  /** Changes `[from, to)` of a transaction that stays open. */
  async send(op: number, from: number, to: number, openLsn: bigint): Promise<void> {
    for (let first = from; first < to; first += BATCH) {
      await this.engine.apply({ kind: 'batch', batch: changes(op, first, openLsn) })
      this.peak = Math.max(this.peak, this.engine.memoryBytes)
    }
  }

  async end(endLsn: bigint): Promise<void> {
    const nothing = { ...changes(ChangeOp.insert, 0, endLsn), ops: new Uint8Array(0), rows: new BatchBuilder(longKeysSchema.fields).view() }
    await this.engine.apply({ kind: 'batch', batch: { ...nothing, marks: { endLsns: [endLsn], changeCounts: [0], commitTimesMs: [0] } } })
    await this.engine.apply(watermark(endLsn))
    this.peak = Math.max(this.peak, this.engine.memoryBytes)
  }

  async liveCount(lsn: bigint | null = null): Promise<number> {
    const lease = await this.engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 1000 })
    const plan = lease.tables.get('public.t')!
    const segments = [
      ...plan.files.map(({ recordCount, segment }) => ({ segment, rowCount: recordCount })),
      ...plan.memory.map(({ rowCount, segment }) => ({ segment, rowCount })),
    ]
    let count = 0
    for (const live of liveRows(plan, segments).values()) for (const isLive of live) count += isLive
    lease.release()
    return count
  }

  get atRest(): number {
    const { files, vectors } = this.storage.snapshot
    const rows = files.reduce((sum, file) => sum + file.recordCount, 0)
    return rows - vectors.reduce((sum, vector) => sum + vector.cardinality, 0)
  }
}

test('a delete and an update far larger than the memory limit pass below it, each seen all at once or not at all', async () => {
  const run = new Run()
  const { engine } = run
  await run.start()
  await run.send(ChangeOp.insert, 0, ROWS, 50n)
  await run.end(100n)
  await engine.flush()
  expect(run.atRest).toBe(ROWS)

  // The places alone, 8 bytes each, would not fit.
  const deleted = ROWS - 2 * BATCH
  expect(deleted * 8).toBeGreaterThan(MEMORY_LIMIT_BYTES)
  await run.send(ChangeOp.delete, 0, deleted / 2, 150n)
  expect(await run.liveCount()).toBe(ROWS)
  // The stream is lost: the transaction comes again from its beginning.
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(await run.liveCount()).toBe(ROWS)
  await run.send(ChangeOp.delete, 0, deleted, 150n)
  expect(await run.liveCount()).toBe(ROWS)
  await run.end(200n)
  expect([await run.liveCount(100n), await run.liveCount()]).toEqual([ROWS, 2 * BATCH])
  await engine.flush()
  expect([run.atRest, run.storage.snapshot.committedLsn, await run.liveCount()]).toEqual([2 * BATCH, 200n, 2 * BATCH])

  await run.send(ChangeOp.insert, 0, deleted, 250n)
  await run.end(300n)
  await run.send(ChangeOp.update, 0, ROWS, 350n)
  expect(await run.liveCount()).toBe(ROWS)
  await run.end(400n)
  expect(await run.liveCount()).toBe(ROWS)
  await engine.flush()
  expect([run.atRest, await run.liveCount()]).toEqual([ROWS, ROWS])
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: ROWS })
  expect(run.peak).toBeLessThan(MEMORY_LIMIT_BYTES)
  await engine.close()
})
