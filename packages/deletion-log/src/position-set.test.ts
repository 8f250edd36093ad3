import { createHash } from 'node:crypto'
import { isMoonlinkError } from '@moonlink/core'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { PositionSet } from './position-set.ts'
import { loadLibrary, loadRoaring, type RoaringLibrary } from './roaring.ts'

const native = loadLibrary('roaring')
const wasm = loadLibrary('roaring-wasm')!
const libraries: readonly RoaringLibrary[] = native ? [native, wasm] : [wasm]

const range = (from: number, to: number, step = 1) => Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step)
const MIXED = [...range(0, 20_000), ...range(70_000, 140_000, 2), 300_000, 400_000, 0xffff_ffff]

/** Bytes that CRoaring wrote through pyroaring 1.2.0, before and after `run_optimize`: as hexadecimal, or their SHA-256. */
const GOLDEN: readonly { name: string; positions: readonly number[]; plain: string | null; optimized: string }[] = [
  { name: 'nothing', positions: [], plain: '3a30000000000000', optimized: '3a30000000000000' },
  {
    name: 'the ends of containers',
    positions: [0, 5, 65_535, 65_536, 0xffff_ffff],
    plain: '3a300000030000000000020001000000ffff000020000000260000002800000000000500ffff0000ffff',
    optimized: '3a300000030000000000020001000000ffff000020000000260000002800000000000500ffff0000ffff',
  },
  { name: 'one run', positions: range(0, 1000), plain: null, optimized: '3b300000010000e70301000000e703' },
  {
    name: 'a bitset',
    positions: range(0, 65_536, 3),
    plain: 'bcd53d9b850f3a7feb3cbb8c75fea3c357a6cdf47ba1c2870b2a4e9cf62f0930',
    optimized: 'bcd53d9b850f3a7feb3cbb8c75fea3c357a6cdf47ba1c2870b2a4e9cf62f0930',
  },
  {
    name: 'containers of every kind',
    positions: MIXED,
    plain: '97f07f34e195b83df8b5d177ec44a82adcd2864504c12627b4e9a9a9278cae0d',
    optimized: '44253207bf80ed981e73ccb80a709b58e620745743c7134c2ea6d92d723286f4',
  },
]

const digest = (bytes: Uint8Array) =>
  bytes.length < 60 ? Buffer.from(bytes).toString('hex') : createHash('sha256').update(bytes).digest('hex')

function setOf(library: RoaringLibrary, positions: Iterable<number>): PositionSet {
  const set = new PositionSet(library)
  set.addMany(Uint32Array.from(positions))
  return set
}

const position = fc.oneof(
  fc.nat({ max: 300 }),
  fc.nat({ max: 0xffff_ffff }),
  fc.constantFrom(0, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
)
const positions = fc.array(position, { maxLength: 300 })

test('a library loads', async () => {
  expect(await loadRoaring()).toBe(native ? 'roaring' : 'roaring-wasm')
})

describe.each(libraries)('$name', (library) => {
  test.each(GOLDEN)('writes and reads $name as CRoaring does', ({ positions: values, plain, optimized }) => {
    const set = setOf(library, values)
    if (plain !== null) expect(digest(set.toPortable())).toBe(plain)
    const before = set.toPortable()
    set.runOptimize()
    expect(digest(set.toPortable())).toBe(optimized)
    expect(set.toPortable().length).toBe(set.byteSize)
    for (const bytes of [before, set.toPortable()]) {
      const read = PositionSet.fromPortable(bytes, library)
      expect([...read.toArray()]).toEqual(values)
      expect(Buffer.compare(read.toPortable(), bytes)).toBe(0)
    }
  })

  test('agrees with a Set of numbers', () => {
    fc.assert(
      fc.property(positions, positions, positions, (first, second, removed) => {
        const set = setOf(library, first)
        const model = new Set(first)
        for (const value of second.slice(0, 20)) {
          expect(set.add(value)).toBe(!model.has(value))
          model.add(value)
        }
        const copy = set.clone()
        const other = setOf(library, second)
        set.orInPlace(other)
        for (const value of second) model.add(value)
        set.removeMany(Uint32Array.from(removed))
        for (const value of removed) model.delete(value)
        expect(set.cardinality).toBe(model.size)
        expect([...set.toArray()]).toEqual([...model].toSorted((a, b) => a - b))
        for (const value of [...first, ...removed]) expect(set.has(value)).toBe(model.has(value))
        expect([...copy.toArray()]).toEqual([...new Set([...first, ...second.slice(0, 20)])].toSorted((a, b) => a - b))
        for (const each of [set, copy, other]) each.dispose()
      }),
      { numRuns: 100 },
    )
  })

  test('adds part of an array', () => {
    const set = new PositionSet(library)
    set.addMany(Uint32Array.of(9, 8, 7, 6, 5), 1, 3)
    set.addMany(Uint32Array.of(1), 1)
    expect([...set.toArray()]).toEqual([7, 8])
  })

  test('what it wrote does not change with the set', () => {
    const set = setOf(library, MIXED)
    const bytes = set.toPortable()
    const copy = bytes.slice()
    set.addMany(Uint32Array.from(range(20_000, 60_000)))
    set.dispose()
    set.dispose()
    expect(Buffer.compare(bytes, copy)).toBe(0)
  })

  test('damaged bytes are refused, or are another well-formed set', () => {
    const intact = setOf(library, [...range(0, 300, 2), ...range(70_000, 71_000), ...range(140_000, 150_000, 2), 0xffff_ffff])
    const plain = intact.toPortable()
    intact.runOptimize()
    const optimized = intact.toPortable()
    fc.assert(
      fc.property(fc.boolean(), fc.nat(), fc.integer({ min: 1, max: 255 }), fc.boolean(), (isPlain, at, mask, isCut) => {
        const source = isPlain ? plain : optimized
        const damaged = isCut ? source.slice(0, at % source.length) : source.slice()
        if (!isCut) damaged[at % Math.min(source.length, 200)] ^= mask
        let set: PositionSet
        try {
          set = PositionSet.fromPortable(damaged, library)
        } catch (error) {
          expect(isMoonlinkError(error, 'corrupt')).toBe(true)
          return
        }
        expect(isCut).toBe(false)
        const values = set.toArray()
        expect(values).toHaveLength(set.cardinality)
        expect(values.every((value, index) => index === 0 || value > values[index - 1])).toBe(true)
        expect(PositionSet.fromPortable(set.toPortable(), library).toArray()).toEqual(values)
        set.dispose()
      }),
      { numRuns: 500 },
    )
  })

  test.each([
    ['nothing at all', ''],
    ['an unknown cookie', '3c30000000000000'],
    ['something after the end', '3a3000000000000000'],
    ['array values that do not ascend', '3a30000001000000000001001000000005000500'],
    ['containers that do not ascend', '3a300000020000000100000001000000180000001a00000000000000'],
    ['a run past the end of its container', '3b30000001000001000100ffff0100'],
  ])('refuses %s', (_name, hex) => {
    expect(() => PositionSet.fromPortable(Buffer.from(hex, 'hex'), library)).toThrow(/not a portable Roaring bitmap/)
  })
})

// The native library is optional and not built everywhere; the golden bytes above hold for whichever loads.
test.skipIf(native === null)('both libraries write the same bytes, and read what the other wrote', () => {
  fc.assert(
    fc.property(positions, fc.nat({ max: 200_000 }), fc.nat({ max: 10_000 }), (values, from, length) => {
      const sets = [native!, wasm].map((library) => setOf(library, [...values, ...range(from, from + length)]))
      expect(Buffer.compare(sets[0].toPortable(), sets[1].toPortable())).toBe(0)
      for (const set of sets) set.runOptimize()
      // Where runs take as many bytes as an array, their versions of CRoaring choose differently.
      expect(PositionSet.fromPortable(sets[0].toPortable(), wasm).toArray()).toEqual(sets[1].toArray())
      expect(PositionSet.fromPortable(sets[1].toPortable(), native!).toArray()).toEqual(sets[0].toArray())
    }),
    { numRuns: 200 },
  )
})
