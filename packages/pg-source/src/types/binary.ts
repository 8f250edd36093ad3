import type { ColumnBuilder } from '@moonlink/core'
import { BadValueError } from './bad-value.ts'
import { checkSize, int16At, int32At, malformedValue } from './wire.ts'

/** Decoders of the binary form (the type's send function), except numeric, times and arrays, which have files of their own. */

export function binaryBool(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 1, 'bool')
  builder.appendBoolean(source[start] !== 0)
}

export function binaryInt2(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 2, 'int2')
  builder.appendInt32(int16At(source, start))
}

export function binaryInt4(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 4, 'int4')
  builder.appendInt32(int32At(source, start))
}

export function binaryInt8(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 8, 'int8')
  builder.appendInt64(int32At(source, start + 4), int32At(source, start))
}

export function binaryOid(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 4, 'oid')
  builder.appendInt64(int32At(source, start), 0)
}

/** Every NaN becomes the one canonical NaN: Postgres takes all of them for equal, and keys are compared by their bytes. */
export function binaryFloat4(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 4, 'float4')
  const bits = int32At(source, start)
  builder.appendInt32((bits & 0x7fff_ffff) > 0x7f80_0000 ? 0x7fc0_0000 : bits)
}

export function binaryFloat8(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 8, 'float8')
  const high = int32At(source, start)
  const low = int32At(source, start + 4)
  const magnitude = high & 0x7fff_ffff
  if (magnitude > 0x7ff0_0000 || (magnitude === 0x7ff0_0000 && low !== 0)) builder.appendInt64(0, 0x7ff8_0000)
  else builder.appendInt64(low, high)
}

/** Text of any kind, and bytea in binary: the bytes themselves. */
export function rawBytes(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  builder.appendBytes(source, start, end)
}

export function binaryUuid(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 16, 'uuid')
  builder.appendBytes(source, start, end)
}

/** A version byte, then the text that `jsonb_out` prints. */
export function binaryJsonb(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if (end === start || source[start] !== 1) malformedValue('jsonb', 'not version 1')
  builder.appendBytes(source, start + 1, end)
}

const escaped = new Uint8Array(4)

/** `"char"` is one byte, printed as Postgres 16 does: nothing for 0, `\ooo` above 127. */
export function binaryChar(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  checkSize(start, end, 1, '"char"')
  const byte = source[start]
  if (byte === 0) return builder.appendBytes(source, start, start)
  if (byte < 0x80) return builder.appendBytes(source, start, end)
  escaped[0] = 0x5c
  escaped[1] = 0x30 + (byte >> 6)
  escaped[2] = 0x30 + ((byte >> 3) & 7)
  escaped[3] = 0x30 + (byte & 7)
  builder.appendBytes(escaped, 0, 4)
}

/** A binary one-dimensional array. The lower bound is not kept: an Iceberg list has none. */
export function binaryList(elementOid: number, decodeElement: (s: Uint8Array, from: number, to: number, b: ColumnBuilder) => void) {
  return (source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void => {
    if (end - start < 12) malformedValue('array', 'too short')
    const dimensions = int32At(source, start)
    if (int32At(source, start + 8) !== elementOid) malformedValue('array', `elements of type ${int32At(source, start + 8)}`)
    if (dimensions === 0 && end - start === 12) return builder.appendListEnd()
    if (dimensions > 1 && dimensions <= 6) {
      throw new BadValueError(`an array of ${dimensions} dimensions`, 'which a list cannot hold')
    }
    if (dimensions !== 1 || end - start < 20) malformedValue('array', `${dimensions} dimensions in ${end - start} bytes`)
    const count = int32At(source, start + 12)
    let at = start + 20
    // Each element takes at least its length word, so the count is bounded by the bytes that came.
    if (count < 0 || count > (end - at) >> 2) malformedValue('array', `${count} elements in ${end - at} bytes`)
    const [child] = builder.children
    for (let index = 0; index < count; index++) {
      if (end - at < 4) malformedValue('array', 'cut off')
      const size = int32At(source, at)
      at += 4
      if (size === -1) {
        child.appendNull()
        continue
      }
      if (size < 0 || size > end - at) malformedValue('array', `an element of ${size} bytes`)
      decodeElement(source, at, at + size, child)
      at += size
    }
    if (at !== end) malformedValue('array', `${end - at} bytes too many`)
    builder.appendListEnd()
  }
}
