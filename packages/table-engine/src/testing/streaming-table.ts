import { silentLogger, systemClock, systemRandom, valueAt, type Clock, type Logger, type TableSchema, type Value } from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { Engine } from '../engine.ts'
import { defaultEngineLimits, type CompactionLimits } from '../limits.ts'
import { readContent, ScriptedTable } from './scripted-table.ts'
import { simulatedDisk, simulatedIndexes } from './simulated.ts'
import { watermark } from './watermark.ts'

export const shape: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'code', type: { kind: 'int' }, required: true },
  ],
  identifierFieldIds: [1],
}

/** A table with a committed row, on a disk of its own. */
export async function streaming(
  compaction: Partial<CompactionLimits> = {},
  { clock = systemClock, logger = silentLogger }: { readonly clock?: Clock; readonly logger?: Logger } = {},
) {
  const disk = simulatedDisk()
  const calls = { createIndex: 0, failOpens: 0, failReads: 0 }
  const eio = () => Object.assign(new Error('EIO'), { code: 'EIO' })
  const session = disk.session(
    ({ operation, path }) => {
      if (operation === 'open' && path.endsWith('.idx.tmp')) calls.createIndex++
      if (operation === 'open' && path.endsWith('.idx') && calls.failOpens-- > 0) throw eio()
    },
    ({ path }) => {
      if (path.endsWith('.idx') && calls.failReads-- > 0) throw eio()
    },
  )
  const scripted = new ScriptedTable(shape)
  const storage = new MemoryTableStorage(scripted.table, shape)
  const limits = { ...defaultEngineLimits, flushIntervalMs: 3_600_000, compaction: { ...defaultEngineLimits.compaction, ...compaction } }
  const engine = new Engine({
    clock,
    random: systemRandom,
    logger,
    ...simulatedIndexes(disk),
    disk: session,
    limits,
  })
  const mirror = await engine.addMirror({ table: scripted.table, schema: shape, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  const transact = async (lsn: bigint) => {
    scripted.endTransaction(lsn)
    for (const event of scripted.take()) await engine.apply(event)
    await engine.apply(watermark(lsn))
  }
  scripted.insert([1n, 10])
  await transact(10n)
  await engine.flush()
  const content = async (lsn: bigint) => {
    const lease = await engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 10_000 })
    const read = readContent(lease.tables.get('public.t')!, storage)
    lease.release()
    return read
  }
  return { calls, content, disk, engine, mirror, scripted, storage, transact }
}

/** Of every live row, as Iceberg has it: key → `_row_id`. */
export async function rowIdsByKey(storage: MemoryTableStorage): Promise<ReadonlyMap<Value, number>> {
  const { files, vectors } = storage.snapshot
  const found = new Map<Value, number>()
  for (const file of files) {
    const vector = vectors.find(({ dataFile }) => dataFile === file.path)
    const dead = vector ? PositionSet.fromPortable(vector.bitmap) : new PositionSet()
    for await (const { firstRow, rowIds, rows } of storage.scanFile(file, shape.fields, { lineage: true })) {
      for (let row = 0; row < rows.length; row++) if (!dead.has(firstRow + row)) found.set(valueAt(rows.columns[0], row), rowIds![row])
    }
    dead.dispose()
  }
  return found
}
