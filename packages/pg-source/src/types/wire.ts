import { MoonlinkError } from '@moonlink/core'

/** Big-endian reads by shifts: no views, no allocation. The caller has checked the range. */
export function uint16At(source: Uint8Array, at: number): number {
  return (source[at] << 8) | source[at + 1]
}

export function int16At(source: Uint8Array, at: number): number {
  return (((source[at] << 8) | source[at + 1]) << 16) >> 16
}

export function int32At(source: Uint8Array, at: number): number {
  return (source[at] << 24) | (source[at + 1] << 16) | (source[at + 2] << 8) | source[at + 3]
}

/** Unsigned 64 bits as bigint; for positions, never for values. */
export function uint64At(source: Uint8Array, at: number): bigint {
  return (BigInt(int32At(source, at) >>> 0) << 32n) | BigInt(int32At(source, at + 4) >>> 0)
}

/** Bytes that no Postgres sends for the type. Kept out of the decoders so that they stay small enough to inline. */
export function malformedValue(type: string, what: string): never {
  throw new MoonlinkError('corrupt', 'VALUE_MALFORMED', `a ${type} value from Postgres is malformed: ${what}`, { context: { type } })
}

export function checkSize(start: number, end: number, size: number, type: string): void {
  if (end - start !== size) malformedValue(type, `${end - start} bytes instead of ${size}`)
}
