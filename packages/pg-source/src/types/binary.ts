import type { ColumnBuilder } from '@moonlink/core'
import { checkSize, int16At, int32At, malformedValue } from './wire.ts'

/** Decoders of the binary form (the type's send function) to types that hold it natively; numeric, times and nested ones have files of their own. */

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

/** jsonb, jsonpath, ltree and the like: a version byte, then the text. */
export function binaryVersioned(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if (end === start || source[start] !== 1) malformedValue('jsonb', 'not version 1')
  builder.appendBytes(source, start + 1, end)
}
