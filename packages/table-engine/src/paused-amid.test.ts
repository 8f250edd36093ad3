import { silentLogger, systemClock, systemRandom } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { holdNext, MemoryTableStorage } from '@moonlink/testkit'
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { PAUSED_PROPERTY } from './mirror-spec.ts'
import type { Mirror } from './mirror.ts'
import { namedRows as schema } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const RANGE = { from: 0, to: null }

let engine: Engine
let source: ScriptedTable
let storage: MemoryTableStorage
let mirror: Mirror
beforeAll(() => loadRoaring())
beforeEach(async () => {
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  source = new ScriptedTable(schema)
  storage = new MemoryTableStorage(source.table, schema)
  mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
})
afterEach(() => engine.close())

async function apply(lsn: bigint): Promise<void> {
  source.endTransaction(lsn)
  for (const event of [...source.take(), watermark(lsn)]) await engine.apply(event)
}

test('what was being applied when a table was paused is part of what that commits, and of the LSN that it says', async () => {
  await mirror.finishCopy(0n)
  source.insert([1n, 'a'])
  await apply(10n)
  await engine.flush()
  source.insert([2n, 'b'])
  await apply(20n)
  const fetching = holdNext(storage, 'fetchRows')
  source.update(0, [3n, 'left out'], [1])
  const applied = apply(30n)
  await fetching.reached
  const paused = mirror.pause('PAUSED', 'by request')
  expect(mirror.reads.whilePaused).toBe(20n)
  fetching.release()
  await Promise.all([applied, paused])

  expect(storage.snapshot.committedLsn).toBe(30n)
  expect(mirror.reads.whilePaused).toBe(30n)
  const lease = await engine.acquire({ tables: ['public.t'], lsn: 30n, timeoutMs: 1000 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(source.rows.map(rowText).sort())
  lease.release()
})

test('a table that is paused while its copy is committed keeps the files of it', async () => {
  const rows = new ScriptedTable(schema)
  rows.insert([1n, 'a'])
  await mirror.beginCopy({ boundaryLsn: 50n, horizon: '0', storage: 'here' })
  for (const event of rows.take()) if (event.kind === 'batch') await mirror.appendCopied(event.batch.rows, RANGE)
  await mirror.finishCopiedRange(RANGE)
  let paused: Promise<void> | undefined
  const commit = storage.commit.bind(storage)
  vi.spyOn(storage, 'commit').mockImplementationOnce(async (request) => {
    paused = mirror.pause('PAUSED', 'by request')
    return commit(request)
  })
  const discarded = vi.spyOn(storage, 'discard')
  await mirror.finishCopy(50n)
  await paused
  expect(mirror.currentPhase).toBe('paused')
  expect(storage.snapshot.files).toHaveLength(1)
  expect(discarded).not.toHaveBeenCalled()
})

test('a table that is paused by request just when it begins to be made equal to its source stays paused', async () => {
  await mirror.finishCopy(0n)
  await mirror.pause('SCHEMA_CHANGED', 'another column')
  const writing = holdNext(storage, 'setProperties')
  const begun = mirror.beginResync('its columns changed')
  await writing.reached
  const paused = mirror.pauseFor('PAUSED', 'by request')
  writing.release()
  await Promise.all([begun, paused])
  expect(mirror.status()).toMatchObject({ state: 'paused', reason: 'PAUSED by request' })
  expect(storage.snapshot.properties[PAUSED_PROPERTY]).toBe('PAUSED by request')
})
