import { silentLogger, systemRandom, type TableCommit } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { compactionBounds } from './compaction.ts'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { insertedKeys, longKeys, longKeysSchema } from './testing/long-keys.ts'
import { readPlan } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const FILES = 40
const ROWS = 500

const inserts = (first: number, endLsn: bigint) => insertedKeys(first, ROWS, endLsn)

test('compactions take no more at once than the memory limit allows, and come to an end', async () => {
  const storage = new MemoryTableStorage(longKeys, longKeysSchema)
  let nowMs = 0
  // As the storage has it, a row takes 100 bytes: 2,621 rows fit into an eighth of it, and 655 are a quarter of that.
  const limits = { ...defaultEngineLimits, memoryLimitBytes: 2 * 1024 * 1024, flushIntervalMs: 3_600_000 }
  const engine = new Engine({
    clock: { nowMs: () => nowMs, sleep: async (ms) => void (nowMs += ms) },
    random: systemRandom,
    logger: silentLogger,
    ...simulatedIndexes(),
    limits,
  })
  const mirror = await engine.addMirror({ table: longKeys, schema: longKeysSchema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  for (let file = 0; file < FILES; file++) {
    const lsn = BigInt(file + 1) * 10n
    await engine.apply({ kind: 'batch', batch: inserts(file * ROWS, lsn) })
    await engine.apply(watermark(lsn))
    await engine.flush()
  }
  const replaced: { readonly rows: number; readonly files: number }[] = []
  const commit = storage.commit.bind(storage)
  storage.commit = async (wanted: TableCommit) => {
    const removed = storage.snapshot.files.filter((file) => wanted.removeFiles.includes(file.path))
    replaced.push({ files: removed.length, rows: removed.reduce((sum, file) => sum + file.recordCount, 0) })
    return commit(wanted)
  }
  const { maxBytes } = compactionBounds(limits)
  await vi.waitFor(async () => {
    await engine.tick()
    expect(engine.status()[0].dataFiles).toBeLessThan(FILES / 4 + 8)
  }, 10_000)
  for (let idle = 0; idle < 20; idle++) await engine.tick()
  expect(replaced.length).toBeGreaterThan(4)
  expect(replaced.length).toBeLessThan(FILES / 4)
  for (const { files, rows } of replaced) {
    expect(files).toBeGreaterThan(1)
    expect(rows * 100).toBeLessThanOrEqual(maxBytes)
  }
  const lease = await engine.acquire({ tables: ['public.t'], lsn: null, timeoutMs: 1000 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toHaveLength(FILES * ROWS)
  lease.release()
  await engine.close()
})
