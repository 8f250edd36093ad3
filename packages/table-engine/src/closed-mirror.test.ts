import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock, systemRandom, type Lsn } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { namedRows as schema } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable } from './testing/scripted-table.ts'
import { watermark } from './testing/watermark.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-closed-mirror-'))
beforeAll(() => loadRoaring())
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const latest = { tables: ['public.t'], lsn: null, timeoutMs: 60_000 }

function removeIndexes(directory: string): void {
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) if (name.endsWith('.idx')) rmSync(join(directory, name))
}

/** A table with two rows in a file; one of them is dead since, which no commit has yet. */
async function withDeadRow() {
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const indexDirectory = mkdtempSync(join(directory, 'run-'))
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, indexDirectory, limits })
  const spec = { table: source.table, schema, storage, appendOnly: false }
  const mirror = await engine.addMirror(spec)
  await mirror.finishCopy(0n)
  const send = async (lsn: Lsn) => {
    source.endTransaction(lsn)
    const events = [...source.take(), watermark(lsn)]
    for (const event of events) await engine.apply(event)
    return events
  }
  source.insert([1n, 'a'])
  source.insert([2n, 'b'])
  await send(100n)
  await engine.flush()
  source.delete(0)
  const events = await send(110n)
  return { engine, events, indexDirectory, mirror, send, source, spec, storage }
}

/** A table that has just been copied; what changed meanwhile waits. */
async function withCopyBehind() {
  const source = new ScriptedTable(schema)
  const indexDirectory = mkdtempSync(join(directory, 'run-'))
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, indexDirectory, limits: defaultEngineLimits })
  const storage = new MemoryTableStorage(source.table, schema)
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  await mirror.beginCopy({ boundaryLsn: 0n, horizon: '0', storage: null })
  for (const [id, lsn] of [
    [1n, 100n],
    [2n, 110n],
    [3n, 120n],
  ] as const) {
    source.insert([id, 'a'])
    source.endTransaction(lsn)
    for (const event of [...source.take(), watermark(lsn)]) await engine.apply(event)
  }
  await mirror.finishCopy(0n)
  expect(mirror.isCatchingUp).toBe(true)
  return { engine, mirror }
}

test('a closed mirror tells what it was like, and neither shows nor commits anything', async () => {
  const { engine, mirror, source, storage } = await withDeadRow()
  const before = mirror.status()
  const snapshot = storage.snapshot
  await mirror.close()
  // It would commit without the deletes.
  await expect(mirror.flush()).rejects.toMatchObject({ kind: 'retry', code: 'TABLE_CLOSED' })
  await expect(engine.acquire(latest)).rejects.toMatchObject({ code: 'TABLE_CLOSED' })
  expect(engine.status()).toEqual([before])
  expect(engine.memoryBytes).toBeGreaterThanOrEqual(0)
  // What acts by itself leaves it alone.
  source.insert([3n, 'c'])
  source.endTransaction(120n)
  for (const event of source.take()) await engine.apply(event)
  await engine.tick()
  await mirror.pause('WANTED', 'a pause')
  await mirror.reload(110n)
  await mirror.rollBackWaiting()
  expect(storage.snapshot).toBe(snapshot)
  expect(engine.restartLsn()).toBe(100n)
  await engine.close()
})

test('a flush that waits for a transaction to end does not wait for ever where the mirror is closed', async () => {
  const { engine, mirror, source } = await withDeadRow()
  source.insert([3n, 'c'])
  for (const event of source.take()) await engine.apply(event)
  const flushed = mirror.flush()
  flushed.catch(() => undefined)
  while (!mirror.hasOpenTransaction) await Promise.resolve()
  await engine.close()
  await expect(flushed).rejects.toMatchObject({ code: 'TABLE_CLOSED' })
})

test('a read of a table that catches up after its copy is refused where the mirror is closed meanwhile', async () => {
  const { engine, mirror } = await withCopyBehind()
  const reading = engine.acquire(latest)
  reading.catch(() => undefined)
  const closed = mirror.close()
  await expect(reading).rejects.toMatchObject({ kind: 'retry', code: 'TABLE_CLOSED' })
  await closed
  await expect(engine.acquire(latest)).rejects.toMatchObject({ kind: 'retry', code: 'TABLE_CLOSED' })
  await engine.close()
})

test('a read that waited while its table was opened again shows the new mirror', async () => {
  const { engine, send, source, spec, storage } = await withDeadRow()
  await engine.flush()
  const reading = engine.acquire({ ...latest, lsn: 120n })
  await engine.reopenMirror('public.t', async () => void (await engine.addMirror(spec)))
  source.insert([3n, 'c'])
  await send(120n)
  const lease = await reading
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(source.rows.map(rowText).sort())
  lease.release()
  await engine.close()
})

test('while a mirror goes back to its last commit, also where that fails amid it, reads wait', async () => {
  const { engine, events, indexDirectory, mirror, send, source, storage } = await withDeadRow()
  source.insert([3n, 'c'])
  const opened = source.take()
  for (const event of opened) await engine.apply(event)
  // Its indexes are made again from the data, which takes a while.
  removeIndexes(indexDirectory)
  const refused: unknown[] = []
  const scanFile = storage.scanFile.bind(storage)
  storage.scanFile = async function* (...args) {
    await engine.acquire({ ...latest, timeoutMs: 0 }).catch((error: unknown) => refused.push(error))
    if (refused.length < 2) throw new Error('the store is away')
    yield* scanFile(...args)
  }
  await expect(engine.resetOpenTransaction()).rejects.toThrow('the store is away')
  expect(mirror.isRewinding).toBe(true)
  expect(engine.restartLsn()).toBe(100n)
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(refused).toMatchObject([{ code: 'TIMED_OUT' }, { code: 'TIMED_OUT' }])
  const reading = engine.acquire(latest)
  for (const event of [...events, watermark(110n), ...opened]) await engine.apply(event)
  await send(120n)
  const lease = await reading
  expect(lease.lsn).toBeGreaterThanOrEqual(110n)
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(
    source.history
      .findLast(({ lsn }) => lsn <= lease.lsn)!
      .rows.map(rowText)
      .sort(),
  )
  lease.release()
  await engine.close()
})

test('a table whose comparison with its source fails as it begins needs everything after its last commit', async () => {
  const { engine, indexDirectory, mirror, source, storage } = await withDeadRow()
  source.insert([3n, 'c'])
  for (const event of source.take()) await engine.apply(event)
  removeIndexes(indexDirectory)
  const scanFile = storage.scanFile.bind(storage)
  storage.scanFile = () => {
    throw new Error('the store is away')
  }
  await expect(mirror.beginResync('changes were missed')).rejects.toThrow('the store is away')
  expect(engine.restartLsn()).toBe(100n)
  storage.scanFile = scanFile
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(mirror.isRewinding).toBe(false)
  expect(engine.restartLsn()).toBe(100n)
  await engine.close()
})
