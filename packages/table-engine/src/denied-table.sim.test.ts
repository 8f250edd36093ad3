import { MoonlinkError, silentLogger, systemClock, systemRandom, type Clock } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { insertedNotes, notesSchema as schema } from './testing/notes.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const good = { schema: 'public', name: 'good' }
const bad = { schema: 'public', name: 'bad' }
const denial = new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', 'may not write the files of bad: allow it.')
const memoryLimitBytes = 12 * 1024 * 1024
const ROWS = 5_000
/** Its patience is over a hundred times as soon. */
const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() * 100 }

async function deniedTable(isWholeStore = false) {
  const limits = { ...defaultEngineLimits, flushIntervalMs: 360_000_000, memoryLimitBytes }
  const engine = new Engine({ clock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  const storages = [good, bad].map((table) => new MemoryTableStorage(table, schema))
  const mirrors = await Promise.all(
    storages.map(async (storage) => {
      const mirror = await engine.addMirror({ table: storage.table, schema, storage, appendOnly: false })
      await mirror.finishCopy(0n)
      return mirror
    }),
  )
  const denied = [
    vi.spyOn(storages[1], 'commit').mockRejectedValue(denial),
    vi.spyOn(storages[1], 'setProperties').mockRejectedValue(denial),
    ...(isWholeStore ? [vi.spyOn(storages[0], 'writeFile').mockRejectedValue(denial)] : []),
  ]
  const send = async (table: typeof good, at: number) => {
    const lsn = BigInt(at + 1) * 100n
    await engine.apply({ kind: 'batch', batch: insertedNotes(table, at * ROWS, ROWS, lsn) })
    await engine.apply(watermark(lsn))
  }
  const allow = () => denied.forEach((spy) => spy.mockRestore())
  return { allow, engine, mirrors, send }
}

test('a table whose commits are refused is paused once the others need its memory, and they go on', async () => {
  const { engine, mirrors, send } = await deniedTable()
  await send(bad, 0)
  await expect(engine.flush()).rejects.toBe(denial)
  for (let at = 1; at < 100; at++) {
    await send(good, at)
    if (at === 1) await mirrors[0].flush()
    await send(bad, at)
  }
  expect(mirrors[1].status()).toMatchObject({
    state: 'paused',
    reason: expect.stringMatching(/^STORE_NOT_WRITABLE .*is tried again/) as string,
  })
  expect(mirrors[0].status()).toMatchObject({ state: 'streaming', rows: 99 * ROWS })
  expect(engine.memoryBytes).toBeLessThan(memoryLimitBytes)
  await engine.close()
})

test('so it is where no other had anything to commit since, but may be written', async () => {
  const { engine, mirrors, send } = await deniedTable()
  await send(bad, 0)
  await expect(engine.flush()).rejects.toBe(denial)
  for (let at = 1; at < 100; at++) await send(bad, at)
  expect(mirrors.map(({ currentPhase }) => currentPhase)).toEqual(['streaming', 'paused'])
  await engine.close()
})

test('where no other may be written either, it may be the whole store: the source waits, and no table is paused', async () => {
  const { allow, engine, mirrors, send } = await deniedTable(true)
  await send(bad, 0)
  await expect(engine.flush()).rejects.toBe(denial)
  setTimeout(allow, 1_000)
  for (let at = 1; at < 100; at++) await send(bad, at)
  expect(mirrors[1].status()).toMatchObject({ state: 'streaming', rows: 100 * ROWS })
  await engine.close()
})
