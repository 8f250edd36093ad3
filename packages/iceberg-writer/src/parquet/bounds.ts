import { fixedWidth, type Column, type PrimitiveType } from '@moonlink/core'
import type { Extremes } from './extremes.ts'

/** Code points of a string, or bytes of a binary, that a bound keeps (Iceberg's default metrics mode, truncate(16)). */
const TRUNCATED_LENGTH = 16
const MAX_CODE_POINT = 0x10ffff
const FIRST_SURROGATE = 0xd800
const AFTER_SURROGATES = 0xe000

/** Bounds in single-value serialization (Iceberg spec, appendix D); null where there is none. */
export function boundsOf(
  column: Column,
  { least, greatest }: Extremes,
): { readonly lower: Uint8Array; readonly upper: Uint8Array | null } | null {
  if (least < 0) return null
  const { kind } = column.type
  const low = valueBytes(column, least)
  const high = valueBytes(column, greatest)
  switch (kind) {
    case 'string':
      return { lower: truncateString(low), upper: truncateStringUp(high) }
    case 'binary':
      return { lower: low.slice(0, TRUNCATED_LENGTH), upper: truncateBinaryUp(high) }
    case 'float':
    case 'double':
      return { lower: withZero(low, kind, -0), upper: withZero(high, kind, 0) }
    case 'decimal':
      return { lower: minimalBigEndian(low), upper: minimalBigEndian(high) }
    default:
      return { lower: low, upper: high }
  }
}

/** A value as it lies in the column, in memory of its own; a boolean as one byte. */
function valueBytes({ type, values, offsets }: Column, row: number): Uint8Array {
  if (type.kind === 'boolean') return new Uint8Array([(values[row >> 3] >> (row & 7)) & 1])
  if (offsets !== null) return values.slice(offsets[row], offsets[row + 1])
  const width = fixedWidth(type)
  return values.slice(row * width, (row + 1) * width)
}

/** A zero of either sign becomes `zero`: readers differ on whether -0.0 equals 0.0, so a bound of zero has to include both. */
function withZero(bytes: Uint8Array, kind: PrimitiveType['kind'], zero: number): Uint8Array {
  const view = new DataView(bytes.buffer)
  if (kind === 'float' && view.getFloat32(0, true) === 0) view.setFloat32(0, zero, true)
  if (kind === 'double' && view.getFloat64(0, true) === 0) view.setFloat64(0, zero, true)
  return bytes
}

/** A little-endian two's-complement integer as big-endian without redundant sign bytes. */
function minimalBigEndian(bytes: Uint8Array): Uint8Array {
  const reversed = bytes.reverse()
  const sign = reversed[0] & 0x80 ? 0xff : 0
  let start = 0
  while (start < reversed.length - 1 && reversed[start] === sign && (reversed[start + 1] & 0x80) === (sign & 0x80)) start++
  return reversed.slice(start)
}

function truncateString(bytes: Uint8Array): Uint8Array {
  return bytes.slice(0, endOfCodePoints(bytes, TRUNCATED_LENGTH))
}

/** The least string of at most 16 code points that is not less than `bytes`; null where there is none. */
function truncateStringUp(bytes: Uint8Array): Uint8Array | null {
  const end = endOfCodePoints(bytes, TRUNCATED_LENGTH)
  if (end === bytes.length) return bytes
  const points = Array.from(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, end)), (char) => char.codePointAt(0)!)
  while (points.length > 0) {
    const next = points.pop()! + 1
    if (next > MAX_CODE_POINT) continue
    points.push(next === FIRST_SURROGATE ? AFTER_SURROGATES : next)
    return new TextEncoder().encode(String.fromCodePoint(...points))
  }
  return null
}

/** Where the first `count` code points of UTF-8 text end. */
function endOfCodePoints(bytes: Uint8Array, count: number): number {
  let seen = 0
  for (let index = 0; index < bytes.length; index++) {
    const isContinuation = (bytes[index] & 0xc0) === 0x80
    if (!isContinuation && seen++ === count) return index
  }
  return bytes.length
}

function truncateBinaryUp(bytes: Uint8Array): Uint8Array | null {
  if (bytes.length <= TRUNCATED_LENGTH) return bytes
  for (let last = TRUNCATED_LENGTH - 1; last >= 0; last--) {
    if (bytes[last] === 0xff) continue
    const bound = bytes.slice(0, last + 1)
    bound[last]++
    return bound
  }
  return null
}
