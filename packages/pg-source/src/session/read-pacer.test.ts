import { expect, test } from 'vitest'
import { ReadPacer } from './read-pacer.ts'

test('a server that says little is read at once', () => {
  const pacer = new ReadPacer()
  for (let ms = 0; ms < 100; ms++) {
    for (let read = 0; read < 3; read++) expect(pacer.shouldRest(200, ms)).toBe(false)
  }
})

test('a busy server is read once a millisecond, full reads excepted, until it says little', () => {
  const pacer = new ReadPacer()
  expect([1, 2, 3, 4].map(() => pacer.shouldRest(300, 10))).toEqual([false, false, false, true])
  for (let ms = 11; ms < 50; ms++) {
    pacer.rested(ms)
    expect(pacer.shouldRest(65_536, ms)).toBe(false)
    expect(pacer.shouldRest(20_000, ms)).toBe(true)
  }
  pacer.rested(50)
  expect(pacer.shouldRest(300, 50)).toBe(false)
})

test('after a silence, what comes first is read at once', () => {
  const pacer = new ReadPacer()
  for (let read = 0; read < 4; read++) pacer.shouldRest(300, 10)
  pacer.rested(11)
  expect(pacer.shouldRest(30_000, 40)).toBe(false)
})
