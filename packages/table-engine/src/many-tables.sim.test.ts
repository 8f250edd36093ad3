import { silentLogger, systemClock, systemRandom, type TableName } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { insertedNotes, notesSchema as schema } from './testing/notes.ts'
import { simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const TABLES = 100
const ROWS = 400
const ROUNDS = 10

test.each(['one transaction', 'one transaction behind changes that wait for a commit', 'a transaction each'])(
  'changes of many tables far larger than the memory limit pass below it: %s',
  async (kind) => {
    const memoryLimitBytes = 16 * 1024 * 1024
    const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000, memoryLimitBytes, earlyFileBytes: memoryLimitBytes / 8 }
    const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
    const tables = Array.from({ length: TABLES }, (_, at): TableName => ({ schema: 'public', name: `t${at}` }))
    for (const table of tables) {
      const mirror = await engine.addMirror({ table, schema, storage: new MemoryTableStorage(table, schema), appendOnly: false })
      await mirror.finishCopy(0n)
    }
    const isOne = kind !== 'a transaction each'
    let [lsn, peak, first] = [100n, 0, 0]
    const apply = async (count: number, isWhole: boolean) => {
      for (const table of tables) {
        const batch = insertedNotes(table, first, count, isWhole ? lsn : null)
        await engine.apply({ kind: 'batch', batch: isWhole ? batch : { ...batch, openLsn: lsn } })
        peak = Math.max(peak, engine.memoryBytes)
      }
      first += count
      if (isWhole) await engine.apply(watermark(lsn))
      if (isWhole) lsn += 10n
    }
    await apply(kind === 'one transaction' ? 1 : ROWS / 2, true)
    for (let round = 0; round < ROUNDS; round++) await apply(ROWS, !isOne)
    await apply(1, true)
    await engine.flush()
    expect(engine.status().map(({ rows }) => rows)).toEqual(tables.map(() => first))
    expect(first * TABLES * 45).toBeGreaterThan(memoryLimitBytes)
    expect(peak).toBeLessThan(memoryLimitBytes)
    await engine.close()
  },
)
