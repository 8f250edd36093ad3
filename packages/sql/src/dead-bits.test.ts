import type { Field } from '@moonlink/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import { ModelTable, type Row } from './testing/model-table.ts'

const fields: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'note', type: { kind: 'string' }, required: false },
]
const SQL = 'SELECT count(*), sum(id), max(note) FROM things WHERE id >= 10'

let fixture: Fixture
beforeEach(async () => {
  fixture = await Fixture.open({ minMaskedRows: 1_000_000, minDeadBits: 100 })
})
afterEach(() => fixture.close())

function numbered(from: number, to: number): Row[] {
  return Array.from({ length: to - from }, (_, index) => [BigInt(from + index), `note ${from + index}`])
}

function expected(table: ModelTable, lsn: bigint): unknown[] {
  const rows = table.expected(lsn).filter(([id]) => (id as bigint) >= 10n)
  const notes = rows.map(([, note]) => note as string)
  return [rows.length, rows.reduce((sum, [id]) => sum + Number(id), 0), notes.reduce((a, b) => (a > b ? a : b))]
}

describe('dead rows as bits', () => {
  test('are used from some number of dead rows on, and not by plans older than they are', async () => {
    const table = fixture.table({ schema: 'public', name: 'things' }, fields)
    for (let file = 0; file < 3; file++) await table.addFile(numbered(file * 70_000, (file + 1) * 70_000))
    const plan = async (lsn: bigint) => {
      expect(await fixture.rows(SQL, { lsn })).toEqual([expected(table, lsn)])
      return ((await fixture.rows(`EXPLAIN ${SQL}`, { lsn }))[0][1] as string).includes('get_bit')
    }
    table.remove(([id]) => Number(id) % 10_000 === 7)
    expect(await plan(table.lsn)).toBe(false)
    const few = table.lsn
    table.remove(([id]) => Number(id) % 100 === 3 || Number(id) === 209_999)
    expect(await plan(table.lsn)).toBe(true)
    const many = table.lsn
    expect(await plan(few)).toBe(false)
    table.remove(([id]) => Number(id) % 5000 === 11 || (Number(id) > 69_990 && Number(id) < 70_010))
    expect(await plan(table.lsn)).toBe(true)
    expect(await plan(many)).toBe(true)
    await table.addFile(numbered(210_000, 220_000))
    table.remove(([id]) => Number(id) % 1000 === 999)
    expect(await plan(table.lsn)).toBe(true)
    table.remove(([id]) => Number(id) % 3 === 0)
    expect(await plan(table.lsn)).toBe(true)
    expect(await plan(many)).toBe(false)
  }, 60_000)
})
