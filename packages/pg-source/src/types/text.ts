import type { ColumnBuilder } from '@moonlink/core'
import { shownText } from './bad-value.ts'
import { checkSize, malformedValue } from './wire.ts'

/** Decoders of the text form (the type's output function), except numeric, times and arrays, which have files of their own. */

const TWO_32 = 0x1_0000_0000
const MINUS = 0x2d
/** Any integer of so many digits is exact in a double. */
const EXACT_DIGITS = 15

export function textBool(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 1, 'bool')
  const byte = source[start]
  if (byte !== 0x74 && byte !== 0x66) malformedValue('bool', shownText(source, start, end))
  builder.appendBoolean(byte === 0x74)
}

export function textInt2(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const value = readInteger(source, start, end, 6, 'int2')
  if (value < -32768 || value > 32767) malformedValue('int2', shownText(source, start, end))
  builder.appendInt32(value)
}

export function textInt4(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const value = readInteger(source, start, end, 11, 'int4')
  if (value !== (value | 0)) malformedValue('int4', shownText(source, start, end))
  builder.appendInt32(value)
}

export function textOid(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const value = readInteger(source, start, end, 10, 'oid')
  if (value !== value >>> 0) malformedValue('oid', shownText(source, start, end))
  builder.appendInt64(value, 0)
}

export function textInt8(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const size = end - start
  if (size <= EXACT_DIGITS) {
    const value = readInteger(source, start, end, EXACT_DIGITS, 'int8')
    return builder.appendInt64(value % TWO_32, Math.floor(value / TWO_32))
  }
  const negative = source[start] === MINUS
  const first = negative ? start + 1 : start
  if (end - first > 19) malformedValue('int8', shownText(source, start, end))
  // Two parts: upper × 10^9 + lower.
  const split = end - 9
  const upper = readDigits(source, first, split, 'int8')
  const lower = readDigits(source, split, end, 'int8')
  const upperHigh = Math.floor(upper / TWO_32)
  // That product passes 2^53, so it is taken apart by the halves of the factor: 10^9 = 15258 × 65536 + 51712.
  const part = upper - upperHigh * TWO_32
  const middle = part * 15258
  const sum = (middle % 65536) * 65536 + part * 51712 + lower
  const low = sum % TWO_32
  const high = upperHigh * 1_000_000_000 + Math.floor(middle / 65536) + (sum - low) / TWO_32
  if (high > 0x8000_0000 || (high === 0x8000_0000 && (low > 0 || !negative))) {
    malformedValue('int8', shownText(source, start, end))
  }
  if (negative) builder.appendInt64(-low, ~high + (low === 0 ? 1 : 0))
  else builder.appendInt64(low, high)
}

export function textFloat4(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  builder.appendFloat(readFloat(source, start, end, 'float4'))
}

export function textFloat8(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  builder.appendDouble(readFloat(source, start, end, 'float8'))
}

const FLOAT = /^-?(?:\d+(?:\.\d+)?(?:e[+-]\d+)?|Infinity)$|^NaN$/

/** 10^0 … 10^22 are exact doubles, so one multiplication or division of exact operands rounds correctly. */
const EXACT_POWERS = Array.from({ length: 23 }, (_, exponent) => Number(`1e${exponent}`))

function readFloat(source: Uint8Array, start: number, end: number, type: string): number {
  const negative = source[start] === MINUS
  let digits = 0
  let value = 0
  let point = -1
  let at = negative ? start + 1 : start
  for (; at < end; at++) {
    const byte = source[at]
    if (byte === 0x2e && point < 0) point = at
    else if (byte >= 0x30 && byte <= 0x39) {
      value = value * 10 + (byte - 0x30)
      digits++
    } else break
  }
  const fraction = point < 0 ? 0 : at - point - 1
  if (at === end && digits > 0 && digits <= EXACT_DIGITS) {
    const magnitude = value / EXACT_POWERS[fraction]
    return negative ? -magnitude : magnitude
  }
  const text = shownText(source, start, end)
  if (!FLOAT.test(text)) malformedValue(type, `"${text}"`)
  return Number(text)
}

/** `\x` and hexadecimal digits. */
export function textBytea(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if (end - start < 2 || source[start] !== 0x5c || source[start + 1] !== 0x78 || (end - start) % 2 !== 0) {
    malformedValue('bytea', 'not in hexadecimal; the connection needs bytea_output=hex')
  }
  const size = (end - start - 2) >> 1
  const bytes = reserve(size)
  for (let index = 0; index < size; index++) bytes[index] = hexByte(source, start + 2 + 2 * index, 'bytea')
  builder.appendBytes(bytes, 0, size)
}

export function textUuid(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 36, 'uuid')
  const bytes = reserve(16)
  let at = start
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) {
      if (source[at] !== MINUS) malformedValue('uuid', shownText(source, start, end))
      at++
    }
    bytes[index] = hexByte(source, at, 'uuid')
    at += 2
  }
  builder.appendBytes(bytes, 0, 16)
}

const SCRATCH_BYTES = 64 * 1024
const scratch = new Uint8Array(SCRATCH_BYTES)

/** Room for a decoded value until it is appended. A large one gets memory of its own, so that none is held for ever. */
function reserve(size: number): Uint8Array {
  return size <= SCRATCH_BYTES ? scratch : new Uint8Array(size)
}

function hexByte(source: Uint8Array, at: number, type: string): number {
  return (hexDigit(source[at], type) << 4) | hexDigit(source[at + 1], type)
}

function hexDigit(byte: number, type: string): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  if (letter >= 0x61 && letter <= 0x66) return letter - 0x57
  return malformedValue(type, `the character ${byte} among hexadecimal digits`)
}

function readInteger(source: Uint8Array, start: number, end: number, maxSize: number, type: string): number {
  if (end - start > maxSize) malformedValue(type, shownText(source, start, end))
  if (source[start] !== MINUS) return readDigits(source, start, end, type)
  // 0 - n rather than -n: there is no negative zero among integers.
  return 0 - readDigits(source, start + 1, end, type)
}

function readDigits(source: Uint8Array, start: number, end: number, type: string): number {
  if (start >= end) malformedValue(type, 'no digits')
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = source[at] - 0x30
    if (digit < 0 || digit > 9) malformedValue(type, `the character ${source[at]}`)
    value = value * 10 + digit
  }
  return value
}
