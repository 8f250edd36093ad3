import { silentLogger, systemClock, systemRandom, type Lsn } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { Engine } from '../engine.ts'
import { defaultEngineLimits, type EngineLimits } from '../limits.ts'
import { keyedSchemas } from './keyed-schemas.ts'
import { readPlan, ScriptedTable } from './scripted-table.ts'
import { simulatedIndexes } from './simulated.ts'
import { watermark } from './watermark.ts'

const schema = keyedSchemas['a long key']

/** An empty table that streams; a few rows of an open transaction are worth a file. */
export async function mirroredTable(expiry: EngineLimits['expiry'] = defaultEngineLimits.expiry) {
  const source = new ScriptedTable(schema)
  const storage = new MemoryTableStorage(source.table, schema)
  const limits = {
    ...defaultEngineLimits,
    flushIntervalMs: 3_600_000,
    earlyFileBytes: 256,
    expiry,
    compaction: { ...defaultEngineLimits.compaction, enabled: false },
  }
  const engine = new Engine({ clock: systemClock, random: systemRandom, logger: silentLogger, ...simulatedIndexes(), limits })
  const mirror = await engine.addMirror({ table: source.table, schema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  const changes = async () => {
    for (const event of source.take()) await engine.apply(event)
  }
  const send = async (lsn: Lsn) => {
    source.endTransaction(lsn)
    await changes()
    await engine.apply(watermark(lsn))
  }
  const read = async (lsn: Lsn) => {
    const lease = await engine.acquire({ tables: [mirror.name], lsn, timeoutMs: 1000 })
    try {
      return readPlan(lease.tables.get(mirror.name)!, storage)
    } finally {
      lease.release()
    }
  }
  return { changes, engine, mirror, read, send, source, storage }
}
