import { appendValue, BatchBuilder, valueAt, type DataFile, type Field } from '@moonlink/core'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { OldValues } from './old-values.ts'

const fields: Field[] = [
  { id: 1, name: 'id', type: { kind: 'int' }, required: true },
  { id: 2, name: 'body', type: { kind: 'string' }, required: false },
]

async function storageOf(counts: readonly number[]): Promise<{ storage: MemoryTableStorage; files: readonly DataFile[] }> {
  const storage = new MemoryTableStorage({ schema: 'public', name: 't' }, { fields, identifierFieldIds: [1] })
  for (const [index, count] of counts.entries()) {
    const rows = new BatchBuilder(fields)
    for (let row = 0; row < count; row++) {
      appendValue(rows.builders[0], row)
      appendValue(rows.builders[1], row % 7 === 0 ? null : `body ${index} ${row}`.padEnd(60))
    }
    const staged = await storage.writeFile({ rows: rows.view(), rowIds: null, lastUpdated: null })
    await storage.commit({ kind: 'append', addFiles: [staged], removeFiles: [], vectors: [], lsn: BigInt(index + 1) })
  }
  return { storage, files: storage.snapshot.files }
}

test('a file that many rows are asked of is read once; what is kept stays within its bound, and the values are the same', async () => {
  const { storage, files } = await storageOf([800, 800, 100_000])
  const fetched = vi.spyOn(storage, 'fetchRows')
  const values = new OldValues(300_000)
  const check = async (file: number, positions: number[]) => {
    const { columns, at } = await values.fetch(storage, files[file], Uint32Array.from(positions), [fields[1]])
    for (const row of positions) {
      expect(valueAt(columns[0], at(row))).toBe(row % 7 === 0 ? null : `body ${file} ${row}`.padEnd(60))
    }
    expect(values.byteSize).toBeLessThanOrEqual(300_000)
  }
  for (let round = 0; round < 20; round++) {
    const positions = Array.from({ length: 40 }, (_, index) => index * 20 + round)
    await check(0, positions)
    await check(1, positions)
  }
  expect(values.byteSize).toBeGreaterThan(80_000)
  // A few rows at first, then all of a file once.
  expect(fetched.mock.calls.length).toBeLessThanOrEqual(8)
  // A file larger than the bound is never kept.
  for (let round = 0; round < 5; round++)
    await check(
      2,
      Array.from({ length: 20_000 }, (_, index) => index * 5 + round),
    )
  expect(fetched.mock.calls.filter(([file]) => file === files[2]).length).toBe(5)
  await check(0, [3, 77])
  values.clear()
  expect(values.byteSize).toBe(0)
  await check(0, [3, 77])
})
