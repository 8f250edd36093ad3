import { expect, test } from 'vitest'
import { ReadPacer } from './read-pacer.ts'

const FULL = 65_536

/** A pacer whose server has just become busy, at `ms`. */
function busy(ms: number, fullReadBytes = FULL): ReadPacer {
  const pacer = new ReadPacer(fullReadBytes)
  expect([1, 2, 3, 4].map(() => pacer.restAfter(300, ms))).toEqual([0, 0, 0, 1])
  pacer.rested(ms + 1)
  return pacer
}

test('a server that says little is read at once', () => {
  const pacer = new ReadPacer(FULL)
  for (let ms = 0; ms < 100; ms++) {
    for (let read = 0; read < 3; read++) expect(pacer.restAfter(200, ms)).toBe(0)
  }
})

test('a busy server is read once a millisecond, full reads excepted, until it says little', () => {
  const pacer = busy(10)
  for (let ms = 11; ms < 50; ms++) {
    expect(pacer.restAfter(FULL, ms)).toBe(0)
    expect(pacer.restAfter(7_000, ms)).toBe(1)
    pacer.rested(ms + 1)
  }
  expect(pacer.restAfter(300, 50)).toBe(0)
  expect(pacer.restAfter(300, 51)).toBe(0)
})

test('a flood is left alone until what comes meanwhile takes half a read, for four milliseconds at most', () => {
  const restUnder = (bytesPerMs: number, fullReadBytes: number) => busy(10, fullReadBytes).restAfter(bytesPerMs * 2, 13)
  expect([5_000, 10_000, 20_000].map((rate) => restUnder(rate, FULL))).toEqual([1, 3, 1])
  expect([5_000, 10_000, 20_000, 50_000, 100_000].map((rate) => restUnder(rate, 4 * FULL))).toEqual([1, 4, 4, 2, 1])
})
