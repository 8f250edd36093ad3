import { expect, test } from 'vitest'
import { isFollowedInPlace, noticedAgain, UntoldChanges, type Untold } from './untold.ts'

const only = (kind: Untold['kind']): Untold => ({ kind })
const add = only('add')

test.each<[boolean, Untold[]]>([
  [true, [add]],
  [true, [only('key')]],
  [true, [add, add, only('add without a default')]],
  [true, [add, only('rename')]],
  [true, [only('add without a default'), only('rename')]],
  [true, [only('drop'), only('nulls')]],
  [true, [only('truncate'), add]],
  [true, [only('partitions'), only('partitions')]],
  [false, [only('partitions'), only('nulls')]],
  [false, [only('compared')]],
  [false, [only('silent'), add]],
  [false, [add, only('drop')]],
  [false, [only('rename'), only('drop')]],
  [false, [only('drop'), only('drop')]],
  [false, [only('truncate'), only('add without a default')]],
  [false, [add, only('truncate'), add]],
  [false, [only('nulls'), only('truncate')]],
])('followed in place: %s for %j', (expected, changes) => {
  expect(isFollowedInPlace(changes)).toBe(expected)
})

test('a change that the mirror knew is looked at again where the mirror goes back', () => {
  const untold = new UntoldChanges()
  expect(untold.committed('t', [{ change: add, isFollowed: false }], 1n)).toBeNull()
  untold.applied()
  expect(untold.committed('t', [{ change: only('drop'), isFollowed: true }], 2n)).toBe(1n)
  untold.settled('t')
  expect(untold.committed('t', [{ change: add, isFollowed: true }], 3n)).toBeNull()
  untold.applied()
  expect(untold.committed('t', [{ change: only('drop'), isFollowed: true }], 4n)).toBeNull()
  expect(untold.wentBack()).toEqual(new Map([['t', 3n]]))
})

test('a truncation is noticed again where it was in a savepoint, or its transaction went on to fill the table', () => {
  const change = (kind: 'truncate' | 'compared', isNoticedAgain: Untold['isNoticedAgain'], isFollowed: boolean) => {
    return { table: kind === 'truncate' ? 't' : 'rewritten', change: { kind, isNoticedAgain } as Untold, isFollowed }
  }
  const emptied = change('truncate', 'once filled', false)
  const filled = change('truncate', 'once filled', true)
  expect(noticedAgain([emptied])).toEqual(new Set())
  expect(noticedAgain([emptied, filled])).toEqual(new Set(['t']))
  expect(noticedAgain([filled, emptied])).toEqual(new Set())
  expect(noticedAgain([change('truncate', 'always', false), emptied])).toEqual(new Set(['t']))
  expect(noticedAgain([filled, change('compared', 'always', false)])).toEqual(new Set(['t', 'rewritten']))
})

test('partitions that came are no matter of course once a row has followed', () => {
  const untold = new UntoldChanges()
  expect(untold.committed('t', [{ change: only('partitions'), isFollowed: true }], 1n)).toBeNull()
  untold.applied()
  expect(untold.committed('t', [{ change: only('nulls'), isFollowed: true }], 2n)).toBe(1n)
})
