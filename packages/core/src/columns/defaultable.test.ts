import { expect, test } from 'vitest'
import type { FieldType } from '../types.ts'
import { isDefaultable } from './defaultable.ts'
import type { Value } from './value.ts'

const second = 1_000_000n

test.each<[FieldType['kind'], Value, boolean]>([
  ['int', 5, true],
  ['int', null, true],
  ['double', 1.5, true],
  ['double', NaN, false],
  ['float', -Infinity, false],
  ['double', -0, false],
  ['date', -719_162, true],
  ['date', -719_163, false],
  ['date', 2_932_896, true],
  ['date', 2_932_897, false],
  ['timestamp', -62_135_596_800n * second, true],
  ['timestamp', -62_135_596_800n * second - 1n, false],
  ['timestamptz', 253_402_300_800n * second - 1n, true],
  ['timestamptz', 253_402_300_800n * second, false],
  ['time', 86_400n * second, false],
  ['string', '', true],
])('%s %s as a default: %s', (kind, value, expected) => {
  expect(isDefaultable({ kind } as FieldType, value)).toBe(expected)
})

test('no default for a list but null', () => {
  const type: FieldType = { kind: 'list', elementId: 9, element: { kind: 'int' }, elementRequired: false }
  expect(isDefaultable(type, [1])).toBe(false)
  expect(isDefaultable(type, null)).toBe(true)
})
