import { appendValue, BatchBuilder, silentLogger, systemClock, systemRandom, type Lsn } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { ChangeSpool } from './change-spool.ts'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { namedRows as schema } from './testing/keyed-schemas.ts'
import { ScriptedTable } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

beforeAll(() => loadRoaring())
afterEach(() => vi.restoreAllMocks())

async function openTable() {
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  const read = async (lsn: Lsn) => (await engine.acquire({ tables: [mirror.name], lsn, timeoutMs: 0 })).release()
  return { engine, mirror, read, source, storage }
}

async function openMirror() {
  const { engine, mirror, read, source, storage } = await openTable()
  const send = async (lsn: Lsn) => {
    for (const event of source.take()) await engine.apply(event)
    await engine.apply(watermark(lsn))
  }
  await mirror.finishCopy(0n)
  for (let id = 1n; id <= 4n; id++) source.insert([id, 'first'])
  source.endTransaction(100n)
  await send(100n)
  return { engine, mirror, read, send, source, storage }
}

test('what was readable when a table began to be made equal to its source stays so where that begins anew', async () => {
  const { engine, mirror, read, send } = await openMirror()
  await engine.flush()
  // Others have changed since.
  await send(110n)
  for (const reason of ['a partition was truncated', 'a partition was truncated, once more']) {
    await mirror.beginResync(reason)
    await read(100n)
    await read(110n)
    await expect(read(111n)).rejects.toMatchObject({ code: 'TABLE_RESYNCING', message: expect.stringContaining('0/6E') })
    await send(120n)
  }
  await engine.close()
})

test('what a table has taken is readable while it is made equal to its source, also where the stream had to start again earlier', async () => {
  const { engine, mirror, read, send } = await openMirror()
  await engine.flush()
  const other = new ScriptedTable(schema, 'u')
  const storage = new MemoryTableStorage(other.table, schema)
  const opened = await engine.addMirror({ table: other.table, schema, storage, appendOnly: false })
  await opened.finishCopy(100n)
  await send(110n)
  other.insert([1n, 'first'])
  for (const event of other.take()) await engine.apply(event)
  expect(await engine.resetOpenTransaction()).toBe(false)
  expect(engine.restartLsn()).toBe(100n)
  await mirror.beginResync('a partition was truncated')
  await send(120n)
  await read(110n)
  await expect(read(111n)).rejects.toMatchObject({ code: 'TABLE_RESYNCING' })
  await engine.close()
})

test.each([
  ['whose rows change unseen', 'recopy'],
  ['that is dropped', 'unmirrorable'],
] as const)(
  'a table %s is readable up to the transaction in which that happens, though the stream told of nothing since the one before',
  async (_, kind) => {
    const { engine, mirror, read, send, source } = await openMirror()
    await engine.apply({ kind, table: source.table, code: 'SCHEMA_CHANGED', reason: 'a partition was detached', openLsn: 150n })
    await send(160n)
    await read(150n)
    await expect(read(151n)).rejects.toMatchObject({ code: 'TABLE_PAUSED' })
    await mirror.beginResync('its columns or key changed')
    await read(150n)
    await expect(read(151n)).rejects.toMatchObject({ code: 'TABLE_RESYNCING' })
    await engine.close()
  },
)

test('a table that begins to be made equal to its source while a flush from before its pause goes on stays readable up to that pause', async () => {
  const { engine, mirror, read, send, source, storage } = await openMirror()
  let goOn = () => {}
  const mayGoOn = new Promise<void>((resolve) => (goOn = resolve))
  const commit = storage.commit.bind(storage)
  const commits = vi.spyOn(storage, 'commit').mockImplementation(async (intent) => {
    await mayGoOn
    return commit(intent)
  })
  const flushed = engine.flush()
  await expect.poll(() => commits.mock.calls.length).toBe(1)
  await send(110n)
  await engine.apply({ kind: 'recopy', table: source.table, code: 'SCHEMA_CHANGED', reason: 'a partition was detached', openLsn: 150n })
  await send(160n)
  const begun = mirror.beginResync('its columns or key changed')
  goOn()
  await Promise.all([begun, flushed.catch(() => undefined)])
  await read(150n)
  await expect(read(151n)).rejects.toMatchObject({ code: 'TABLE_RESYNCING' })
  await engine.close()
})

test('amid a transaction, a table that begins to be made equal to its source goes back to its last commit, and shows nothing later', async () => {
  const { engine, mirror, read, send, source } = await openMirror()
  await engine.flush()
  source.delete(0)
  source.endTransaction(110n)
  await send(110n)
  source.delete(0)
  for (const event of source.take()) await engine.apply(event)
  expect(mirror.hasOpenTransaction).toBe(true)
  await mirror.beginResync('changes were missed')
  await read(100n)
  await expect(read(110n)).rejects.toMatchObject({ code: 'TABLE_RESYNCING' })
  await engine.close()
})

/** A table whose copy is committed as of 50, before the two transactions that came meanwhile: catching up is held where it takes that one of them, until `goOn`. */
async function catchingUp(at: number, endsSecond: boolean) {
  const { engine, mirror, read, source, storage } = await openTable()
  source.insert([1n, 'first'])
  source.endTransaction(100n)
  const first = source.take()
  source.insert([2n, 'second'])
  if (endsSecond) source.endTransaction(110n)
  for (const event of [...first, ...source.take()]) await engine.apply(event)
  const [held, isThere] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const shift = ChangeSpool.prototype.shift
  let taken = 0
  vi.spyOn(ChangeSpool.prototype, 'shift').mockImplementation(async function (this: ChangeSpool) {
    if (++taken === at) {
      isThere.resolve()
      await held.promise
    }
    return shift.call(this)
  })
  await mirror.finishCopy(50n)
  await isThere.promise
  return { engine, goOn: held.resolve, mirror, read, storage }
}

test.each(['is made equal to its source', 'is dropped or closed'])(
  'a table that %s does not wait for the end of a transaction that no stream brings',
  async (what) => {
    const { engine, goOn, mirror } = await catchingUp(2, false)
    expect(mirror.hasOpenTransaction).toBe(false)
    const done = what === 'is made equal to its source' ? mirror.beginResync('changes were missed') : engine.flushWhole()
    goOn()
    await done
    expect(mirror.isResyncing).toBe(what === 'is made equal to its source')
    await engine.close()
  },
)

test('a table that is dropped while it catches up shows nothing of what still waited', async () => {
  const { engine, goOn, mirror, read, storage } = await catchingUp(1, true)
  await engine.apply({ kind: 'watermark', lsn: 120n, sourceLsn: 120n, commitTimeMs: null })
  await engine.apply({ kind: 'unmirrorable', table: storage.table, code: 'TABLE_DROPPED', reason: 'it was dropped', openLsn: 150n })
  expect(mirror.currentPhase).toBe('paused')
  goOn()
  await expect(read(120n)).rejects.toMatchObject({ code: 'TABLE_PAUSED' })
  await engine.close()
})

test('what is applied beside the flush with which a table begins to be made equal to its source is not shown', async () => {
  const { engine, goOn, mirror, read, storage } = await catchingUp(1, true)
  const commit = storage.commit.bind(storage)
  vi.spyOn(storage, 'commit').mockImplementationOnce(async (planned) => {
    await mirror.caughtUp()
    return commit(planned)
  })
  const begun = mirror.beginResync('changes were missed')
  goOn()
  await begun
  expect(mirror.committedLsn).toBe(100n)
  await engine.apply(watermark(120n))
  await read(100n)
  await expect(read(110n)).rejects.toMatchObject({ code: 'TABLE_RESYNCING' })
  await engine.close()
})

test('what a table that is made equal to its source lacks behind the snapshot is kept by the source until it is committed', async () => {
  const { engine, mirror, send, source } = await openMirror()
  await engine.flush()

  await mirror.beginResync('changes were missed')
  await send(110n)
  // A crash now begins it anew, with a later snapshot.
  expect(engine.acknowledgeableLsn()).toBe(110n)
  mirror.awaitSnapshot()
  await send(120n)
  expect(engine.acknowledgeableLsn()).toBe(110n)
  await mirror.beginCopy({ boundaryLsn: 130n, horizon: '130', storage: '1' })
  const copied = new BatchBuilder(schema.fields)
  for (const row of source.rows) row.forEach((value, column) => appendValue(copied.builders[column], value))
  await mirror.appendCopied(copied.view())
  source.delete(0)
  source.endTransaction(140n)
  await send(150n)
  expect(engine.acknowledgeableLsn()).toBe(130n)
  expect(mirror.status()).toMatchObject({ state: 'copying', durableLsn: 100n })

  // At no moment between its commit and that of the change behind it.
  const told = new Set<Lsn>()
  let isOver = false
  const caughtUp = mirror
    .finishCopy(130n, async () => undefined)
    .then(() => mirror.caughtUp())
    .finally(() => (isOver = true))
  while (!isOver) {
    told.add(engine.acknowledgeableLsn())
    for (let turn = 0; turn < 200 && !isOver; turn++) {
      await Promise.resolve()
      told.add(engine.acknowledgeableLsn())
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
  await caughtUp
  expect([...told]).toEqual([130n])
  expect(engine.acknowledgeableLsn()).toBe(130n)
  expect(mirror.status().rows).toBe(3)
  await engine.flush()
  expect(engine.acknowledgeableLsn()).toBe(150n)
  await engine.close()
})
