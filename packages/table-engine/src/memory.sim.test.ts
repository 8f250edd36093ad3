import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { appendValue, BatchBuilder, silentLogger, systemClock, systemRandom, type ChangeBatch, type TableSchema } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-memory-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const table = { schema: 'public', name: 't' }
const schema: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'note', type: { kind: 'string' }, required: false },
  ],
  identifierFieldIds: [1],
}
const ROWS = 5_000

function inserts(first: number, endLsn: bigint): ChangeBatch {
  const rows = new BatchBuilder(schema.fields, ROWS)
  for (let row = 0; row < ROWS; row++) {
    appendValue(rows.builders[0], BigInt(first + row))
    appendValue(rows.builders[1], `a note of some length about row ${first + row}`)
  }
  const old = new BatchBuilder([schema.fields[0]]).view()
  const marks = { endLsns: [endLsn], changeCounts: [ROWS], commitTimesMs: [0] }
  return { table, ops: new Uint8Array(ROWS), rows: rows.view(), old, unchanged: [], marks }
}

test('a table far larger than the memory limit passes below it, and the source waits while the store is away', async () => {
  const memoryLimitBytes = 12 * 1024 * 1024
  const storage = new MemoryTableStorage(table, schema)
  const engine = new Engine({
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    indexDirectory: directory,
    limits: { ...defaultEngineLimits, memoryLimitBytes, flushIntervalMs: 3_600_000 },
  })
  const mirror = await engine.addMirror({ table, schema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  const batches = 150
  let peak = 0
  for (let index = 0; index < batches; index++) {
    if (index % 40 === 20) storage.failNext.push('before', 'before', 'before')
    const lsn = BigInt(index + 1) * 100n
    await engine.apply({ kind: 'batch', batch: inserts(index * ROWS, lsn) })
    await engine.apply({ kind: 'watermark', lsn, sourceLsn: lsn, commitTimeMs: null })
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
