import { expect, test } from 'vitest'
import type { Field, FieldType } from '../types.ts'
import { BatchBuilder } from './batch-builder.ts'
import { conformBatch, constantColumn, isPromotion, promoteField } from './conform.ts'
import type { Value } from './value.ts'
import { appendValue, valueAt } from './values.ts'

const decimal = (precision: number, scale = 2): FieldType => ({ kind: 'decimal', precision, scale })
const listOf = (element: FieldType): FieldType => ({ kind: 'list', elementId: 100, element, elementRequired: false })
const field = (id: number, type: FieldType, initialDefault?: Value): Field => ({
  id,
  name: `f${id}`,
  type,
  required: false,
  ...(initialDefault === undefined ? {} : { initialDefault }),
})

function batchOf(fields: readonly Field[], rows: readonly (readonly Value[])[]) {
  const builder = new BatchBuilder(fields)
  for (const row of rows) row.forEach((value, index) => appendValue(builder.builders[index], value))
  return builder.view()
}

test('values of a promoted type are the same values', () => {
  const before = [field(1, { kind: 'int' }), field(2, { kind: 'float' }), field(3, decimal(5)), field(4, listOf({ kind: 'int' }))]
  const after = [field(4, listOf({ kind: 'long' })), field(3, decimal(20)), field(1, { kind: 'long' }), field(2, { kind: 'double' })]
  const batch = batchOf(before, [
    [-1, 1.5, -12345n, [1, null, -2147483648]],
    [null, null, null, null],
    [2147483647, Infinity, 0n, []],
  ])
  const conformed = conformBatch(batch, after)
  const rows = [0, 1, 2].map((row) => conformed.columns.map((column) => valueAt(column, row)))
  expect(rows).toEqual([
    [[1n, null, -2147483648n], -12345n, -1n, 1.5],
    [null, null, null, null],
    [[], 0n, 2147483647n, Infinity],
  ])
})

test('a struct gains, loses and reorders parts', () => {
  const before: FieldType = { kind: 'struct', fields: [field(10, { kind: 'int' }), field(11, { kind: 'string' })] }
  const after: FieldType = { kind: 'struct', fields: [field(12, { kind: 'string' }), field(10, { kind: 'long' })] }
  expect(isPromotion(before, after)).toBe(true)
  expect(isPromotion(after, before)).toBe(false)
  const conformed = conformBatch(batchOf([field(1, before)], [[[5, 'a']], [null], [[null, 'b']]]), [field(1, after)])
  expect([0, 1, 2].map((row) => valueAt(conformed.columns[0], row))).toEqual([[null, 5n], null, [null, null]])
})

test('a field that the rows lack holds its initial default; one that is gone is left out', () => {
  const batch = batchOf(
    [field(1, { kind: 'string' }), field(2, { kind: 'int' })],
    [
      ['a', 1],
      ['b', 2],
    ],
  )
  const conformed = conformBatch(batch, [field(3, { kind: 'string' }, 'new'), field(1, { kind: 'string' }), field(4, { kind: 'int' })])
  expect([0, 1].map((row) => conformed.columns.map((column) => valueAt(column, row)))).toEqual([
    ['new', 'a', null],
    ['new', 'b', null],
  ])
})

test.each<[FieldType, Value]>([
  [{ kind: 'boolean' }, true],
  [{ kind: 'string' }, 'some text'],
  [{ kind: 'uuid' }, new Uint8Array(16).fill(7)],
  [listOf({ kind: 'string' }), ['x', null]],
  [{ kind: 'long' }, null],
])('a constant column of %o', (type, value) => {
  for (const length of [0, 1, 2, 77]) {
    const column = constantColumn(type, value, length)
    expect(column.length).toBe(length)
    expect(column.nullCount).toBe(value === null ? length : 0)
    for (let row = 0; row < length; row++) expect(valueAt(column, row)).toEqual(value)
  }
})

test('a promoted field keeps its defaults', () => {
  const wide = promoteField({ ...field(1, { kind: 'int' }, 7), writeDefault: 8 }, { kind: 'long' })
  expect(wide).toEqual({ ...field(1, { kind: 'long' }, 7n), writeDefault: 8n })
  expect(promoteField(field(1, decimal(5), 100n), decimal(9))).toEqual(field(1, decimal(9), 100n))
})

test('only Iceberg’s promotions keep every value', () => {
  expect(isPromotion({ kind: 'int' }, { kind: 'long' })).toBe(true)
  expect(isPromotion({ kind: 'long' }, { kind: 'int' })).toBe(false)
  expect(isPromotion(decimal(5), decimal(6))).toBe(true)
  expect(isPromotion(decimal(5), decimal(5))).toBe(false)
  expect(isPromotion(decimal(5), decimal(9, 3))).toBe(false)
  expect(isPromotion({ kind: 'int' }, { kind: 'double' })).toBe(false)
  expect(isPromotion(listOf({ kind: 'float' }), listOf({ kind: 'double' }))).toBe(true)
  expect(isPromotion(listOf({ kind: 'int' }), { kind: 'long' })).toBe(false)
  expect(() => conformBatch(batchOf([field(1, { kind: 'string' })], [['a']]), [field(1, { kind: 'long' })])).toThrow(RangeError)
})
