import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock, systemRandom, type SourceEvent, type TableSchema } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { RESYNC_PROPERTY } from './mirror-spec.ts'
import type { Mirror } from './mirror.ts'
import { readPlan, rowText, ScriptedTable } from './testing/scripted-table.ts'
import { watermark } from './testing/watermark.ts'

const schema: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'name', type: { kind: 'string' }, required: false },
  ],
  identifierFieldIds: [1],
}
const NAME = 'public.t'
const RANGE = { from: 0, to: null }

let directory: string
let engine: Engine
let source: ScriptedTable
let storage: MemoryTableStorage
let mirror: Mirror
beforeAll(() => loadRoaring())
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'moonlink-doubtful-copy-'))
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, indexDirectory: directory, limits })
  source = new ScriptedTable(schema)
  storage = new MemoryTableStorage(source.table, schema)
  mirror = await add()
})
afterEach(async () => {
  await engine.close()
  rmSync(directory, { recursive: true, force: true })
})

const add = (): Promise<Mirror> => engine.addMirror({ table: source.table, schema, storage, appendOnly: false })

/** Copies what the source has, as of an LSN. */
async function copy(lsn: bigint): Promise<void> {
  const done = await mirror.beginCopy({ boundaryLsn: lsn, horizon: '0', storage: 'here' })
  const rows = new ScriptedTable(schema)
  for (const row of source.rows) rows.insert(row)
  rows.endTransaction(lsn)
  for (const event of done.length > 0 ? [] : rows.take()) if (event.kind === 'batch') await mirror.appendCopied(event.batch.rows, RANGE)
  await mirror.finishCopiedRange(RANGE)
  await mirror.finishCopy(lsn)
}

async function apply(lsn: bigint): Promise<void> {
  source.endTransaction(lsn)
  const events: SourceEvent[] = [...source.take(), watermark(lsn)]
  for (const event of events) await engine.apply(event)
}

async function expectEqual(): Promise<void> {
  const lease = await engine.acquire({ tables: [NAME], lsn: null, timeoutMs: 1000 })
  expect(readPlan(lease.tables.get(NAME)!, storage)).toEqual(source.rows.map(rowText).sort())
  lease.release()
}

beforeEach(async () => {
  source.insert([1n, 'a'])
  source.insert([2n, 'b'])
  await apply(50n)
})

test('a copy whose commit happened though it seemed to fail goes on behind it', async () => {
  storage.failNext.push('after')
  await expect(copy(50n)).rejects.toMatchObject({ kind: 'retry' })
  source.update(0, [1n, 'changed'])
  await apply(60n)
  storage.failNextSettles = 1
  await expect(mirror.settleCopy()).rejects.toMatchObject({ kind: 'retry' })
  expect(await mirror.settleCopy()).toBe(true)
  await mirror.caughtUp()
  expect(mirror.status()).toMatchObject({ state: 'streaming', committedLsn: 50n, rows: 2 })
  await expectEqual()
  await engine.flush()
  await expectEqual()
})

test('where it did not, the copy goes on in another snapshot, and what comes of it late can not count', async () => {
  storage.failNext.push('late')
  await expect(copy(50n)).rejects.toMatchObject({ kind: 'retry' })
  expect(await mirror.settleCopy()).toBe(false)
  storage.deliverLate()
  source.delete(1)
  await apply(60n)
  await copy(60n)
  await mirror.caughtUp()
  await expectEqual()
})

test('a copy that is given up while its commit may have happened takes no file with it', async () => {
  storage.failNext.push('after')
  await expect(copy(50n)).rejects.toMatchObject({ kind: 'retry' })
  await engine.reopenMirror(NAME, async () => {
    // Whoever opens the table finds what its last commit is.
    await storage.settle()
    mirror = await add()
  })
  await engine.apply(watermark(60n))
  expect(mirror.committedLsn).toBe(50n)
  await expectEqual()
})

test('files that may be in no snapshot are known beyond the end of their mirror', async () => {
  storage.failNext.push('late')
  await expect(copy(50n)).rejects.toMatchObject({ kind: 'retry' })
  await engine.removeMirror(NAME)
  expect(storage.unreferenced).toHaveLength(1)
  await storage.settle()
  mirror = await add()
  expect(storage.unreferenced).toEqual([])
})

/** A table that streams, and is made equal to its source by a commit of that fate while changes come. */
async function resync(fate: 'after' | 'late'): Promise<void> {
  await copy(50n)
  await apply(60n)
  await engine.flush()
  // A change that the mirror missed.
  source.update(0, [1n, 'missed'])
  source.endTransaction(70n)
  source.take()
  await mirror.beginResync('changes were missed')
  mirror.awaitSnapshot()
  storage.failNext.push(fate)
  await expect(copy(80n)).rejects.toMatchObject({ kind: 'retry' })
  source.insert([3n, 'behind the snapshot'])
  await apply(90n)
}

test('a re-synchronisation whose commit happened though it seemed to fail goes on behind it, and lets go of no change before', async () => {
  await resync('after')
  expect(engine.acknowledgeableLsn()).toBe(80n)
  storage.failNextSettles = 1
  await expect(mirror.settleCopy()).rejects.toMatchObject({ kind: 'retry' })
  expect(engine.acknowledgeableLsn()).toBe(80n)
  expect(await mirror.settleCopy()).toBe(true)
  expect(mirror.isResyncing).toBe(false)
  await mirror.caughtUp()
  await expectEqual()
  expect(engine.acknowledgeableLsn()).toBe(80n)
  await engine.flush()
  expect(mirror.status()).toMatchObject({ state: 'streaming', reason: null, committedLsn: 90n, rows: 3 })
  expect(storage.snapshot.properties[RESYNC_PROPERTY]).toBe('')
  await expectEqual()
})

test('where it did not, it begins anew, and what comes of it late can not count', async () => {
  await resync('late')
  expect(await mirror.settleCopy()).toBe(false)
  storage.deliverLate()
  expect(mirror.isResyncing).toBe(true)
  await engine.reopenMirror(NAME, async () => {
    mirror = await add()
    await mirror.beginResync('changes were missed')
  })
  mirror.awaitSnapshot()
  await copy(90n)
  await mirror.caughtUp()
  await expectEqual()
})
