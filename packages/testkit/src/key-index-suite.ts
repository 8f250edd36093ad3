import * as fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'

/** Key hashes as `@moonlink/pk-index` has them; entry i belongs to row i. */
export interface HashesUnderTest {
  low: Uint32Array
  high: Uint32Array
  length: number
}

/** An index that holds row i under hash i, for each row of the hashes it was built from. */
export interface KeyIndexUnderTest {
  /** Rows with that hash, in any order. */
  candidates(low: number, high: number): number[]
  close(): void
}

const hashes = (pairs: readonly (readonly [low: number, high: number])[]): HashesUnderTest => ({
  low: Uint32Array.from(pairs, ([low]) => low),
  high: Uint32Array.from(pairs, ([, high]) => high),
  length: pairs.length,
})

/** Hashes of which many collide, wholly or in one half, the ends of the range among them. */
const half = fc.oneof(
  fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff),
  fc.nat({ max: 40 }),
  fc.nat({ max: 0xffff_ffff }),
)
const hashPairs = fc.array(fc.tuple(half, half), { maxLength: 400 })

/** What every index of key hashes promises: it gives each row under its hash, and no row under another. */
export function describeKeyIndex(name: string, build: (hashes: HashesUnderTest) => Promise<KeyIndexUnderTest>): void {
  describe(`${name}: the key index contract`, () => {
    let index: KeyIndexUnderTest | null = null
    afterEach(() => {
      index?.close()
      index = null
    })
    const builtFrom = async (input: HashesUnderTest) => (index = await build(input))

    test('an empty index gives nothing', async () => {
      const empty = await builtFrom(hashes([]))
      expect(empty.candidates(0, 0)).toEqual([])
      expect(empty.candidates(0xffff_ffff, 0xffff_ffff)).toEqual([])
    })

    test('gives exactly the rows with the hash, among many', async () => {
      const input = scattered(40_000)
      const built = await builtFrom(input)
      for (let row = 0; row < input.length; row++) expectRows(built, input.low[row], input.high[row], [row])
      for (let row = 0; row < input.length; row++) expectRows(built, input.high[row], input.low[row], [])
    })

    test('hashes that share one half are different hashes', async () => {
      const built = await builtFrom(hashes(Array.from({ length: 6000 }, (_, i) => (i % 2 === 0 ? [7, i] : [i, 7]))))
      for (let row = 0; row < 6000; row++) expectRows(built, row % 2 === 0 ? 7 : row, row % 2 === 0 ? row : 7, row === 7 ? [7] : [row])
      expectRows(built, 7, 6001, [])
    })

    test('rows that share a hash are all given, and do not disturb their neighbours', async () => {
      const shared = 5000
      const pairs = Array.from({ length: shared * 2 }, (_, i) => (i % 2 === 0 ? ([1, 2] as const) : ([i, i] as const)))
      const built = await builtFrom(hashes(pairs))
      const even = Array.from({ length: shared }, (_, i) => i * 2)
      expectRows(built, 1, 2, even)
      for (let row = 1; row < shared * 2; row += 2) expectRows(built, row, row, [row])
    })

    test('agrees with a map for any hashes', async () => {
      await fc.assert(
        fc.asyncProperty(hashPairs, hashPairs, async (pairs, others) => {
          const built = await build(hashes(pairs))
          try {
            for (const [low, high] of [...pairs, ...others]) {
              expectRows(
                built,
                low,
                high,
                [...pairs.keys()].filter((row) => pairs[row][0] === low && pairs[row][1] === high),
              )
            }
          } finally {
            built.close()
          }
        }),
        { numRuns: 40 },
      )
    })
  })
}

function expectRows(index: KeyIndexUnderTest, low: number, high: number, rows: readonly number[]): void {
  const found = index.candidates(low, high)
  // Comparing by hand first: tens of thousands of matcher calls would take seconds.
  if (found.length === rows.length && found.length <= 1 && found[0] === rows[0]) return
  expect(found.toSorted((a, b) => a - b)).toEqual(rows)
}

/** Different hashes that look random: multiples of an odd number, scrambled. */
function scattered(length: number): HashesUnderTest {
  const low = new Uint32Array(length)
  const high = new Uint32Array(length)
  for (let row = 0; row < length; row++) {
    low[row] = Math.imul(row + 1, 0x9e3779b1)
    high[row] = Math.imul(low[row] ^ (low[row] >>> 15), 0x85ebca77)
  }
  return { low, high, length }
}
