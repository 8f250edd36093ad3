import { BatchBuilder, appendValue, silentLogger, systemClock, systemRandom, type Lsn, type TableSchema } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { RESYNC_PROPERTY } from './mirror-spec.ts'
import { keyedSchemas } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable, type Row } from './testing/scripted-table.ts'
import { simulatedIndexes, simulatedRuns } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

beforeAll(() => loadRoaring())
const row = fc.record({ key: fc.nat(30), big: fc.option(fc.constantFrom('a', 'b', 'long '.repeat(8))) })
const rowOf = ({ key, big }: { key: number; big: string | null }): Row => [BigInt(key), `n${key}`, big]
/** As many rows of one key as there are, where the table has none; otherwise the last. */
const distinct = (rows: Row[], schema: TableSchema): Row[] =>
  schema.identifierFieldIds.length === 0 ? rows : [...new Map(rows.map((values) => [String(values[0]), values])).values()]

async function open(schema: TableSchema, storage: MemoryTableStorage) {
  const engine = new Engine({
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...simulatedIndexes(),
    limits: { ...defaultEngineLimits, flushIntervalMs: 3_600_000, compaction: { ...defaultEngineLimits.compaction, enabled: false } },
  })
  const mirror = await engine.addMirror({ table: storage.table, schema, storage, appendOnly: false })
  return { engine, mirror }
}

function batchOf(schema: TableSchema, rows: readonly Row[]) {
  const builder = new BatchBuilder(schema.fields)
  for (const values of rows) values.forEach((value, column) => appendValue(builder.builders[column], value))
  return builder.view()
}

const texts = (rows: readonly Row[]) => rows.map(rowText).sort()

describe.each(Object.entries(keyedSchemas))('%s', (_, schema) => {
  test('whatever was missed, a re-synchronisation makes the mirror equal, and only what differs is written', async () => {
    const arbitrary = fc.record({
      before: fc.array(fc.array(row, { maxLength: 20 }), { minLength: 1, maxLength: 3 }),
      deleted: fc.array(fc.nat()),
      kept: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }),
      after: fc.array(row, { maxLength: 30 }),
      later: fc.array(row, { maxLength: 5 }),
      batches: fc.integer({ min: 1, max: 7 }),
      crashes: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ before, deleted, kept, after, later, batches, crashes }) => {
        const source = new ScriptedTable(schema)
        const storage = new MemoryTableStorage(source.table, schema)
        let { engine, mirror } = await open(schema, storage)
        await mirror.finishCopy(0n)
        const send = async (lsn: Lsn) => {
          for (const event of source.take()) await engine.apply(event)
          await engine.apply(watermark(lsn))
        }
        let lsn: Lsn = 100n
        for (const rows of before) {
          const known = new Set(source.rows.map((values) => source.keyText(values)))
          for (const values of distinct(rows.map(rowOf), schema))
            if (schema.identifierFieldIds.length === 0 || !known.has(source.keyText(values))) source.insert(values)
          source.endTransaction((lsn += 10n))
          await send(lsn)
          await mirror.flush()
        }
        for (const at of deleted) if (source.rows.length > 0) source.delete(at % source.rows.length)
        source.endTransaction((lsn += 10n))
        await send(lsn)
        const old = texts(source.rows)
        const heldLsn = lsn

        // What the source has by the time of the copy: some of the old rows and others, none of it streamed.
        const remaining = source.rows.filter((_row, index) => kept[index % kept.length])
        const now = distinct([...remaining, ...after.map(rowOf)], schema)
        await mirror.beginResync('changes were missed')
        if (crashes) {
          await mirror.appendCopied(batchOf(schema, now.slice(0, 1)))
          await engine.close()
          ;({ engine, mirror } = await open(schema, storage))
          expect(storage.snapshot.properties[RESYNC_PROPERTY]).toBe('changes were missed')
          await mirror.beginResync('again')
        } else {
          const lease = await engine.acquire({ tables: ['public.t'], lsn: heldLsn, timeoutMs: 1000 })
          expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(old)
          lease.release()
          await expect(engine.acquire({ tables: ['public.t'], lsn: null, timeoutMs: 10 })).rejects.toThrow('--at-lsn')
        }
        const boundary = lsn + 55n
        // Changes that the stream brings meanwhile: those up to the boundary are in the copy, later ones count.
        const copiedRows = [...now]
        source.rows = now
        source.take()
        source.endTransaction((lsn += 50n))
        const early = source.take()
        for (const event of early) await engine.apply(event)
        for (const values of later.map(rowOf)) {
          const at = source.rows.findIndex((known) => source.keyText(known) === source.keyText(values))
          if (schema.identifierFieldIds.length > 0 && at >= 0) source.update(at, values)
          else source.insert(values)
        }
        source.endTransaction((lsn += 10n))
        await send(lsn)
        const size = Math.ceil(copiedRows.length / batches) || 1
        for (let from = 0; from < copiedRows.length; from += size)
          await mirror.appendCopied(batchOf(schema, copiedRows.slice(from, from + size)))
        const filesBefore = storage.snapshot.files.length
        const same = texts(copiedRows).join() === (crashes ? null : old.join())
        await mirror.finishCopy(boundary)
        if (same) expect(storage.snapshot.files.length).toBe(filesBefore)
        expect(storage.snapshot.properties[RESYNC_PROPERTY]).toBe('')
        expect(storage.snapshot.committedLsn).toBe(boundary)

        const check = async (at: Lsn | null, rows: readonly Row[]) => {
          const lease = await engine.acquire({ tables: ['public.t'], lsn: at, timeoutMs: 1000 })
          expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(texts(rows))
          lease.release()
        }
        await check(null, source.rows)
        await check(boundary, copiedRows)
        await mirror.flush()
        await check(null, source.rows)
        await engine.close()
        ;({ engine, mirror } = await open(schema, storage))
        await engine.apply(watermark(lsn))
        await check(null, source.rows)
        await engine.close()
      }),
      simulatedRuns(60),
    )
  })

  test('rows that it has several times, be it in other words, are made equal', async () => {
    const arbitrary = fc.record({
      files: fc.array(fc.array(row, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 4 }),
      after: fc.array(row, { maxLength: 20 }),
    })
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ files, after }) => {
        const { table } = new ScriptedTable(schema)
        const storage = new MemoryTableStorage(table, schema)
        for (const rows of files) {
          const file = await storage.writeFile({ rows: batchOf(schema, rows.map(rowOf)), rowIds: null, lastUpdated: null })
          await storage.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors: [], lsn: 10n })
        }
        let { engine, mirror } = await open(schema, storage)
        const now = distinct(after.map(rowOf), schema)
        await mirror.beginResync('another writer changed it')
        await mirror.appendCopied(batchOf(schema, now))
        await mirror.finishCopy(20n)
        for (const isOpenedAgain of [false, true]) {
          if (isOpenedAgain) {
            await engine.close()
            ;({ engine, mirror } = await open(schema, storage))
          }
          await engine.apply(watermark(20n))
          const lease = await engine.acquire({ tables: ['public.t'], lsn: 20n, timeoutMs: 1000 })
          expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(texts(now))
          expect(mirror.status().rows).toBe(now.length)
          lease.release()
        }
        await engine.close()
      }),
      simulatedRuns(60),
    )
  })
})

test('a mirror that is opened anew beside a stream shows its last commit, and nothing later, until it is equal to its source', async () => {
  const schema = keyedSchemas['a long key']
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const { engine, mirror } = await open(schema, storage)
  await mirror.finishCopy(0n)
  const change = async (key: number, lsn: Lsn) => {
    source.insert(rowOf({ key, big: null }))
    source.endTransaction(lsn)
    for (const event of source.take()) await engine.apply(event)
    await engine.apply(watermark(lsn))
  }
  await change(1, 100n)
  await mirror.flush()
  const committed = texts(source.rows)
  await change(2, 200n)
  const source200 = { asOfLsn: 200n, isAnew: false, isJustOpened: true }
  await engine.reopenMirror('public.t', async () => {
    const again = await engine.addMirror({ table: storage.table, schema, storage, appendOnly: false })
    expect(engine.readableTables()).toEqual(['public.t'])
    expect(engine.status()).toMatchObject([{ state: 'copying' }])
    await expect(engine.acquire({ tables: ['public.t'], lsn: 100n, timeoutMs: 10 })).rejects.toMatchObject({ code: 'TABLE_COPYING' })
    await again.beginResync('its copy was cut off', { shape: again.shape, ...source200 })
  })
  await expect(engine.acquire({ tables: ['public.t'], lsn: 200n, timeoutMs: 10 })).rejects.toThrow('--at-lsn')
  const lease = await engine.acquire({ tables: ['public.t'], lsn: 100n, timeoutMs: 10 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(committed)
  lease.release()
  await engine.close()
})
