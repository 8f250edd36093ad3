import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock, systemRandom, type SourceEvent, type TableSchema } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import type { Mirror } from './mirror.ts'
import { ScriptedTable, type Row } from './testing/scripted-table.ts'
import { watermark } from './testing/watermark.ts'

const schema: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'name', type: { kind: 'string' }, required: false },
  ],
  identifierFieldIds: [1],
}
const wider: TableSchema = { ...schema, fields: [...schema.fields, { id: 3, name: 'more', type: { kind: 'string' }, required: false }] }

let directory: string
let engine: Engine
let source: ScriptedTable
let storage: MemoryTableStorage
beforeAll(() => loadRoaring())
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'moonlink-copied-shape-'))
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, indexDirectory: directory, limits })
  source = new ScriptedTable(schema)
  storage = new MemoryTableStorage(source.table, schema)
})
afterEach(async () => {
  await engine.close()
  rmSync(directory, { recursive: true, force: true })
})

const add = (): Promise<Mirror> => engine.addMirror({ table: source.table, schema, storage, appendOnly: false })

async function apply(lsn: bigint): Promise<void> {
  source.endTransaction(lsn)
  const events: SourceEvent[] = [...source.take(), watermark(lsn)]
  for (const event of events) await engine.apply(event)
}

function rowsOf(shape: TableSchema, rows: readonly Row[]) {
  const scratch = new ScriptedTable(shape)
  for (const row of rows) scratch.insert(row)
  scratch.endTransaction(1n)
  const [event] = scratch.take()
  return event.kind === 'batch' ? event.batch.rows : expect.unreachable()
}

test('rows are copied in the shape that the copy began with, whatever changes wait', async () => {
  const mirror = await add()
  await mirror.beginCopy({ boundaryLsn: 50n, horizon: '0', storage: null })
  source.reshape(wider, (row) => [...row, null])
  source.insert([2n, 'b', 'c'])
  await apply(100n)
  expect(mirror.shape.schema).toEqual(wider)
  expect(mirror.copiedShape.schema).toEqual(schema)
  await expect(mirror.appendCopied(rowsOf(wider, [[1n, 'a', 'x']]))).rejects.toThrow('columns')
  await mirror.appendCopied(rowsOf(schema, [[1n, 'a']]))
  await mirror.finishCopy(50n)
  await mirror.caughtUp()
  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: 2 })
})

test('a stream is told how late a copy is that goes on, by an earlier process, too', async () => {
  const mirror = await add()
  expect(engine.resumePoints()).toEqual([expect.not.objectContaining({ copiedLsn: expect.anything() })])
  await mirror.beginCopy({ boundaryLsn: 50n, horizon: '0', storage: 'here' })
  expect(engine.resumePoints()).toMatchObject([{ copiedLsn: 50n }])
  await engine.close()
  await add()
  expect(engine.resumePoints()).toMatchObject([{ copiedLsn: 50n }])
})

test('a stream is told what was read where the source was only looked at later', async () => {
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false, asOfLsn: 40n })
  expect(engine.resumePoints()).toMatchObject([{ throughLsn: 40n, readThroughLsn: 0n }])
  await mirror.finishCopy(50n)
  source.insert([1n, 'a'])
  await apply(60n)
  expect(engine.resumePoints()).toEqual([expect.not.objectContaining({ readThroughLsn: expect.anything() })])
  await mirror.beginResync('by request', { shape: { schema, sourceState: null }, asOfLsn: 90n, isAnew: false, isJustOpened: false })
  expect(engine.resumePoints()).toMatchObject([{ throughLsn: 90n, readThroughLsn: 60n }])
  source.insert([2n, 'b'])
  await apply(100n)
  expect(engine.resumePoints()).toEqual([expect.not.objectContaining({ readThroughLsn: expect.anything() })])
})
