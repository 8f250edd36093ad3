import { appendValue, BatchBuilder, valueAt, type Lsn } from '@moonlink/core'
import { tableFromIPC } from 'apache-arrow'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { toIpcStream } from './arrow.ts'
import { NO_ROW_ID, RowBuffer } from './row-buffer.ts'

const fields = [
  { id: 1, name: 'id', type: { kind: 'int' as const }, required: true },
  { id: 2, name: 'note', type: { kind: 'string' as const }, required: false },
  { id: 3, name: 'amount', type: { kind: 'decimal' as const, precision: 38, scale: 2 }, required: false },
  {
    id: 4,
    name: 'tags',
    type: { kind: 'list' as const, elementId: 5, element: { kind: 'long' as const }, elementRequired: false },
    required: false,
  },
  {
    id: 6,
    name: 'place',
    type: { kind: 'struct' as const, fields: [{ id: 7, name: 'street', type: { kind: 'string' as const }, required: false }] },
    required: false,
  },
]

function batchOf(rows: readonly number[]) {
  const builder = new BatchBuilder(fields)
  for (const row of rows) {
    appendValue(builder.builders[0], row)
    appendValue(builder.builders[1], row % 4 === 0 ? null : `note ${row}`)
    appendValue(builder.builders[2], row % 5 === 0 ? null : BigInt(row) * -(10n ** 20n))
    appendValue(builder.builders[3], row % 3 === 0 ? null : [BigInt(row), null])
    appendValue(builder.builders[4], row % 7 === 0 ? null : [row % 2 === 0 ? null : `street ${row}`])
  }
  return builder.view()
}

test('the rows at an LSN are the rows of the transactions that ended by then', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ rows: fc.array(fc.integer(), { maxLength: 9 }), gap: fc.integer({ min: 1, max: 9 }) })),
      (transactions) => {
        const buffer = new RowBuffer(fields, 1)
        const counts: [Lsn, number][] = [[0n, 0]]
        let lsn = 0n
        for (const { rows, gap } of transactions) {
          lsn += BigInt(gap)
          buffer.append(batchOf(rows))
          expect(buffer.rowCountAt(lsn)).toBe(counts.at(-1)![1])
          buffer.mark(lsn)
          counts.push([lsn, buffer.rowCount])
        }
        for (let at = 0n; at <= lsn; at++) expect(buffer.rowCountAt(at)).toBe(counts.findLast(([end]) => end <= at)![1])
      },
    ),
  )
})

test('keeps row ids where they are set, and only there', () => {
  const buffer = new RowBuffer(fields)
  buffer.append(batchOf([1, 2, 3]))
  expect(buffer.hasRowIds).toBe(false)
  buffer.setRowId(2, 77)
  buffer.append(batchOf(Array.from({ length: 200 }, (_, row) => row)))
  buffer.setRowId(150, 78)
  expect([0, 2, 150, 151].map((row) => buffer.rowIdAt(row))).toEqual([NO_ROW_ID, 77, 78, NO_ROW_ID])
})

test('the Arrow stream holds the same values', () => {
  const buffer = new RowBuffer(fields)
  const rows = Array.from({ length: 300 }, (_, row) => row)
  buffer.append(batchOf(rows))
  const view = buffer.view()
  const table = tableFromIPC(toIpcStream(view))
  expect(table.schema.fields.map((field) => field.metadata.get('PARQUET:field_id'))).toEqual(['1', '2', '3', '4', '6'])
  for (const row of rows) {
    expect(table.getChild('id')!.get(row)).toBe(row)
    expect(table.getChild('note')!.get(row)).toBe(valueAt(view.columns[1], row))
    const tags = table.getChild('tags')!.get(row) as { toArray(): unknown } | null
    expect(tags === null).toBe(row % 3 === 0)
    const place = table.getChild('place')!.get(row) as { toJSON(): object } | null
    expect(place === null ? null : Object.values(place.toJSON())).toEqual(valueAt(view.columns[4], row))
  }
})

test('cells are filled in from other columns, from earlier rows, and from rows of the same batch', () => {
  const values = (count: number) => fc.array(fc.nat(100), { minLength: count, maxLength: count })
  fc.assert(
    fc.property(
      values(5),
      values(12),
      values(7),
      fc.array(fc.nat(2), { minLength: 12, maxLength: 12 }),
      (before, own, elsewhere, kinds) => {
        const buffer = new RowBuffer(fields)
        buffer.append(batchOf(before))
        const other = batchOf(elsewhere)
        const expected = [...before, ...own]
        const filledRows = kinds.flatMap((kind, row) => (kind > 0 ? [row] : []))
        const sourceRows = filledRows.map((row) => (kinds[row] === 1 ? own[row] % elsewhere.length : own[row] % (before.length + row)))
        filledRows.forEach((row, cell) => {
          expected[before.length + row] = kinds[row] === 1 ? elsewhere[sourceRows[cell]] : expected[sourceRows[cell]]
        })
        const cells = (column: number) => ({
          column,
          rows: Uint32Array.from(filledRows),
          sources: filledRows.map((row) => (kinds[row] === 1 ? other.columns[column] : null)),
          sourceRows,
        })
        expect(buffer.appendFilled(batchOf(own), [cells(1), cells(3), cells(4)])).toBe(before.length)
        const seen = buffer.view()
        const wanted = batchOf(expected)
        for (const column of [1, 3, 4]) {
          for (let row = 0; row < expected.length; row++) {
            expect(valueAt(seen.columns[column], row)).toEqual(valueAt(wanted.columns[column], row))
          }
        }
        expect(Array.from(own, (_, row) => valueAt(seen.columns[0], before.length + row))).toEqual(own)
      },
    ),
  )
})
