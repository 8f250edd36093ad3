import type { Field, FieldType, Value } from '@moonlink/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import { listOf } from './testing/sample-values.ts'

let fixture: Fixture
beforeAll(async () => {
  fixture = await Fixture.open()
})
afterAll(() => fixture.close())

const field = (id: number, name: string, type: FieldType, initialDefault?: Value): Field => ({
  id,
  name,
  type,
  required: false,
  ...(initialDefault === undefined ? {} : { initialDefault }),
})
const long: FieldType = { kind: 'long' }
const text: FieldType = { kind: 'string' }

test('files and tails of earlier schemas show the columns of the present one', async () => {
  const oldFields = [
    field(1, 'id', { kind: 'int' }),
    field(2, 'a', text),
    field(3, 'b', { kind: 'float' }),
    field(4, 'price', { kind: 'decimal', precision: 4, scale: 2 }),
  ]
  const newFields = [
    field(1, 'id', long),
    // Two columns changed names, and a dropped name came back as another column.
    field(2, 'b', text),
    field(9, 'a', { kind: 'int' }, 7),
    field(4, 'price', { kind: 'decimal', precision: 30, scale: 2 }),
    field(10, 'note', text, "it's new"),
  ]
  const table = fixture.table({ schema: 'public', name: 'evolving' }, oldFields)
  table.insert([
    [1, 'x', 1.5, 9999n],
    [2, null, null, null],
  ])
  await table.flush()
  table.insert([[3, 'tail', 2.5, -1n]])
  table.freeze()
  table.fields = newFields
  table.insert([[4n, 'y', 8, 10n ** 29n, null]])
  await table.addFile([[2n ** 60n, 'z', null, null, 'set']])
  const rows = [
    [1, 'x', 7, '99.99', "it's new"],
    [2, null, 7, null, "it's new"],
    [3, 'tail', 7, '-0.01', "it's new"],
    [4, 'y', 8, '1000000000000000000000000000.00', null],
    [2n ** 60n, 'z', null, null, 'set'],
  ]
  const seen = await fixture.rows('SELECT * FROM evolving ORDER BY id')
  expect(seen).toEqual(rows)
  expect(table.remove(([id]) => id === 1 || id === 4n)).toBe(2)
  expect(await fixture.rows('SELECT id FROM evolving ORDER BY id')).toEqual([[2], [3], [2n ** 60n]])
  expect(await fixture.rows('SELECT count(*) FROM evolving WHERE a = 7')).toEqual([[2]])
})

test.each<[FieldType, Value, unknown]>([
  [{ kind: 'boolean' }, true, true],
  [{ kind: 'int' }, -5, -5],
  [long, 2n ** 62n, 2n ** 62n],
  [{ kind: 'float' }, 0.1, 0.1],
  [{ kind: 'double' }, 0.1, 0.1],
  [{ kind: 'decimal', precision: 38, scale: 10 }, -123n, '-0.0000000123'],
  [{ kind: 'date' }, -719_162, '0001-01-01'],
  [{ kind: 'time' }, 86_399_999_999n, '23:59:59.999999'],
  [{ kind: 'timestamp' }, 1_764_000_000_123_456n, '2025-11-24 16:00:00.123456'],
  [{ kind: 'timestamptz' }, -1n, '1969-12-31 23:59:59.999999+00'],
  [text, "a\\x00 'quoted' ✓", "a\\x00 'quoted' ✓"],
  [{ kind: 'uuid' }, Uint8Array.from({ length: 16 }, (_, index) => index * 16), '00102030-4050-6070-8090-a0b0c0d0e0f0'],
  [{ kind: 'binary' }, Uint8Array.of(0, 255, 92), '\\x00ff5c'],
  [{ kind: 'fixed', length: 2 }, Uint8Array.of(1, 2), '\\x0102'],
])('the default of a column of %o', async (type, value, cell) => {
  const before = [field(1, 'id', long)]
  const name = `default_${type.kind}`
  const table = fixture.table({ schema: 'public', name }, before)
  table.insert([[1n]])
  await table.flush()
  table.fields = [...before, field(2, 'added', type, value)]
  expect(await fixture.rows(`SELECT added FROM ${name}`)).toEqual([[cell]])
})

test.each(['memory', 'a file', 'a file with names that differ by case'])(
  'structs in %s gain, lose, rename and widen parts, within lists too',
  async (where) => {
    const struct = (...parts: [number, string, FieldType][]): FieldType => ({
      kind: 'struct',
      fields: parts.map(([id, name, type]) => ({ id, name, type, required: false })),
    })
    const before = (base: number) =>
      struct([base, 'a', { kind: 'int' }], [base + 1, 'b', text], [base + 2, 'c', struct([base + 4, 'deep', long])])
    const after = (base: number) => struct([base + 1, 'a', text], [base, 'n', long], [base + 3, 'd', text])
    const byCase = where.includes('case')
    const many = byCase ? 'ONE' : 'many'
    const fields = [field(1, 'one', before(20)), field(2, many, listOf(before(30)))]
    const table = fixture.table({ schema: 'public', name: `structs in ${where}` }, fields)
    table.insert([
      [
        [1, 'x', [5n]],
        [[2, 'y', null], null, [null, null, null]],
      ],
      [null, null],
    ])
    if (where === 'memory') table.freeze()
    else await table.flush()
    table.fields = [field(1, 'one', after(20)), field(2, many, listOf(after(30)))]
    table.insert([[['new', 2n ** 40n, 'd'], []]])
    expect(await fixture.rows(`SELECT * FROM "structs in ${where}"`)).toEqual([
      [{ a: 'x', n: 1, d: null }, [{ a: 'y', n: 2, d: null }, null, { a: null, n: null, d: null }]],
      [null, null],
      [{ a: 'new', n: 2 ** 40, d: 'd' }, []],
    ])
  },
)

test('a struct that has lost each of its parts is still told from a null, where names differ only by case', async () => {
  const struct = (id: number, name: string, type: FieldType): FieldType => ({
    kind: 'struct',
    fields: [{ id, name, type, required: false }],
  })
  const table = fixture.table({ schema: 'public', name: 'parts_gone' }, [
    field(1, 'one', struct(20, 'a', listOf(struct(30, 'deep', text)))),
    field(2, 'ONE', long),
  ])
  table.insert([
    [[[['x']]], 1n],
    [null, 2n],
  ])
  await table.flush()
  table.fields = [field(1, 'one', struct(21, 'b', text)), field(2, 'ONE', long)]
  expect(await fixture.rows('SELECT "one" FROM parts_gone')).toEqual([[{ b: null }], [null]])
})
