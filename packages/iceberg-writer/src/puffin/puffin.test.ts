import { EMPTY_ROARING, readRoaringFrame } from './roaring-portable.ts'
import { decodeDeletionVector, encodeDeletionVector } from './deletion-vector.ts'
import { decodePuffin, encodePuffin } from './puffin-file.ts'
import { roaringOf } from './roaring.test.support.ts'
import { damaged, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Files of Iceberg's Java tests (`deletes/*.bin`). */
const EMPTY = '0000000cd1d339640000000000000000bf18480c'
const ODD_TO_NINE = '0000002ad1d339640100000000000000000000003a30000001000000000004001000000001000300050007000900b3fb20be'

test('blobs are byte for byte what Iceberg itself writes', () => {
  expect(hex(encodeDeletionVector(EMPTY_ROARING, 0))).toBe(EMPTY)
  expect(hex(encodeDeletionVector(roaringOf([1, 3, 5, 7, 9]), 5))).toBe(ODD_TO_NINE)
})

test("Iceberg's own blobs decode", () => {
  expect(decodeDeletionVector(Buffer.from(EMPTY, 'hex'), 0)).toEqual(EMPTY_ROARING)
  expect(hex(decodeDeletionVector(Buffer.from(ODD_TO_NINE, 'hex'), 5))).toBe(hex(roaringOf([1, 3, 5, 7, 9])))
})

test('every flipped bit and every cut of a blob is noticed', () => {
  const blob = Buffer.from(ODD_TO_NINE, 'hex')
  for (let bit = 0; bit < blob.length * 8; bit++) {
    const damaged = Uint8Array.from(blob)
    damaged[bit >> 3] ^= 1 << (bit & 7)
    expect(() => decodeDeletionVector(damaged, 5)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  }
  for (let length = 0; length < blob.length; length++) expect(() => decodeDeletionVector(blob.subarray(0, length), 5)).toThrow()
})

test('a cardinality that is not the entry’s is refused', () => {
  expect(() => decodeDeletionVector(Buffer.from(ODD_TO_NINE, 'hex'), 4)).toThrow(/5 positions, its entry says 4/)
})

test('the frame of a bitmap with runs: 0…9 and 65536…65540 in run containers', () => {
  // Cookie 12347 with two containers, both flagged as runs; (key, cardinality - 1) each; then one run each (start, length - 1).
  const bytes = Buffer.from(['3b300100', '03', '00000900', '01000400', '010000000900', '010000000400'].join(''), 'hex')
  expect(readRoaringFrame(bytes)).toEqual({ cardinality: 15, sizeBytes: bytes.length })
})

test('Puffin files of many vectors read back, footer uncompressed', () => {
  const positions = fc.uniqueArray(fc.integer({ min: 0, max: 200_000 }), { minLength: 1, maxLength: 50 })
  fc.assert(
    fc.property(fc.array(positions, { minLength: 1, maxLength: 5 }), (sets) => {
      const vectors = sets.map((set, index) => ({
        dataFile: `file:///t/${index}.parquet`,
        bitmap: roaringOf(set),
        cardinality: set.length,
      }))
      const { bytes, vectors: written } = encodePuffin(vectors, 'test')
      expect(decodePuffin(bytes).map((vector) => ({ ...vector, bitmap: hex(vector.bitmap) }))).toEqual(
        vectors.map((vector) => ({ ...vector, bitmap: hex(vector.bitmap) })),
      )
      for (const [index, { offset, length }] of written.entries()) {
        const blob = bytes.subarray(offset, offset + length)
        expect(hex(decodeDeletionVector(blob, vectors[index].cardinality))).toBe(hex(vectors[index].bitmap))
      }
      expect(bytes[bytes.length - 8]).toBe(0)
    }),
  )
})

test('damaged Puffin files are refused', () => {
  const { bytes } = encodePuffin([{ dataFile: 'file:///a', bitmap: roaringOf([1]), cardinality: 1 }], 'test')
  for (const at of [0, bytes.length - 1, bytes.length - 9]) {
    const damaged = Uint8Array.from(bytes)
    damaged[at] ^= 0xff
    expect(() => decodePuffin(damaged)).toThrow(expect.objectContaining({ code: 'PUFFIN_MALFORMED' }))
  }
})

test('Puffin files damaged anywhere are refused, or hold what was written', async () => {
  const vectors = [
    { dataFile: 'file:///a', bitmap: roaringOf([1, 5, 70_000]), cardinality: 3 },
    { dataFile: 'file:///b', bitmap: roaringOf([2]), cardinality: 1 },
  ]
  const { bytes } = encodePuffin(vectors, 'test')
  const written = vectors.map(({ bitmap }) => hex(bitmap))
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      const read = await readOrRefuse(() => decodePuffin(damaged(bytes, what)))
      // Each blob has a checksum.
      for (const { bitmap } of read ?? []) expect(written).toContain(hex(bitmap))
    }),
    fuzzing(5000),
  )
})
