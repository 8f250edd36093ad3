import { expect, test } from 'vitest'
import { floorLsn } from './floor-lsn.ts'

function logFrom(startLsn: bigint) {
  return { status: { range: { startLsn, endLsn: 900n }, bytes: 0, isFull: false } } as unknown as NonNullable<
    Parameters<typeof floorLsn>[0]
  >
}

test('a stream begins at the slot, or at the start of the log that has what the slot let go of', () => {
  expect(floorLsn(null, 700n, 0n)).toBe(700n)
  expect(floorLsn(logFrom(500n), 700n, 0n)).toBe(500n)
  expect(floorLsn(logFrom(800n), 700n, 0n)).toBe(700n)
})

test('it begins behind what was covered, whose segments a backend before may still be removing', () => {
  expect(floorLsn(logFrom(500n), 700n, 600n)).toBe(600n)
  expect(floorLsn(null, 700n, 800n)).toBe(800n)
})
