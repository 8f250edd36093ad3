import { appendValue, BatchBuilder, type Column, type ColumnBatch, type Field, type FieldType, type Value } from '@moonlink/core'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createKeyHasher } from './key-hasher.ts'

const field = (type: FieldType, required = true): Field => ({ id: 1, name: 'k', type, required })
const list = (element: FieldType): FieldType => ({ kind: 'list', elementId: 2, element, elementRequired: false })

function batchOf(fields: readonly Field[], rows: readonly (readonly Value[])[]): ColumnBatch {
  const builder = new BatchBuilder(fields)
  for (const row of rows) row.forEach((value, index) => appendValue(builder.builders[index], value))
  return builder.view()
}

/** Hashes as hexadecimal text, high half first. */
function hashesOf(fields: readonly Field[], rows: readonly (readonly Value[])[]): string[] {
  const { low, high, length } = createKeyHasher(fields).hash(batchOf(fields, rows), 0, rows.length)
  return Array.from({ length }, (_, row) => hex(high[row]) + hex(low[row]))
}

const hex = (half: number) => half.toString(16).padStart(8, '0')
const bytes = (text: string) => Uint8Array.from(text, (digit) => Number.parseInt(digit, 16))

const EVERY_TYPE: readonly [FieldType, readonly Value[]][] = [
  [{ kind: 'boolean' }, [false, true]],
  [{ kind: 'int' }, [0, 1, -1, 2147483647]],
  [{ kind: 'date' }, [0, 1, -1, 19000]],
  [{ kind: 'long' }, [0n, 1n, -1n, 1n << 32n, (1n << 63n) - 1n]],
  [{ kind: 'time' }, [0n, 1n, 86_399_999_999n]],
  [{ kind: 'timestamp' }, [0n, 1n, -1n, 1_700_000_000_000_000n]],
  [{ kind: 'timestamptz' }, [0n, 1n, -1n, 1_700_000_000_000_000n]],
  [{ kind: 'float' }, [0, -0, 1, Number.NaN, Number.POSITIVE_INFINITY]],
  [{ kind: 'double' }, [0, -0, 1, Number.NaN, 0.1, Number.NEGATIVE_INFINITY]],
  [{ kind: 'decimal', precision: 38, scale: 2 }, [0n, 1n, -1n, 1n << 32n, 1n << 64n, 1n << 100n]],
  [{ kind: 'string' }, ['', '\0', '\0\0', 'a', 'ab', 'abc', 'abcd', 'abcde', 'abcd\0']],
  [{ kind: 'binary' }, [bytes(''), bytes('0'), bytes('00'), bytes('123'), bytes('12345678')]],
  [{ kind: 'uuid' }, [bytes('0123456789abcdef'), bytes('1123456789abcdef'), bytes('0123456789abcdee')]],
  [{ kind: 'fixed', length: 3 }, [bytes('000'), bytes('001'), bytes('100')]],
  [{ kind: 'fixed', length: 11 }, [bytes('00000000000'), bytes('00000000001'), bytes('10000000000')]],
  [list({ kind: 'int' }), [[], [null], [0], [0, 0], [0, null], [1, 0], [0, 1]]],
  [list({ kind: 'boolean' }), [[], [null], [false], [true], [false, true], [true, false]]],
  [list({ kind: 'string' }), [[], [null], [''], ['', ''], ['ab'], ['a', 'b'], ['b', 'a'], ['a', 'b', null]]],
]

describe('equal keys', () => {
  test.each(EVERY_TYPE)('%j: every two of its values, and null, differ, wherever they stand', (type, values) => {
    const all = [...values, null]
    const fields = [field(type, false)]
    const alone = all.map((value) => hashesOf(fields, [[value]])[0])
    expect(new Set(alone).size).toBe(all.length)
    const doubled = [...all, ...all].map((value) => [value])
    expect(hashesOf(fields, doubled)).toEqual([...alone, ...alone])
  })

  test('nullability of the field does not count', () => {
    const type: FieldType = { kind: 'string' }
    expect(hashesOf([field(type, false)], [['abc']])).toEqual(hashesOf([field(type, true)], [['abc']]))
  })

  test('a value belongs to its column', () => {
    const fields = [field({ kind: 'string' }, false), field({ kind: 'string' }, false)]
    const rows = [
      ['ab', 'c'],
      ['a', 'bc'],
      ['abc', ''],
      ['', 'abc'],
      ['abc', null],
      [null, 'abc'],
      [null, null],
      ['', ''],
      ['', null],
      [null, ''],
    ]
    expect(new Set(hashesOf(fields, rows)).size).toBe(rows.length)
  })

  test('a part of a batch hashes as the rows do, into arrays that are used again', () => {
    const fields = [field({ kind: 'string' }), field({ kind: 'boolean' }, false), field(list({ kind: 'int' }))]
    const rows = Array.from({ length: 50 }, (_, i) => [`key ${i % 20}`, i % 3 === 0 ? null : i % 2 === 0, [i % 20, null]])
    const whole = createKeyHasher(fields).hash(batchOf(fields, rows), 0, 50)
    const into = { low: new Uint32Array(60), high: new Uint32Array(60), length: 0 }
    const arrays = { ...into }
    for (const [from, to] of [
      [0, 50],
      [7, 9],
      [13, 50],
      [50, 50],
    ] as const) {
      const part = createKeyHasher(fields).hash(batchOf(fields, rows), from, to, into)
      expect(part).toBe(into)
      expect(part.low).toBe(arrays.low)
      expect(part.length).toBe(to - from)
      expect(part.low.slice(0, to - from)).toEqual(whole.low.slice(from, to))
      expect(part.high.slice(0, to - from)).toEqual(whole.high.slice(from, to))
    }
    const small = createKeyHasher(fields).hash(batchOf(fields, rows), 0, 50, {
      low: new Uint32Array(1),
      high: new Uint32Array(1),
      length: 1,
    })
    expect(small.low.slice(0, 50)).toEqual(whole.low.slice(0, 50))
  })

  test('values that start anywhere in their buffer hash alike', () => {
    const { columns, fields } = batchOf([field({ kind: 'string' })], [['padding'], ['x'], ['the value'], ['y']])
    const shifted: Column = { ...columns[0], length: 2, offsets: columns[0].offsets!.subarray(2) }
    const { low, high } = createKeyHasher(fields).hash({ fields, columns: [shifted], length: 2 }, 0, 2)
    expect(hex(high[0]) + hex(low[0])).toBe(hashesOf(fields, [['the value']])[0])
  })

  test('whole rows of any kind: equal hashes exactly for equal rows', () => {
    const fields = EVERY_TYPE.map(([type]) => field(type, false))
    const row = fc.tuple(...EVERY_TYPE.map(([, values]) => fc.constantFrom(null, ...values)))
    fc.assert(
      fc.property(row, row, fc.nat({ max: fields.length - 1 }), (a, b, column) => {
        const c = [...a]
        c[column] = b[column]!
        const [hashA, hashB, hashC, again] = hashesOf(fields, [a, b, c, a])
        expect(again).toBe(hashA)
        expect(hashB === hashA).toBe(sameRow(a, b))
        expect(hashC === hashA).toBe(sameRow(a, c))
      }),
      { numRuns: 300 },
    )
  })
})

function sameRow(a: readonly Value[], b: readonly Value[]): boolean {
  return a.every((value, index) => sameValue(value, b[index]))
}

function sameValue(a: Value, b: Value): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && sameRow(a, b)
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0
  return Object.is(a, b)
}

describe('exact hashers', () => {
  test.each<[boolean, readonly Field[]]>([
    [true, [field({ kind: 'int' })]],
    [true, [field({ kind: 'long' })]],
    [true, [field({ kind: 'int' }), field({ kind: 'int' })]],
    [true, [field({ kind: 'boolean' }), field({ kind: 'int' }), field({ kind: 'boolean' })]],
    [true, [field({ kind: 'fixed', length: 7 }), field({ kind: 'boolean' })]],
    [true, [field({ kind: 'double' })]],
    [false, [field({ kind: 'int' }), field({ kind: 'int' }), field({ kind: 'boolean' })]],
    [false, [field({ kind: 'long' }, false)]],
    [false, [field({ kind: 'string' })]],
    [false, [field({ kind: 'uuid' })]],
    [false, [field({ kind: 'decimal', precision: 4, scale: 0 })]],
    [false, [field(list({ kind: 'int' }))]],
    [false, []],
  ])('%s for %j', (exact, fields) => {
    expect(createKeyHasher(fields).exact).toBe(exact)
  })

  test('never give two keys the same hash, however the key is laid out', () => {
    const layouts: readonly (readonly [FieldType, readonly Value[]])[][] = [
      [[{ kind: 'long' }, Array.from({ length: 3000 }, (_, i) => BigInt(i - 1500) * 4_294_967_291n)]],
      [
        [{ kind: 'int' }, Array.from({ length: 60 }, (_, i) => (i - 30) * 65_537)],
        [{ kind: 'date' }, Array.from({ length: 60 }, (_, i) => i - 30)],
      ],
      [
        [{ kind: 'boolean' }, [false, true]],
        [{ kind: 'int' }, Array.from({ length: 200 }, (_, i) => (i - 100) * 12_345_677)],
        [{ kind: 'boolean' }, [false, true]],
        [{ kind: 'fixed', length: 2 }, [bytes('00'), bytes('01'), bytes('10'), Uint8Array.of(255, 255)]],
      ],
    ]
    for (const layout of layouts) {
      const fields = layout.map(([type]) => field(type))
      expect(createKeyHasher(fields).exact).toBe(true)
      const rows = layout.reduce<readonly (readonly Value[])[]>(
        (sofar, [, values]) => sofar.flatMap((row) => values.map((value) => [...row, value])),
        [[]],
      )
      expect(new Set(hashesOf(fields, rows)).size).toBe(rows.length)
    }
  })
})

describe('spread', () => {
  // 200,000 keys: two of 2^32 values are equal for about 4.7 pairs by chance, of 2^64 for none.
  const count = 200_000
  const families: readonly [string, Field, (i: number) => Value][] = [
    ['small integers', field({ kind: 'long' }), BigInt],
    ['multiples of 2^32', field({ kind: 'long' }), (i) => BigInt(i) << 32n],
    ['numbered names', field({ kind: 'string' }), (i) => `customer-${i}`],
    [
      'long text that differs in the middle',
      field({ kind: 'string' }),
      (i) => `${'a'.repeat(40)}${i.toString(2).padStart(18, '0')}${'z'.repeat(40)}`,
    ],
    [
      'uuids that count',
      field({ kind: 'uuid' }),
      (i) => Uint8Array.from({ length: 16 }, (_, at) => (at < 12 ? 7 : (i >> ((15 - at) * 8)) & 255)),
    ],
    ['decimals', field({ kind: 'decimal', precision: 20, scale: 2 }), (i) => BigInt(i) * 100n],
  ]

  test.each(families)('%s: as good as random in either half and in any 17 bits', (_name, keyField, valueOf) => {
    const builder = new BatchBuilder([keyField], count)
    for (let i = 0; i < count; i++) appendValue(builder.builders[0], valueOf(i))
    const { low, high } = createKeyHasher([keyField]).hash(builder.view(), 0, count)
    const pairs = new Float64Array(count)
    for (let i = 0; i < count; i++) pairs[i] = (high[i] & 0xf_ffff) * 2 ** 32 + low[i]
    expect(count - new Set(pairs).size).toBe(0)
    for (const half of [low.subarray(0, count), high.subarray(0, count)]) {
      expect(count - new Set(half).size).toBeLessThan(20)
      for (const shift of [0, 8, 15]) expect(chiSquare(half, shift)).toBeLessThan(1.05)
    }
  })

  /** Chi-square a degree of freedom over 2^17 buckets; 1 ± 0.004 for random values. */
  function chiSquare(values: Uint32Array, shift: number): number {
    const buckets = new Uint32Array(1 << 17)
    for (const value of values) buckets[(value >>> shift) & 0x1_ffff]++
    const expected = values.length / buckets.length
    return buckets.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0) / (buckets.length - 1)
  }
})

test('hashes stay the same for good: they are stored', () => {
  const samples: readonly [FieldType, Value][] = [
    [{ kind: 'int' }, 42],
    [{ kind: 'long' }, -2n],
    [{ kind: 'boolean' }, true],
    [{ kind: 'string' }, 'customer-42'],
    [{ kind: 'string' }, ''],
    [{ kind: 'uuid' }, bytes('0123456789abcdef')],
    [{ kind: 'decimal', precision: 10, scale: 2 }, 1234n],
    [list({ kind: 'string' }), ['a', null, 'bcdef']],
    [{ kind: 'struct', fields: [field({ kind: 'int' }, false), { ...field({ kind: 'string' }, false), name: 's' }] }, [7, null]],
  ]
  expect(samples.map(([type, value]) => hashesOf([field(type)], [[value]])[0])).toMatchInlineSnapshot(`
    [
      "3c8e9b78e1fce331",
      "19256fb4f6d52db1",
      "5c09f8c810806057",
      "bf798086d1d06cc2",
      "16b42cc340ddd2e0",
      "43d4f33699c6de57",
      "b18bbc20dd083650",
      "207632967a84131c",
      "83da56ec3c3f04cb",
    ]
  `)
  expect(hashesOf([field({ kind: 'int' }), field({ kind: 'string' }, false)], [[7, null]])).toMatchInlineSnapshot(`
    [
      "81e62b1dd4bf30be",
    ]
  `)
})
