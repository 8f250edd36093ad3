import type { FieldType, Value } from '@moonlink/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { defaultFromJson, defaultToJson } from './default-json.ts'

const decimal: FieldType = { kind: 'decimal', precision: 9, scale: 2 }

// Values and texts of the Iceberg specification's own table where it has them.
test.each<[FieldType, Value, unknown]>([
  [{ kind: 'boolean' }, true, true],
  [{ kind: 'int' }, 34, 34],
  [{ kind: 'long' }, 34n, 34],
  [{ kind: 'long' }, 9_223_372_036_854_775_807n, 9_223_372_036_854_775_807n],
  [{ kind: 'double' }, 1.5, 1.5],
  [decimal, 1420n, '14.20'],
  [decimal, -5n, '-0.05'],
  [{ kind: 'decimal', precision: 9, scale: 0 }, 7n, '7'],
  [{ kind: 'date' }, 17_486, '2017-11-16'],
  [{ kind: 'date' }, -719_162, '0001-01-01'],
  [{ kind: 'time' }, 81_068_123_456n, '22:31:08.123456'],
  [{ kind: 'timestamp' }, 1_510_871_468_123_456n, '2017-11-16T22:31:08.123456'],
  [{ kind: 'timestamp' }, -1n, '1969-12-31T23:59:59.999999'],
  [{ kind: 'timestamptz' }, 1_510_871_468_000_000n, '2017-11-16T22:31:08+00:00'],
  [{ kind: 'string' }, 'iceberg', 'iceberg'],
  [{ kind: 'uuid' }, new Uint8Array(Buffer.from('f79c3e09677c4bbda4793f349cb785e7', 'hex')), 'f79c3e09-677c-4bbd-a479-3f349cb785e7'],
  [{ kind: 'fixed', length: 4 }, Uint8Array.of(0, 1, 2, 255), '000102ff'],
  [{ kind: 'binary' }, new Uint8Array(0), ''],
  [{ kind: 'int' }, null, null],
])('%o %s is %s', (type, value, json) => {
  expect(defaultToJson(type, value)).toEqual(json)
  expect(defaultFromJson(type, json as never, 'c')).toEqual(value)
})

test('every moment and decimal survives the way', () => {
  const cases: [FieldType, fc.Arbitrary<Value>][] = [
    [{ kind: 'timestamp' }, fc.bigInt({ min: -62_135_596_800_000_000n, max: 253_402_300_799_999_999n })],
    [{ kind: 'date' }, fc.integer({ min: -719_162, max: 2_932_896 })],
    [{ kind: 'time' }, fc.bigInt({ min: 0n, max: 86_399_999_999n })],
    [{ kind: 'decimal', precision: 38, scale: 10 }, fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n })],
  ]
  for (const [type, values] of cases) {
    const check = fc.property(values, (value) => {
      expect(defaultFromJson(type, defaultToJson(type, value), 'c')).toEqual(value)
    })
    fc.assert(check)
  }
})

test.each<[FieldType, unknown]>([
  [{ kind: 'int' }, 'x'],
  [{ kind: 'string' }, 5],
  [decimal, '1.234'],
  [{ kind: 'uuid' }, 'not one'],
  [{ kind: 'date' }, '2017-13-99'],
])('another kind of value is refused: %o %s', (type, json) => {
  expect(() => defaultFromJson(type, json as never, 'price')).toThrow(/"price"/)
})
