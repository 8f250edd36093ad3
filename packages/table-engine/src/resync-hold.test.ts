import { appendValue, BatchBuilder, silentLogger, systemClock, systemRandom, type Lsn, type TableSchema } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { beforeAll, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { ScriptedTable } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'

beforeAll(() => loadRoaring())

const schema: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'name', type: { kind: 'string' }, required: true },
  ],
  identifierFieldIds: [1],
}

test('what a table that is made equal to its source lacks behind the snapshot is kept by the source until it is committed', async () => {
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  const send = async (lsn: Lsn) => {
    for (const event of source.take()) await engine.apply(event)
    await engine.apply({ kind: 'watermark', lsn, sourceLsn: lsn, commitTimeMs: null })
  }
  await mirror.finishCopy(0n)
  for (let id = 1n; id <= 4n; id++) source.insert([id, 'first'])
  source.endTransaction(100n)
  await send(100n)
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
