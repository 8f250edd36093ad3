import { expect, test } from 'vitest'
import { addSums, differingBuckets, differingRows } from './compare.ts'

test('sums of parts add up, and buckets that differ in rows or content are found', () => {
  const source: Parameters<typeof addSums>[0] = new Map()
  addSums(source, [
    ['1', '2', '10', '20'],
    ['2', '1', '5', '6'],
    ['4', '1', '1', '1'],
  ])
  addSums(source, [
    ['1', '1', '1', '2'],
    ['3', '1', '7', '7'],
  ])
  const mirror: Parameters<typeof addSums>[0] = new Map()
  addSums(mirror, [
    ['1', '3', '11', '22'],
    ['2', '1', '5', '7'],
    ['5', '1', '1', '1'],
    ['4', '1', '1', '1'],
  ])
  expect(differingBuckets(source, mirror)).toEqual([2, 3, 5])
})

test('rows are compared as bags under their keys', () => {
  const difference = differingRows(
    [
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
      ['d', '4'],
      ['d', '4'],
    ],
    [
      ['a', '1'],
      ['x', '2'],
      ['d', '4'],
      ['e', null],
    ],
  )
  expect(difference).toEqual([
    { kind: 'different', key: ['2'] },
    { kind: 'missing', key: ['3'] },
    { kind: 'missing', key: ['4'] },
    { kind: 'extra', key: [null] },
  ])
})
