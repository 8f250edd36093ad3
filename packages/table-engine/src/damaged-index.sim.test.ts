import { appendValue, BatchBuilder } from '@moonlink/core'
import { expect, test, vi } from 'vitest'
import { readPlan, rowText } from './testing/scripted-table.ts'
import { rowIdsByKey, shape, streaming } from './testing/streaming-table.ts'
import { watermark } from './testing/watermark.ts'

/** Blocks of an index file have this many bytes; what look-ups read comes behind its header, fences and filter, a block each for few rows. */
const BLOCK_BYTES = 4096
const ENTRIES_AT = 3 * BLOCK_BYTES
const ROW_IDS_AT = 4 * BLOCK_BYTES

type Streaming = Awaited<ReturnType<typeof streaming>>

/** Flips a bit of every index, at that place behind the blocks that are read when an index is opened. */
function damage({ disk }: Pick<Streaming, 'disk'>, at: number): void {
  for (const [path, { bytes }] of disk.files) if (path.endsWith('.idx') && bytes.length > at) bytes[at + 5] ^= 4
}

/** A table without compactions, of two files: the second stores the `_row_id` of a row. */
async function ofTwoFiles() {
  const table = await streaming({ enabled: false })
  table.scripted.update(0, [1n, 11])
  table.scripted.insert([2n, 20])
  await table.transact(20n)
  await table.engine.flush()
  return table
}

async function expectSound({ content, engine, mirror, scripted, storage }: Streaming, lsn: bigint): Promise<void> {
  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: scripted.rows.length })
  expect(await content(lsn)).toEqual(scripted.contentAt(lsn))
  await engine.flush()
  expect(await content(lsn)).toEqual(scripted.contentAt(lsn))
  expect(new Set((await rowIdsByKey(storage)).keys())).toEqual(new Set(scripted.rows.map(([id]) => id)))
  await engine.close()
}

test.each([ENTRIES_AT, ROW_IDS_AT])(
  'changes go on by an index that is made anew where it is damaged, at %i, and rows keep their ids',
  async (at) => {
    const table = await ofTwoFiles()
    const before = await rowIdsByKey(table.storage)
    damage(table, at)
    table.scripted.update(0, [1n, 12])
    table.scripted.update(1, [2n, 22])
    await table.transact(30n)
    await table.engine.flush()
    expect(await rowIdsByKey(table.storage)).toEqual(before)
    await expectSound(table, 30n)
  },
)

test('a commit is taken over by an index that is damaged as soon as it is written', async () => {
  const table = await ofTwoFiles()
  const { scripted, storage, transact } = table
  const commit = storage.commit.bind(storage)
  const commits = vi.spyOn(storage, 'commit').mockImplementationOnce(async (planned) => {
    // It replaces a row that gets its `_row_id` with this commit.
    scripted.update(2, [3n, 31])
    await transact(40n)
    damage(table, ROW_IDS_AT)
    return commit(planned)
  })
  scripted.update(0, [1n, 12])
  scripted.insert([3n, 30])
  await transact(30n)
  await table.engine.flush()
  expect(commits).toHaveBeenCalledTimes(1)
  const committed = await rowIdsByKey(storage)
  await table.engine.flush()
  expect(await rowIdsByKey(storage)).toEqual(committed)
  await expectSound(table, 40n)
})

test('indexes by a new key are made from those by the old one, where those are damaged too', async () => {
  const table = await ofTwoFiles()
  damage(table, ROW_IDS_AT)
  table.scripted.reshape({ ...shape, identifierFieldIds: [2] }, (row) => row)
  table.scripted.update(0, [5n, 11])
  await table.transact(30n)
  await expectSound(table, 30n)
})

test('a table is compared with its source by indexes that are damaged', async () => {
  const table = await ofTwoFiles()
  const { engine, mirror, storage } = table
  damage(table, ENTRIES_AT)
  await mirror.beginResync('a test')
  const rows = new BatchBuilder(shape.fields)
  for (const values of [
    [1n, 11],
    [4n, 40],
  ])
    values.forEach((value, column) => appendValue(rows.builders[column], value))
  await mirror.appendCopied(rows.view())
  await mirror.finishCopy(30n)
  await engine.apply(watermark(30n))
  const lease = await engine.acquire({ tables: ['public.t'], lsn: 30n, timeoutMs: 10_000 })
  expect(readPlan(lease.tables.get('public.t')!, storage)).toEqual(
    [
      [1n, 11],
      [4n, 40],
    ].map(rowText),
  )
  lease.release()
  await engine.close()
})
