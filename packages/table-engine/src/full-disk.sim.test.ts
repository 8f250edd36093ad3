import {
  appendValue,
  BatchBuilder,
  ChangeOp,
  silentLogger,
  systemClock,
  systemRandom,
  type ChangeBatch,
  type TableSchema,
} from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { readPlan } from './testing/scripted-table.ts'
import { simulatedDisk, simulatedIndexes } from './testing/simulated.ts'

const table = { schema: 'public', name: 't' }
const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] }
const ROWS = 5_000
const BATCHES = 60
const MEMORY_LIMIT_BYTES = 2 * 1024 * 1024

function inserts(first: number, endLsn: bigint): ChangeBatch {
  const rows = new BatchBuilder(schema.fields, ROWS)
  for (let row = 0; row < ROWS; row++) appendValue(rows.builders[0], BigInt(first + row))
  const old = new BatchBuilder(schema.fields).view()
  const marks = { endLsns: [endLsn], changeCounts: [ROWS], commitTimesMs: [0] }
  return { table, ops: new Uint8Array(ROWS).fill(ChangeOp.insert), rows: rows.view(), old, unchanged: [], marks }
}

test('while the disk is full under what waits for a copy, the source waits within the memory limit and says why; then all of it is applied', async () => {
  const disk = simulatedDisk()
  const storage = new MemoryTableStorage(table, schema)
  const limits = { ...defaultEngineLimits, memoryLimitBytes: MEMORY_LIMIT_BYTES, flushIntervalMs: 3_600_000 }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(disk), limits })
  const mirror = await engine.addMirror({ table, schema, storage, appendOnly: false })
  let applied = 0
  let peak = 0
  const source = (async () => {
    for (let index = 0; index < BATCHES; index++) {
      const lsn = BigInt(index + 1) * 10n
      await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, lsn) })
      await engine.apply({ kind: 'watermark', lsn, sourceLsn: lsn, commitTimeMs: null })
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
