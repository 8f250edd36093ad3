import { expect, test } from 'vitest'
import { FieldIds } from './field-ids.ts'

test('ids follow attribute numbers, and parts keep theirs whatever comes or goes', () => {
  const ids = new FieldIds()
  const column = ids.of(3)
  expect([column.column, column.element(), column.text()]).toEqual([3, 2003, 4003])
  expect(['.1', '.2', '.2[]'].map((path) => column.nested(path))).toEqual([30_001, 30_002, 30_003])
  const later = new FieldIds(ids.toMap()).of(3)
  expect(['.2', '.4', '.1'].map((path) => later.nested(path))).toEqual([30_002, 30_004, 30_001])
})

test('a column that took the place of another has ids that nothing had, and so has the next one', () => {
  const ids = new FieldIds()
  const seen = new Set<number>()
  for (let life = 0; life < 3; life++) {
    for (const number of [1, 2]) {
      const column = ids.of(number)
      for (const id of [column.column, column.element(), column.text(), column.nested('.1'), column.nested('.1[]')]) {
        expect(seen).not.toContain(id)
        seen.add(id)
      }
    }
    const again = new FieldIds(ids.toMap())
    expect(again.of(2).nested('.1')).toBe(ids.of(2).nested('.1'))
    for (const number of [2, 1]) ids.renew(number)
  }
})
