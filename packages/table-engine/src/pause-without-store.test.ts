import { MoonlinkError, silentLogger, systemRandom, type Lsn } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { PAUSED_PROPERTY } from './mirror-spec.ts'
import { SealedFiles } from './sealed-files.ts'
import { keyedSchemas } from './testing/keyed-schemas.ts'
import { mirroredTable } from './testing/mirrored-table.ts'
import { rowText, ScriptedTable } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store is away')
beforeAll(() => loadRoaring())
afterEach(() => {
  vi.restoreAllMocks()
})

test('a pause that could not be recorded says so, and is recorded once that is possible', async () => {
  const { engine, mirror, storage } = await mirroredTable()
  const attempts = vi.spyOn(storage, 'setProperties').mockRejectedValueOnce(away).mockRejectedValueOnce(away)
  await expect(mirror.pauseFor('PAUSED', 'by request')).rejects.toBe(away)
  expect([mirror.currentPhase, mirror.durableLsn()]).toEqual(['paused', 0n])
  await expect(mirror.pauseFor('PAUSED', 'by request')).rejects.toBe(away)
  expect(attempts).toHaveBeenCalledTimes(2)
  await vi.waitFor(async () => {
    await engine.tick()
    expect(storage.snapshot.properties[PAUSED_PROPERTY]).toBe('PAUSED by request')
  })
  expect(mirror.durableLsn()).toBeNull()
  await mirror.pauseFor('PAUSED', 'by request')
  await engine.close()
})

test('what takes the place of another reason is recorded once that is possible, too', async () => {
  const { engine, mirror, storage } = await mirroredTable()
  await mirror.pause('SCHEMA_CHANGED', 'another column')
  vi.spyOn(storage, 'setProperties').mockRejectedValueOnce(away)
  await expect(mirror.pauseFor('PAUSED', 'by request')).rejects.toBe(away)
  // The source may have forgotten what came since it was paused first.
  expect(mirror.durableLsn()).toBeNull()
  await vi.waitFor(async () => {
    await engine.tick()
    expect(storage.snapshot.properties[PAUSED_PROPERTY]).toBe('PAUSED by request')
  })
  await engine.close()
})

test('a request that comes while the table is being paused for something else counts', async () => {
  const { engine, mirror, storage } = await mirroredTable()
  await Promise.all([mirror.pause('SCHEMA_CHANGED', 'another column'), mirror.pauseFor('PAUSED', 'by request')])
  expect([mirror.pauseReason, storage.snapshot.properties[PAUSED_PROPERTY]]).toEqual(['PAUSED by request', 'PAUSED by request'])
  await engine.close()
})

test('rows that a pause could not commit are readable, and are committed once that is possible', async () => {
  const { engine, mirror, read, send, source, storage } = await mirroredTable()
  source.insert([1n, 'a', null])
  await send(100n)
  storage.failNextWrites = 1
  await mirror.pause('PAUSED', 'by request')
  expect(mirror.memory.stoppedBytes).toBeGreaterThan(0)
  expect(await read(100n)).toEqual(source.rows.map(rowText))
  await vi.waitFor(async () => {
    await engine.tick()
    expect(storage.snapshot.committedLsn).toBe(100n)
  })
  expect(mirror.memory.stoppedBytes).toBe(0)
  expect(mirror.status()).toMatchObject({ state: 'paused', reason: 'PAUSED by request' })
  expect(await read(100n)).toEqual(source.rows.map(rowText))
  await engine.close()
})

test('a table that is paused after it could not go back to its last commit says so at once, and is read once it is back', async () => {
  const { engine, mirror, read, send, source } = await mirroredTable()
  source.insert([1n, 'a', null])
  await send(100n)
  await engine.flush()
  const opened = vi.spyOn(SealedFiles.prototype, 'openOrRebuild').mockRejectedValue(away)
  await expect(mirror.beginResync('by request')).rejects.toBe(away)
  await mirror.pause('PAUSED', 'by request')
  await expect(read(100n)).rejects.toMatchObject({
    kind: 'retry',
    code: 'TABLE_PAUSED',
    message: expect.stringContaining(away.message) as string,
  })
  opened.mockRestore()
  await vi.waitFor(async () => {
    await engine.tick()
    expect(mirror.reads.showsNothing).toBe(false)
  })
  expect(await read(100n)).toEqual(source.rows.map(rowText))
  expect(mirror.status()).toMatchObject({ state: 'paused', reason: 'PAUSED by request', rows: 1 })
  await engine.close()
})

test('tables that are paused by turns while the store is away take no more memory together than the limit', async () => {
  const schema = keyedSchemas['a long key']
  const memoryLimitBytes = 4 * 2 ** 20
  const limits = { ...defaultEngineLimits, memoryLimitBytes, flushIntervalMs: 3_600_000 }
  const waits: (() => void)[] = []
  const clock = { nowMs: () => 0, sleep: () => new Promise<void>((resolve) => waits.push(resolve)) }
  const engine = new Engine({ clock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  let peak = 0
  const text = 'x'.repeat(10_000)
  for (let table = 0; table < 20; table++) {
    const source = new ScriptedTable(schema, `t${table}`)
    const storage = new MemoryTableStorage(source.table, schema)
    storage.failNextWrites = Infinity
    const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
    await mirror.finishCopy(0n)
    for (let row = 0; row < 100; row++) source.insert([BigInt(row), text, null])
    const lsn: Lsn = BigInt(table + 1) * 100n
    source.endTransaction(lsn)
    let isApplied = false
    const applied = (async () => {
      for (const event of source.take()) await engine.apply(event)
      isApplied = true
    })()
    // The source waits for memory: whoever runs this pauses the table.
    await vi.waitFor(() => expect(isApplied || waits.length > 0).toBe(true))
    const paused = mirror.pause('PAUSED', 'by request')
    while (!isApplied) {
      for (const go of waits.splice(0)) go()
      await new Promise(setImmediate)
    }
    await applied
    await paused
    await engine.apply(watermark(lsn))
    peak = Math.max(peak, engine.memoryBytes)
  }
  expect(peak).toBeLessThan(memoryLimitBytes)
  expect(engine.status().every(({ state }) => state === 'paused')).toBe(true)
  await engine.close()
})

test('a table that another backend commits to says so, though it was being paused for something else', async () => {
  const { engine, mirror, send, source, storage } = await mirroredTable()
  source.insert([1n, 'a', null])
  await send(100n)
  vi.spyOn(storage, 'commit').mockRejectedValue(new MoonlinkError('fenced', 'OTHER_MIRROR', 'another backend commits to it'))
  await mirror.pause('SCHEMA_CHANGED', 'another column').catch(() => undefined)
  expect([mirror.currentPhase, mirror.pauseReason ?? mirror.status().reason]).toEqual([
    'failed',
    'OTHER_MIRROR another backend commits to it',
  ])
  await mirror.pauseFor('PAUSED', 'by request').catch(() => undefined)
  expect(mirror.status().reason).toBe('OTHER_MIRROR another backend commits to it')
  await engine.close().catch(() => undefined)
})
