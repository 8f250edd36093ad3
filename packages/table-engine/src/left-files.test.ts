import { MoonlinkError } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { SealedFiles } from './sealed-files.ts'
import { mirroredTable } from './testing/mirrored-table.ts'

beforeAll(() => loadRoaring())
afterEach(() => vi.restoreAllMocks())

test('an early file whose rows all died is removed where the flush that leaves it out has happened without our knowing', async () => {
  const { changes, engine, mirror, send, source, storage } = await mirroredTable()
  await send(50n)
  for (let id = 2n; id < 20n; id++) source.insert([id, 'large', 'x'.repeat(50)])
  await changes()
  expect(await mirror.memory.writeEarly()).toBe('done')
  source.truncate()
  source.insert([1n, 'a', 'x'])
  await send(100n)
  storage.failNext.push('after')
  await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry' })
  source.insert([2n, 'b', 'x'])
  await changes()
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(mirror.committedLsn).toBe(100n)
  source.insert([3n, 'c', 'x'])
  await send(120n)
  await engine.flush()
  expect(storage.unreferenced).toEqual([])
  await engine.close()
})

test('an early file whose index can not be opened is removed', async () => {
  const { changes, engine, mirror, send, source, storage } = await mirroredTable()
  await send(50n)
  for (let id = 2n; id < 20n; id++) source.insert([id, 'large', 'x'.repeat(50)])
  await changes()
  const failed = new MoonlinkError('retry', 'STATE_FAILED', 'the disk is away')
  vi.spyOn(SealedFiles.prototype, 'opened').mockRejectedValueOnce(failed)
  await expect(mirror.memory.writeEarly()).rejects.toBe(failed)
  await send(100n)
  await engine.flush()
  expect(storage.unreferenced).toEqual([])
  await engine.close()
})

test('a table can be read while the key index of what was committed can not be opened, also where snapshots expire at once', async () => {
  const { engine, read, send, source, storage } = await mirroredTable({ minSnapshots: 1, maxAgeMs: 0, intervalMs: 0 })
  for (let id = 1n; id <= 3n; id++) {
    source.insert([id, 'row', null])
    await send(id * 10n)
    await engine.flush()
  }
  source.truncate()
  source.insert([4n, 'row', null])
  await send(40n)
  const failed = new MoonlinkError('retry', 'STATE_FAILED', 'the disk is away')
  vi.spyOn(SealedFiles.prototype, 'openOrRebuild').mockRejectedValueOnce(failed)
  await expect(engine.flush()).rejects.toBe(failed)
  await engine.tick()
  await expect.poll(() => storage.retained().length).toBe(0)
  expect(await read(30n)).toHaveLength(3)
  await engine.flush()
  expect(await read(40n)).toHaveLength(1)
  await engine.close()
})
