import { appendValue, BatchBuilder, type TableSchema } from '@moonlink/core'
import { BlockCache } from '@moonlink/pk-index'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { FilterMemory } from './filter-memory.ts'
import { identityOf } from './identity.ts'
import { Semaphore } from './semaphore.ts'
import { SealedFiles } from './sealed-files.ts'
import { simulatedDisk } from './testing/simulated.ts'

const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] }

test('an index that is made again, of a file that Iceberg has not numbered yet, has the row ids that the file stores and no other', async () => {
  const storage = new MemoryTableStorage({ schema: 'public', name: 't' }, schema)
  const rows = new BatchBuilder(schema.fields)
  for (const id of [7n, 8n, 9n]) appendValue(rows.builders[0], id)
  const staged = await storage.writeFile({ rows: rows.view(), rowIds: Float64Array.of(-1, 41, -1), lastUpdated: null })
  const sealedFiles = new SealedFiles(simulatedDisk().session(), '/index', new BlockCache(0), new FilterMemory(1_000_000), new Semaphore(1))
  await sealedFiles.prepare()
  const index = await sealedFiles.remake({ ...staged, firstRowId: -1, dataSequenceNumber: -1 }, identityOf(schema), storage)
  expect([0, 1, 2].map((row) => index.rowIdAt(row))).toEqual([-1, 41, -1])
  index.close()
})

test('an index that is damaged as soon as it is written is worth another try', async () => {
  const disk = simulatedDisk()
  const session = disk.session(({ operation, path }) => {
    if (operation === 'open' && path.endsWith('.idx')) disk.flipBit((victim) => victim === path)
  })
  const storage = new MemoryTableStorage({ schema: 'public', name: 't' }, schema)
  const rows = new BatchBuilder(schema.fields)
  appendValue(rows.builders[0], 7n)
  const staged = await storage.writeFile({ rows: rows.view(), rowIds: null, lastUpdated: null })
  const sealedFiles = new SealedFiles(session, '/index', new BlockCache(0), new FilterMemory(1_000_000), new Semaphore(1))
  await sealedFiles.prepare()
  // The bit is in the filter.
  const made = sealedFiles.remake({ ...staged, firstRowId: 0, dataSequenceNumber: 1 }, identityOf(schema), storage)
  await expect(made).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FAILED' })
})
