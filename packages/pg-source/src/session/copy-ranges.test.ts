import type { CopyRange } from '@moonlink/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { condition, joined, rangesLeft } from './copy-ranges.ts'

const PAGES = 40
const covers = (ranges: readonly CopyRange[], page: number) =>
  ranges.filter(({ from, to }) => from <= page && (to === null || page < to)).length

const range = fc
  .tuple(fc.nat(PAGES), fc.integer({ min: 1, max: 9 }), fc.boolean())
  .map(([from, length, isOpen]) => ({ from, to: isOpen && length === 1 ? null : from + length }))

test('what is left and what is done cover each page, however large the table has become; what is left covers it once', () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 6 }), fc.integer({ min: 1, max: 12 }), fc.nat(PAGES), (done, step, pages) => {
      const left = rangesLeft(pages, step, done)
      for (let page = 0; page < PAGES * 2; page++) {
        expect(covers(left, page)).toBe(covers(done, page) > 0 ? 0 : 1)
        expect(covers(joined(done), page)).toBe(Math.min(1, covers(done, page)))
      }
      for (const { from, to } of left) if (to !== null) expect(to - from).toBeLessThanOrEqual(step)
    }),
  )
})

test('an empty table has one range, and a condition names only the ends there are', () => {
  expect(rangesLeft(0, 8, [])).toEqual([{ from: 0, to: null }])
  expect(condition({ from: 0, to: null })).toBeNull()
  expect(condition({ from: 0, to: 8 })).toBe(`ctid < '(8,0)'::tid`)
  expect(condition({ from: 8, to: null })).toBe(`ctid >= '(8,0)'::tid`)
  expect(condition({ from: 8, to: 16 })).toBe(`ctid >= '(8,0)'::tid AND ctid < '(16,0)'::tid`)
  expect(rangesLeft(20, 8, [{ from: 0, to: null }])).toEqual([])
})
