import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock, systemRandom, type Lsn, type SourceEvent } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { ChangeSpool } from './change-spool.ts'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { namedRows as schema } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable } from './testing/scripted-table.ts'
import { watermark } from './testing/watermark.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-lost-stream-'))
beforeAll(() => loadRoaring())
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Of sources that know where an open transaction is. */
const openAt = (lsn: Lsn, events: readonly SourceEvent[]): SourceEvent[] =>
  events.map((event) => (event.kind === 'batch' ? { ...event, batch: { ...event.batch, openLsn: lsn } } : event))

function newEngine(): Engine {
  const indexDirectory = mkdtempSync(join(directory, 'run-'))
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  return new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, indexDirectory, limits })
}

async function openTable() {
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const engine = newEngine()
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  return { engine, mirror, source, storage }
}

/** A stream may end between a table's changes and the position that closes them: the next begins before changes that the table has. */
test.each(['while it streams', 'while it is copied'])('what a lost stream brought of a table %s counts once', async (when) => {
  const { engine, mirror, source, storage } = await openTable()
  if (when === 'while it streams') await mirror.finishCopy(0n)
  source.insert([1n, 'a'])
  source.insert([2n, 'b'])
  source.endTransaction(100n)
  for (const event of [...source.take(), watermark(100n)]) await engine.apply(event)

  source.update(0, [1n, 'changed'])
  source.delete(1)
  source.insert([3n, 'c'])
  source.endTransaction(110n)
  const changes = source.take()
  for (const event of changes) await engine.apply(event)
  expect(await engine.resetOpenTransaction()).toBe(true)
  expect(engine.appliedLsn).toBe(100n)
  for (const event of [...changes, watermark(110n)]) await engine.apply(event)
  source.insert([4n, 'd'])
  source.endTransaction(120n)
  for (const event of [...source.take(), watermark(120n)]) await engine.apply(event)
  if (when === 'while it is copied') await mirror.finishCopy(50n)
  await engine.flush()

  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: 3 })
  const lease = await engine.acquire({ tables: ['public.t'], lsn: null, timeoutMs: 1000 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(source.rows.map(rowText).sort())
  lease.release()
  await engine.close()
})

test('while tables go back to their last commits, also where one can only be told later, the source is told of no more than they keep', async () => {
  const [a, b] = [new ScriptedTable(schema, 'a'), new ScriptedTable(schema, 'b')]
  const storages = [a, b].map((source) => new MemoryTableStorage(source.table, schema))
  const engine = newEngine()
  const send = async (source: ScriptedTable) => {
    const events = source.take()
    for (const event of events) await engine.apply(event)
    return events
  }
  for (const [index, source] of [a, b].entries()) {
    const mirror = await engine.addMirror({ table: source.table, schema, storage: storages[index], appendOnly: false })
    await mirror.finishCopy(0n)
    source.insert([1n, 'first'])
    source.endTransaction(100n)
  }
  const first = await send(a)
  await send(b)
  await engine.apply(watermark(100n))
  await engine.flush(['public.b'])
  // Both are amid a transaction; all that a has is in memory.
  const opened = []
  for (const source of [a, b]) {
    source.insert([2n, 'second'])
    opened.push(...(await send(source)))
  }
  const told: Lsn[] = []
  const settle = storages[1].settle.bind(storages[1])
  storages[1].settle = async () => {
    told.push(engine.acknowledgeableLsn())
    return settle()
  }
  storages[1].failNextSettles = 1
  await expect(engine.resetOpenTransaction()).rejects.toMatchObject({ kind: 'retry' })
  told.push(engine.acknowledgeableLsn())
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect([...told, engine.restartLsn()]).toEqual([0n, 0n, 0n, 0n])

  for (const event of [...first, watermark(100n), ...opened]) await engine.apply(event)
  for (const source of [a, b]) {
    source.endTransaction(110n)
    await send(source)
  }
  await engine.apply(watermark(110n))
  await engine.flush()
  expect(engine.status().map(({ rows, state }) => [state, rows])).toEqual([
    ['streaming', 2],
    ['streaming', 2],
  ])
  await engine.close()
})

test('a table that went back to its last commit misses nothing where the stream is lost again, amid a transaction of another, before it came back', async () => {
  const [a, b] = [new ScriptedTable(schema, 'a'), new ScriptedTable(schema, 'b')]
  const engine = newEngine()
  const send = async (...events: SourceEvent[]) => {
    for (const event of events) await engine.apply(event)
    return events
  }
  const mirrors = []
  for (const source of [a, b]) {
    const storage = new MemoryTableStorage(source.table, schema)
    mirrors.push(await engine.addMirror({ table: source.table, schema, storage, appendOnly: false }))
    await mirrors.at(-1)!.finishCopy(100n)
  }
  a.insert([1n, 'first'])
  const beginning = await send(...openAt(100n, a.take()))
  a.endTransaction(105n)
  const rest = await send(...a.take(), watermark(105n))
  b.insert([1n, 'first'])
  b.endTransaction(110n)
  rest.push(...(await send(...b.take(), watermark(110n))))
  const opened: SourceEvent[] = []
  for (const source of [a, b]) {
    source.insert([2n, 'second'])
    opened.push(...(await send(...source.take())))
  }
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(engine.restartLsn()).toBe(100n)

  await send(...beginning)
  expect(await engine.resetOpenTransaction()).toBe(false)

  await send(...beginning, ...rest, ...opened)
  for (const source of [a, b]) source.endTransaction(120n)
  await send(...a.take(), ...b.take(), watermark(120n))
  expect(mirrors.map((mirror) => mirror.status().rows)).toEqual([2, 2])
  await engine.close()
})

test('a part of a transaction that is applied, after it waited for a copy, just when the stream is lost counts once', async () => {
  const { engine, mirror, source, storage } = await openTable()
  source.insert([1n, 'a'])
  const part = openAt(100n, source.take())
  for (const event of part) await engine.apply(event)
  const applied = Promise.withResolvers<void>()
  const { shift } = ChangeSpool.prototype
  const shifts = vi.spyOn(ChangeSpool.prototype, 'shift').mockImplementationOnce(async function (this: ChangeSpool) {
    await applied.promise
    return shift.call(this)
  })
  await mirror.finishCopy(50n)
  await vi.waitFor(() => expect(shifts).toHaveBeenCalled())
  const reset = engine.resetOpenTransaction()
  applied.resolve()
  expect(await reset).toBe(false)
  source.endTransaction(110n)
  for (const event of [...part, ...source.take(), watermark(110n)]) await engine.apply(event)
  await engine.flush()

  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: 1 })
  const lease = await engine.acquire({ tables: ['public.t'], lsn: null, timeoutMs: 1000 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(source.rows.map(rowText).sort())
  lease.release()
  await engine.close()
})

/** What the next stream begins at, each time that one is lost or can't be opened. */
test('where tables went back to their last commits, the next stream begins there, however often it has to be opened', async () => {
  const { engine, mirror, source } = await openTable()
  await mirror.finishCopy(0n)
  const next = async () => ((await engine.resetOpenTransaction()) ? engine.streamedLsn : engine.restartLsn())
  const transact = async (lsn: Lsn) => {
    source.insert([lsn, 'row'])
    source.endTransaction(lsn)
    for (const event of [...source.take(), watermark(lsn)]) await engine.apply(event)
  }
  await transact(100n)
  await engine.flush()
  await transact(110n)
  source.insert([120n, 'in a transaction that does not end'])
  for (const event of source.take()) await engine.apply(event)

  expect(await next()).toBe(100n)
  expect(await next()).toBe(100n)
  expect(await next()).toBe(100n)
  await engine.close()
})

test('a table that was paused amid a transaction does not have streams begin before what the others have', async () => {
  const { engine, mirror, source } = await openTable()
  await mirror.finishCopy(0n)
  await engine.apply(watermark(100n))
  source.insert([1n, 'of a transaction that is open'])
  for (const event of openAt(105n, source.take())) await engine.apply(event)
  await mirror.pause('PAUSED', 'as was asked.')
  await engine.apply(watermark(110n))
  expect(mirror.hasOpenTransaction).toBe(false)
  expect(await engine.resetOpenTransaction()).toBe(true)
  expect(engine.streamedLsn).toBe(110n)
  await engine.close()
})
