import { crc32 } from 'node:zlib'
import { assert, MoonlinkError } from '@moonlink/core'
import { EMPTY_ROARING, readRoaringFrame } from './roaring-portable.ts'

/**
 * The `deletion-vector-v1` blob (Puffin spec):
 *
 *     length of magic + vector  4, big-endian
 *     magic                     4
 *     number of bitmaps         8, little-endian
 *     per bitmap: high 32 bits  4, little-endian
 *                 low 32 bits   a portable Roaring bitmap
 *     CRC-32 of magic + vector  4, big-endian
 *
 * A data file of ours has fewer than 2^32 rows, so there is one bitmap, with key 0, or none.
 */
const MAGIC = new Uint8Array([0xd1, 0xd3, 0x39, 0x64])
const LENGTH_BYTES = 4
const CRC_BYTES = 4
const COUNT_AT = LENGTH_BYTES + MAGIC.length
const FIRST_KEY_AT = COUNT_AT + 8
const FIRST_BITMAP_AT = FIRST_KEY_AT + 4

/** Wraps a portable 32-bit Roaring bitmap with exactly `cardinality` positions. */
export function encodeDeletionVector(bitmap: Uint8Array, cardinality: number): Uint8Array {
  const frame = readRoaringFrame(bitmap)
  assert(frame.cardinality === cardinality, "a vector's cardinality is its bitmap's", { cardinality, counted: frame.cardinality })
  const vector = cardinality === 0 ? 0 : 4 + frame.sizeBytes
  const blob = new Uint8Array(FIRST_KEY_AT + vector + CRC_BYTES)
  const view = new DataView(blob.buffer)
  view.setUint32(0, blob.length - LENGTH_BYTES - CRC_BYTES)
  blob.set(MAGIC, LENGTH_BYTES)
  if (cardinality > 0) {
    view.setUint32(COUNT_AT, 1, true)
    blob.set(bitmap.subarray(0, frame.sizeBytes), FIRST_BITMAP_AT)
  }
  view.setUint32(blob.length - CRC_BYTES, crc32(blob.subarray(LENGTH_BYTES, blob.length - CRC_BYTES)))
  return blob
}

/**
 * Unwraps a blob and checks length, magic, CRC and, where given, cardinality; `what` names the vector in the message.
 * Throws `corrupt`/`DELETION_VECTOR_MALFORMED`.
 */
export function decodeDeletionVector(blob: Uint8Array, cardinality: number | null, what = 'deletion vector'): Uint8Array {
  const fail = (why: string) =>
    new MoonlinkError('corrupt', 'DELETION_VECTOR_MALFORMED', `${what}: ${why}`, { context: { bytes: blob.length } })
  if (blob.length < FIRST_KEY_AT + CRC_BYTES) throw fail('the blob is too short')
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength)
  if (view.getUint32(0) !== blob.length - LENGTH_BYTES - CRC_BYTES) throw fail('its length does not match the blob')
  if (!MAGIC.every((byte, index) => blob[LENGTH_BYTES + index] === byte)) throw fail('wrong magic')
  const body = blob.subarray(LENGTH_BYTES, blob.length - CRC_BYTES)
  if (view.getUint32(blob.length - CRC_BYTES) !== crc32(body)) throw fail('CRC does not match')
  const count = view.getBigUint64(COUNT_AT, true)
  if (count > 1n || (count === 1n && view.getUint32(FIRST_KEY_AT, true) !== 0)) throw fail('it has positions of 2^32 and more')
  const bitmap = count === 0n ? EMPTY_ROARING : blob.slice(FIRST_BITMAP_AT, blob.length - CRC_BYTES)
  const frame = readRoaringFrame(bitmap)
  if (frame.sizeBytes !== bitmap.length) throw fail('bytes follow the bitmap')
  if (cardinality !== null && frame.cardinality !== cardinality) {
    throw fail(`it has ${frame.cardinality} positions, its entry says ${cardinality}`)
  }
  return bitmap
}
