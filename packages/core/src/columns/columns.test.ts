import fc from 'fast-check'
import { expect, test } from 'vitest'
import { plainKinds, type Field, type FieldType } from '../types.ts'
import { BatchBuilder, gatherBatch, selectFields, sliceBatch } from './batch-builder.ts'
import { ColumnBuilder } from './column-builder.ts'
import type { Value } from './value.ts'
import { appendValue, cellsEqual, valueAt } from './values.ts'

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

const plain: Readonly<Record<(typeof plainKinds)[number], fc.Arbitrary<Value>>> = {
  boolean: fc.boolean(),
  int: fc.integer(),
  date: fc.integer(),
  long: int64,
  time: fc.bigInt({ min: 0n, max: 86_399_999_999n }),
  timestamp: int64,
  timestamptz: int64,
  float: fc.float(),
  double: fc.double(),
  string: fc.string({ unit: 'binary', maxLength: 80 }),
  variant: fc.constantFrom('null', '{}', '[1, 2.50, {"b": "x", "aa": null}]', `"${'x'.repeat(80)}"`),
  binary: fc.uint8Array({ maxLength: 80 }),
  uuid: bytes(16),
}

const cases: [FieldType, fc.Arbitrary<Value>][] = [
  ...plainKinds.map((kind): [FieldType, fc.Arbitrary<Value>] => [{ kind }, plain[kind]]),
  [{ kind: 'decimal', precision: 38, scale: 3 }, fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n })],
  [{ kind: 'fixed', length: 3 }, bytes(3)],
  [
    { kind: 'list', elementId: 2, element: { kind: 'string' }, elementRequired: false },
    fc.array(fc.option(fc.string({ unit: 'binary', maxLength: 5 })), { maxLength: 4 }),
  ],
  [
    {
      kind: 'list',
      elementId: 2,
      element: { kind: 'list', elementId: 3, element: { kind: 'int' }, elementRequired: false },
      elementRequired: false,
    },
    fc.array(fc.option(fc.array(fc.option(fc.integer()), { maxLength: 3 })), { maxLength: 3 }),
  ],
  [{ kind: 'struct', fields: parts() }, struct()],
  [
    { kind: 'list', elementId: 2, element: { kind: 'struct', fields: parts() }, elementRequired: false },
    fc.array(fc.option(struct()), { maxLength: 3 }),
  ],
]

function parts(): Field[] {
  const list: FieldType = { kind: 'list', elementId: 7, element: { kind: 'boolean' }, elementRequired: false }
  const types: FieldType[] = [
    { kind: 'int' },
    { kind: 'string' },
    list,
    { kind: 'struct', fields: [{ id: 8, name: 'd', type: { kind: 'date' }, required: false }] },
  ]
  return types.map((type, index) => ({ id: index + 3, name: 'abcd'[index], type, required: false }))
}

function struct(): fc.Arbitrary<Value> {
  return fc.tuple<Value[]>(
    fc.option(fc.integer()),
    fc.option(fc.string({ maxLength: 5 })),
    fc.option(fc.array(fc.option(fc.boolean()), { maxLength: 3 })),
    fc.option(fc.tuple<Value[]>(fc.option(fc.integer()))),
  )
}

test.each(cases)('%j: appending, ranges, gathers, truncation and views agree with a plain array', (type, value) => {
  const operation = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('append' as const), value: fc.option(value) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('range' as const), from: fc.nat(), to: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('gather' as const), rows: fc.array(fc.nat(), { maxLength: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), to: fc.nat() }) },
  )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 150 }), (operations) => {
      const builder = new ColumnBuilder(type, 1)
      let model: Value[] = []
      let held = builder.view()
      for (const next of operations) {
        if (next.kind === 'append') {
          appendValue(builder, next.value)
          model.push(next.value)
        } else if (next.kind === 'truncate') {
          const length = next.to % (model.length + 1)
          builder.truncate(length)
          model = model.slice(0, length)
          held = builder.view()
        } else if (next.kind === 'range') {
          const from = next.from % (model.length + 1)
          const to = from + (next.to % (model.length - from + 1))
          builder.appendRange(builder.view(), from, to)
          model.push(...model.slice(from, to))
        } else if (model.length > 0) {
          const rows = Uint32Array.from(next.rows, (row) => row % model.length)
          builder.appendGather(builder.view(), rows)
          model.push(...Array.from(rows, (row) => model[row]!))
        }
      }
      const column = builder.view()
      expect(column.length).toBe(model.length)
      expect(column.nullCount).toBe(model.filter((item) => item === null).length)
      expect(Array.from(model, (_, row) => valueAt(column, row))).toEqual(model)
      for (let row = 0; row < held.length; row++) expect(valueAt(held, row)).toEqual(model[row])
      if (model.length > 1) expect(cellsEqual(column, 0, column, 1)).toBe(sameValue(model[0], model[1]))
    }),
    { numRuns: 60 },
  )
})

test('batches are gathered, sliced and projected without touching their source', () => {
  const fields = [
    { id: 1, name: 'id', type: { kind: 'int' as const }, required: true },
    { id: 2, name: 'note', type: { kind: 'string' as const }, required: false },
  ]
  const builder = new BatchBuilder(fields)
  for (let row = 0; row < 20; row++) {
    appendValue(builder.builders[0], row)
    appendValue(builder.builders[1], row % 3 === 0 ? null : `n${row}`)
  }
  const batch = builder.view()
  const gathered = gatherBatch(batch, Uint32Array.of(3, 4, 5, 19))
  expect([0, 1, 2, 3].map((row) => [valueAt(gathered.columns[0], row), valueAt(gathered.columns[1], row)])).toEqual([
    [3, null],
    [4, 'n4'],
    [5, 'n5'],
    [19, 'n19'],
  ])
  expect(sliceBatch(batch, 7, 9).length).toBe(2)
  expect(selectFields(batch, [2]).fields.map((field) => field.name)).toEqual(['note'])
  expect(() => selectFields(batch, [9])).toThrow('no field 9')
})

function sameValue(a: Value, b: Value): boolean {
  if (a === null || b === null) return a === b
  if (a instanceof Uint8Array) return Buffer.from(a).equals(Buffer.from(b as Uint8Array))
  if (Array.isArray(a))
    return a.length === (b as Value[]).length && a.every((item, index) => sameValue(item as Value, (b as Value[])[index]))
  return Object.is(a, b)
}

test('runs that a decoder writes by itself lie beside values appended one by one, in memory that threads share', () => {
  const builder = new ColumnBuilder({ kind: 'string' }, 4000, { shared: true })
  const values: string[] = []
  for (let round = 0; round < 5; round++) {
    const texts = Array.from({ length: 300 }, (_, index) => `value ${round} ${index}`)
    const { row, values: bytes, offsets } = builder.openRun(texts.length, texts.join('').length)
    let at = offsets![row]
    texts.forEach((text, index) => {
      bytes.set(Buffer.from(text), at)
      offsets![row + index + 1] = at += text.length
    })
    builder.commitRun(texts.length)
    appendValue(builder, `one ${round}`)
    values.push(...texts, `one ${round}`)
  }
  const column = builder.view()
  expect(Array.from({ length: column.length }, (_, row) => valueAt(column, row))).toEqual(values)
  expect(column.values.buffer).toBeInstanceOf(SharedArrayBuffer)
  expect(column.offsets!.buffer).toBeInstanceOf(SharedArrayBuffer)
  // Room is made once for all the rows that there is room for, as soon as some tell how large they are.
  expect(builder.byteSize).toBeLessThan(4001 * 4 + 4000 * 16)
  expect(builder.byteSize).toBeGreaterThan(4001 * 4 + 4000 * 11)
})
