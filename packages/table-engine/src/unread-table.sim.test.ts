import { MoonlinkError, silentLogger, systemClock, systemRandom, type Clock, type Lsn } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { beforeAll, expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { keyedSchemas } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable } from './testing/scripted-table.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const schema = keyedSchemas['a long key']
const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store does not answer.')
const TEN_MINUTES_MS = 600_000
/** Its patience is over a hundred times as soon. */
const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() * 100 }
beforeAll(() => loadRoaring())

/** Two tables with a row each in a file. */
async function twoTables() {
  const limits = { ...defaultEngineLimits, flushIntervalMs: 360_000_000 }
  const engine = new Engine({ clock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  const add = async (name: string) => {
    const source = new ScriptedTable(schema, name)
    const storage = new MemoryTableStorage(source.table, schema)
    const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
    await mirror.finishCopy(0n)
    const send = async (lsn: Lsn) => {
      source.endTransaction(lsn)
      for (const event of source.take()) await engine.apply(event)
      await engine.apply(watermark(lsn))
    }
    source.insert([1n, 'a', 'left out of updates'])
    return { mirror, send, source, storage }
  }
  const [good, bad] = [await add('good'), await add('bad')]
  await good.send(100n)
  await bad.send(200n)
  await engine.flush()
  const failReads = ({ storage }: typeof bad) => {
    const failing = [
      vi.spyOn(storage, 'fetchRows').mockRejectedValue(away),
      vi.spyOn(storage, 'scanFile').mockImplementation(() => {
        throw away
      }),
    ]
    return () => failing.forEach((spy) => spy.mockRestore())
  }
  /** As a backend does, until what is being applied is. */
  const untilApplied = async (applying: Promise<void>) => {
    let isApplied = false
    const applied = applying.then(() => (isApplied = true))
    await vi.waitFor(
      async () => {
        await engine.tick()
        engine.pauseRefused(TEN_MINUTES_MS)
        expect(isApplied).toBe(true)
      },
      { timeout: 20_000 },
    )
    await applied
  }
  const update = (table: typeof bad, lsn: Lsn) => {
    const [[id, key]] = table.source.rows
    table.source.update(0, [id, `${String(key)}+`, 'not sent'], [2])
    return table.send(lsn)
  }
  return { bad, engine, failReads, good, untilApplied, update }
}

test('a table whose files alone can not be read for a change is paused, the others go on, and it can once they can be read', async () => {
  const { bad, engine, failReads, good, untilApplied, update } = await twoTables()
  const answer = failReads(bad)
  const beganMs = clock.nowMs()
  const applying = update(bad, 300n)
  await vi.waitFor(() => expect(bad.mirror.status().reason).toMatch(/^STORE_UNAVAILABLE .*all tables wait/))
  await untilApplied(applying)
  expect(clock.nowMs() - beganMs).toBeGreaterThan(30_000)
  await update(good, 400n)
  expect(good.mirror.status()).toMatchObject({ state: 'streaming', reason: null })
  expect(bad.mirror.status()).toMatchObject({
    state: 'paused',
    reason: expect.stringMatching(/^STORE_UNAVAILABLE .*tried again.*made equal/) as string,
  })
  await vi.waitFor(() => expect(bad.mirror.durableLsn()).toBeNull())
  expect(bad.mirror.isAllowedAgain).toBe(false)
  answer()
  await vi.waitFor(async () => {
    await engine.tick()
    expect(bad.mirror.isAllowedAgain).toBe(true)
  })
  const lease = await engine.acquire({ tables: [bad.mirror.name], lsn: 200n, timeoutMs: 1000 })
  expect(readPlan(lease.tables.get(bad.mirror.name)!, bad.storage)).toEqual([rowText([1n, 'a', 'left out of updates'])])
  lease.release()
  expect(bad.storage.snapshot.committedLsn).toBe(200n)
  await engine.close()
})

test('where no other can be read either, it may be the whole store: changes wait, and no table is paused', async () => {
  const { bad, engine, failReads, good, untilApplied, update } = await twoTables()
  const answers = [failReads(bad), failReads(good)]
  setTimeout(() => answers.forEach((answer) => answer()), 1_000)
  await untilApplied(update(bad, 300n))
  await update(good, 400n)
  for (const { mirror } of [good, bad]) expect(mirror.status()).toMatchObject({ state: 'streaming', reason: null })
  await engine.close()
})

test('one that is paused by request while its change waits holds the others no longer', async () => {
  const { bad, engine, failReads, untilApplied, update } = await twoTables()
  failReads(bad)
  const applying = update(bad, 300n)
  await vi.waitFor(() => expect(bad.mirror.status().reason).not.toBeNull())
  await bad.mirror.pauseFor('PAUSED', 'by request')
  await untilApplied(applying)
  expect(bad.mirror.status()).toMatchObject({ state: 'paused', reason: 'PAUSED by request' })
  await engine.close()
})
