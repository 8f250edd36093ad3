import { expect, test } from 'vitest'
import { exactRanges } from './exact-range.ts'

const commit = (lsn: bigint, firstChangeLsn: bigint | null = null, lastChangeLsn: bigint | null = null) => ({
  lsn,
  firstChangeLsn,
  lastChangeLsn,
})
const range = (fromLsn: bigint, throughLsn: bigint) => ({ fromLsn, throughLsn })

test('a commit is exact from its newest change to just before the next one', () => {
  expect(exactRanges([commit(90n, 70n, 80n), commit(50n, 30n, 40n), commit(20n)])).toEqual([
    range(80n, 90n),
    range(40n, 69n),
    range(20n, 29n),
  ])
})

test('a rewrite shares the range of what it rewrote', () => {
  expect(exactRanges([commit(90n, 70n, 80n), commit(50n, null, 40n), commit(50n, 30n, 40n)])).toEqual([
    range(80n, 90n),
    range(40n, 69n),
    range(40n, 69n),
  ])
})

test('where the next commit does not tell what changed, only the own LSN counts', () => {
  expect(exactRanges([commit(90n), commit(50n, 30n, 40n)])).toEqual([range(90n, 90n), range(40n, 50n)])
  expect(exactRanges([])).toEqual([])
})
