import type { PrimitiveType } from '@moonlink/core'
import { PhysicalType } from '../footer.ts'
import { COMPARED_BYTES } from './extremes.ts'
import type { Leaf } from './file-schema.ts'
import type { ValueRange } from './value-range.ts'

/** Code points of a string, or bytes of a binary, that a bound keeps (Iceberg's default metrics mode, truncate(16)). */
const TRUNCATED_LENGTH = 16
const MAX_CODE_POINT = 0x10ffff
const FIRST_SURROGATE = 0xd800
const AFTER_SURROGATES = 0xe000

/** `upper` is null where there is none. */
export interface Bounds {
  readonly lower: Uint8Array
  readonly upper: Uint8Array | null
}

/**
 * Bounds in single-value serialization (Iceberg spec, appendix D); null where there is no value, and of UUIDs: Iceberg's Java library orders them as two signed numbers
 * (apache/iceberg#14216), by which a value that lies between two others by its bytes may not, and the file that has it is left out.
 */
export function icebergBounds(type: PrimitiveType, { least, greatest, nanCount }: ValueRange): Bounds | null {
  if (least === null || greatest === null) return null
  switch (type.kind) {
    case 'string':
      return textBounds(least, greatest, (bytes) => endOfCodePoints(bytes, TRUNCATED_LENGTH))
    case 'binary':
      return binaryBounds(least, greatest, TRUNCATED_LENGTH)
    case 'float':
    case 'double':
      return floatBounds(type.kind, least, greatest, nanCount > 0)
    case 'uuid':
      return null
    case 'decimal':
      return { lower: minimalBigEndian(least), upper: minimalBigEndian(greatest) }
    default:
      return { lower: least, upper: greatest }
  }
}

/** Bounds as Parquet's statistics hold them: PLAIN values, bytes without their length; null where there is no value, and of UUIDs, as above. */
export function parquetBounds(
  { type, physical, typeLength, isVariantPart }: Leaf,
  { least, greatest, nanCount }: ValueRange,
): Bounds | null {
  if (least === null || greatest === null || isVariantPart) return null
  switch (type.kind) {
    case 'string':
      return textBounds(least, greatest, (bytes) => startOfCodePoint(bytes, COMPARED_BYTES))
    case 'binary':
      return binaryBounds(least, greatest, COMPARED_BYTES)
    case 'float':
    case 'double':
      return floatBounds(type.kind, least, greatest, nanCount > 0)
    case 'uuid':
      return null
    case 'decimal': {
      const size = physical === PhysicalType.FIXED ? typeLength : physical === PhysicalType.INT32 ? 4 : 8
      const [lower, upper] = [least, greatest].map((bytes) => bytes.slice(0, size))
      return physical === PhysicalType.FIXED ? { lower: lower.reverse(), upper: upper.reverse() } : { lower, upper }
    }
    default:
      return { lower: least, upper: greatest }
  }
}

function textBounds(least: Uint8Array, greatest: Uint8Array, endOf: (bytes: Uint8Array) => number): Bounds {
  const end = endOf(greatest)
  const upper = end === greatest.length ? greatest : nextText(greatest.subarray(0, end))
  return { lower: least.slice(0, endOf(least)), upper }
}

function binaryBounds(least: Uint8Array, greatest: Uint8Array, size: number): Bounds {
  return { lower: least.slice(0, size), upper: greatest.length <= size ? greatest : nextBinary(greatest.subarray(0, size)) }
}

/** No bound counts NaN. Where it is the greatest of values, as in Postgres, DuckDB and Spark, no number is above one. */
function floatBounds(kind: PrimitiveType['kind'], least: Uint8Array, greatest: Uint8Array, hasNan: boolean): Bounds {
  return { lower: withZero(least.slice(), kind, -0), upper: hasNan ? null : withZero(greatest.slice(), kind, 0) }
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
  const reversed = bytes.slice().reverse()
  const sign = reversed[0] & 0x80 ? 0xff : 0
  let start = 0
  while (start < reversed.length - 1 && reversed[start] === sign && (reversed[start + 1] & 0x80) === (sign & 0x80)) start++
  return reversed.slice(start)
}

/** The least text of at most as many code points that is greater than every text which begins with `bytes`; null where there is none. */
function nextText(bytes: Uint8Array): Uint8Array | null {
  const points = Array.from(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), (char) => char.codePointAt(0)!)
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
  for (let index = 0; index < bytes.length; index++) if (!isContinuation(bytes[index]) && seen++ === count) return index
  return bytes.length
}

/** The end of the whole code points among the first `size` bytes of UTF-8 text. */
function startOfCodePoint(bytes: Uint8Array, size: number): number {
  if (bytes.length <= size) return bytes.length
  let end = size
  while (end > 0 && isContinuation(bytes[end])) end--
  return end
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80
}

function nextBinary(bytes: Uint8Array): Uint8Array | null {
  for (let last = bytes.length - 1; last >= 0; last--) {
    if (bytes[last] === 0xff) continue
    const bound = bytes.slice(0, last + 1)
    bound[last]++
    return bound
  }
  return null
}
