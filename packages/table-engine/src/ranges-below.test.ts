import { expect, test } from 'vitest'
import { rangesBelow } from './ranges-below.ts'

const range = (fromLsn: bigint, throughLsn: bigint) => ({ fromLsn, throughLsn })

test('ranges that touch or overlap are one, and none reaches the floor', () => {
  expect(rangesBelow(100n, [range(80n, 120n), range(60n, 79n), range(60n, 79n), range(20n, 40n)])).toEqual([
    range(60n, 99n),
    range(20n, 40n),
  ])
  expect(rangesBelow(50n, [range(50n, 60n), range(50n, 50n)])).toEqual([])
})
