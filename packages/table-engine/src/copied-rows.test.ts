import { BatchBuilder, type ColumnBatch, type CopyRange, type DataFileWriter, type Field, type TableStorage } from '@moonlink/core'
import { expect, test } from 'vitest'
import { CopiedRows } from './copied-rows.ts'
import type { CopiedFile } from './copy-record.ts'
import { defaultEngineLimits } from './limits.ts'
import { GROUP_ROWS } from './row-groups.ts'

const fields: Field[] = [{ id: 1, name: 'id', type: { kind: 'int' }, required: true }]
const [low, high]: CopyRange[] = [
  { from: 0, to: 100 },
  { from: 100, to: null },
]

function rows(from: number, count: number): ColumnBatch {
  const builder = new BatchBuilder(fields)
  for (let id = from; id < from + count; id++) builder.builders[0].appendInt32(id)
  return builder.view()
}

function firstValue({ columns: [{ values }] }: ColumnBatch): number {
  return new DataView(values.buffer, values.byteOffset).getInt32(0, true)
}

/** Row groups of each file that is copied to, as first value and rows. */
function copying() {
  const groups: [first: number, rows: number][][] = []
  const written: CopiedFile[] = []
  const done: CopyRange[] = []
  const createFile = (): DataFileWriter => {
    const file: (typeof groups)[number] = []
    groups.push(file)
    return {
      path: `file ${groups.length}`,
      get recordCount() {
        return file.reduce((sum, [, count]) => sum + count, 0)
      },
      byteSize: 0,
      append: async (batch) => void file.push([firstValue(batch), batch.length]),
      async finish() {
        return { path: this.path, recordCount: this.recordCount, sizeBytes: 0, metrics: null }
      },
    }
  }
  const copied = new CopiedRows({
    schema: { fields, identifierFieldIds: [] },
    storage: { createFile } as Partial<TableStorage> as TableStorage,
    identity: null,
    limits: defaultEngineLimits,
    sealedFiles: null as never,
    write: (_, put) => put(),
    onFile: async (file) => void written.push(file),
    onDone: async (range) => void done.push(range),
  })
  return { copied, groups, written, done }
}

test('the short ends of ranges share a row group behind the whole ones', async () => {
  const { copied, done, groups, written } = copying()
  await copied.append(rows(0, GROUP_ROWS), low)
  await copied.append(rows(1_000_000, 10), high)
  await copied.append(rows(200_000, 5), low)
  await copied.finishRange(low)
  expect([copied.rowCount, copied.bufferedRows]).toEqual([GROUP_ROWS + 15, GROUP_ROWS + 15])
  await copied.append(rows(2_000_000, GROUP_ROWS), high)
  await copied.finishRange(high)
  expect(done).toEqual([])
  await copied.finish()
  expect(groups).toEqual([
    [
      [0, GROUP_ROWS],
      [2_000_000, GROUP_ROWS],
      [1_000_000, 15],
    ],
  ])
  expect(written.map(({ runs }) => runs)).toEqual([
    [
      { range: low, count: GROUP_ROWS },
      { range: high, count: GROUP_ROWS + 10 },
      { range: low, count: 5 },
    ],
  ])
  expect(done).toEqual([low, high])
})

test('what is held is cut where it fills a row group', async () => {
  const { copied, groups, written } = copying()
  await copied.append(rows(0, GROUP_ROWS - 100), low)
  await copied.append(rows(1_000_000, 300), high)
  await copied.append(rows(300_000, 50), low)
  await copied.finish()
  expect(groups).toEqual([
    [
      [0, GROUP_ROWS],
      [1_000_100, 250],
    ],
  ])
  expect(written[0].runs).toEqual([
    { range: low, count: GROUP_ROWS - 100 },
    { range: high, count: 300 },
    { range: low, count: 50 },
  ])
})

test('an open file has the range of rows that are held', async () => {
  const { copied, done } = copying()
  await copied.append(rows(0, 10), low)
  await copied.finishRange(low)
  expect(done).toEqual([])
  await copied.finish()
  expect(done).toEqual([low])
})
