import { MoonlinkError, silentLogger, systemClock, systemRandom } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { beforeAll, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { namedRows as schema } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable } from './testing/scripted-table.ts'
import { simulatedDisk } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

beforeAll(() => loadRoaring())

test('a paused table that goes back to its last commit, to be compared, shows nothing until it is there', async () => {
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  let isHeld = false
  const disk = simulatedDisk().session(async ({ operation, path }) => {
    if (!isHeld || operation !== 'open' || !path.endsWith('.idx')) return
    reached.resolve()
    await goOn.promise
  })
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, disk, indexDirectory: '/index', limits })
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  source.insert([1n, 'a'])
  source.endTransaction(10n)
  for (const event of source.take()) await engine.apply(event)
  await engine.apply(watermark(10n))
  await engine.flush()
  await mirror.pause('SCHEMA_CHANGED', 'for a test')
  const read = async (timeoutMs: number) => {
    const lease = await engine.acquire({ tables: ['public.t'], lsn: 10n, timeoutMs })
    const rows = readPlan(lease.tables.get('public.t')!, storage)
    lease.release()
    return rows
  }
  const expected = source.rows.map(rowText)
  expect(await read(1000)).toEqual(expected)
  isHeld = true
  const begun = mirror.beginResync('for a test')
  await reached.promise
  await expect(read(1)).rejects.toMatchObject({ kind: 'retry', code: 'TIMED_OUT' })
  goOn.resolve()
  await begun
  expect(await read(1000)).toEqual(expected)
  await engine.close()
})

test('"latest" is not answered where another may have gone on; what is past is', async () => {
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000 }
  const options = {
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    disk: simulatedDisk().session(),
    indexDirectory: '/index',
    limits,
  }
  const engine = new Engine(options)
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  await engine.apply(watermark(10n))
  const read = (lsn: bigint | null) => engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 1000 })
  ;(await read(null)).release()
  engine.requireCurrent = () => Promise.reject(new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over'))
  await expect(read(null)).rejects.toMatchObject({ code: 'LEASE_LOST' })
  ;(await read(10n)).release()
  await engine.close()
})
