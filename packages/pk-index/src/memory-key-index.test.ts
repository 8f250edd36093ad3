import { PlaceBuffer } from '@moonlink/core'
import { describeKeyIndex } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MemoryKeyIndex } from './memory-key-index.ts'

describeKeyIndex('MemoryKeyIndex', async (hashes) => {
  const index = new MemoryKeyIndex()
  index.insertBatch(hashes, 0, hashes.length, 3, 0)
  return { candidates: (low, high) => placesOf(index, low, high).map(([, row]) => row), close: () => index.clear() }
})

function placesOf(index: MemoryKeyIndex, low: number, high: number, limit?: number): [segment: number, row: number][] {
  const buffer = new PlaceBuffer(1)
  const count = index.candidates(low, high, buffer, limit)
  // By hand: it is called too often for matchers.
  if (buffer.length !== count) throw new Error(`candidates tells ${count} and gives ${buffer.length}`)
  return Array.from({ length: count }, (_, at) => [buffer.segments[at], buffer.rows[at]])
}

/** Scrambled, so that they spread over both halves. */
const spread = (value: number) => [Math.imul(value, 0x9e3779b1) >>> 0, Math.imul(value ^ (value >>> 11), 0x85ebca77) >>> 0] as const

function mustRemove(index: MemoryKeyIndex, key: number, row: number): void {
  if (!index.remove(...spread(key), 1, row)) expect.fail(`row ${row} of key ${key} is not there to remove`)
}

describe('a model', () => {
  // Few hashes, some of them at the end of a page's range, where probing runs out of slots.
  const half = fc.constantFrom(0, 1, 2, 0x8000_0000, 0xffff_fffd, 0xffff_fffe, 0xffff_ffff)
  const place = fc.tuple(
    fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffd),
    fc.constantFrom(0, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
  )
  const action = fc.record({ remove: fc.boolean(), low: half, high: half, place })

  test('agrees with a map of sets over any sequence of inserts and removals', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 600 }), (actions) => {
        const index = new MemoryKeyIndex()
        const model = new Map<string, Set<string>>()
        for (const { remove, low, high, place: at } of actions) {
          const key = `${low}:${high}`
          const places = model.get(key) ?? new Set<string>()
          model.set(key, places)
          const name = at.join(':')
          if (remove) expect(index.remove(low, high, at[0], at[1])).toBe(places.delete(name))
          else if (!places.has(name)) {
            places.add(name)
            index.insert(low, high, at[0], at[1])
          }
        }
        let size = 0
        for (const [key, places] of model) {
          const [low, high] = key.split(':').map(Number) as [number, number]
          expect(new Set(placesOf(index, low, high).map((at) => at.join(':')))).toEqual(places)
          size += places.size
        }
        expect(index.size).toBe(size)
      }),
      { numRuns: 200 },
    )
  })

  test('agrees with a map while it grows over many pages and shrinks again', () => {
    const index = new MemoryKeyIndex()
    const count = 120_000
    for (let row = 0; row < count; row++) {
      index.insert(...spread(row), 1, row)
      // Every third row goes again while others are still coming.
      if (row >= 50_000 && row % 3 === 0) mustRemove(index, row - 50_000, row - 50_000)
    }
    const isLive = (row: number) => row % 3 !== 1 || row >= 70_000
    let live = 0
    for (let row = 0; row < count; row++) {
      const found = placesOf(index, ...spread(row))
      if (found.length !== (isLive(row) ? 1 : 0) || (isLive(row) && found[0][1] !== row)) expect.fail(`row ${row}: ${found.join(' ')}`)
      live += found.length
    }
    expect(index.size).toBe(live)
    for (let row = 0; row < count; row++) index.remove(...spread(row), 1, row)
    expect(index.size).toBe(0)
    for (let row = 0; row < count; row += 7) expect(placesOf(index, ...spread(row))).toEqual([])
  })
})

describe('memory', () => {
  test('takes 20 to 27 bytes a key at any size', () => {
    const index = new MemoryKeyIndex()
    for (let row = 0; row < 400_000; row++) {
      index.insert(...spread(row), 1, row)
      if (row > 20_000 && row % 5000 === 0) {
        expect(index.byteSize / row).toBeGreaterThan(19)
        expect(index.byteSize / row).toBeLessThan(27)
      }
    }
  })

  test('many updates of one key leave nothing behind', () => {
    const index = new MemoryKeyIndex()
    for (let row = 0; row < 100; row++) index.insert(...spread(row), 1, row)
    const before = index.byteSize
    for (let row = 100; row < 200_000; row++) {
      mustRemove(index, 50, row === 100 ? 50 : row - 1)
      index.insert(...spread(50), 1, row)
    }
    expect(placesOf(index, ...spread(50))).toEqual([[1, 199_999]])
    expect(index.size).toBe(100)
    expect(index.byteSize).toBe(before)
  })

  test('clear gives it back', () => {
    const index = new MemoryKeyIndex()
    const empty = index.byteSize
    for (let row = 0; row < 100_000; row++) index.insert(...spread(row % 50_000), 1, row)
    index.clear()
    expect(index.byteSize).toBe(empty)
    expect(index.size).toBe(0)
    expect(placesOf(index, ...spread(1))).toEqual([])
    index.insert(...spread(1), 2, 3)
    expect(placesOf(index, ...spread(1))).toEqual([[2, 3]])
  })
})

describe('rows that share a hash', () => {
  test('come newest first, as many as asked for', () => {
    const index = new MemoryKeyIndex()
    for (let row = 0; row < 10; row++) index.insert(1, 2, 7, row)
    expect(placesOf(index, 1, 2, 3)).toEqual([
      [7, 9],
      [7, 8],
      [7, 7],
    ])
    expect(placesOf(index, 1, 2, 0)).toEqual([])
    expect(placesOf(index, 1, 2)).toHaveLength(10)
  })

  test('are deleted one by one in constant time each', () => {
    const index = new MemoryKeyIndex()
    const count = 300_000
    for (let row = 0; row < count; row++) index.insert(1, 2, 7, row)
    const buffer = new PlaceBuffer(1)
    for (let left = count; left > 0; left--) {
      buffer.clear()
      if (index.candidates(1, 2, buffer, 1) !== 1) expect.fail(`nothing found with ${left} rows left`)
      if (!index.remove(1, 2, buffer.segments[0], buffer.rows[0])) expect.fail('the first candidate cannot be removed')
    }
    expect(index.size).toBe(0)
    expect(placesOf(index, 1, 2)).toEqual([])
  })
})

describe('keys crafted to collide', () => {
  test.each([
    ['in the low half, at the end of the range', (row: number) => [0xffff_ffff, row] as const],
    ['in the low half, at the end of the range, scattered', (row: number) => [0xffff_ffff, spread(row)[1]] as const],
    ['in the high half', (row: number) => [spread(row)[0], 0xffff_ffff] as const],
    ['nearly everywhere', (row: number) => [0xffff_ffff - (row & 7), row >> 3] as const],
  ])('%s still work', (_name, hashOf) => {
    const index = new MemoryKeyIndex()
    const count = 6000
    for (let row = 0; row < count; row++) index.insert(...hashOf(row), 1, row)
    for (let row = 0; row < count; row += 97) expect(placesOf(index, ...hashOf(row))).toContainEqual([1, row])
    expect(index.byteSize).toBeLessThan(64 * 2 ** 20)
  })
})
