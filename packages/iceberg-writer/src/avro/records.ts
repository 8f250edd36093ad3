import { malformed, type Datum, type DatumRecord } from './avro-reader.ts'

/** Typed access to decoded records. Each throws `corrupt`/`AVRO_MALFORMED` for a value of another type. */

export function recordOf(datum: Datum | undefined): DatumRecord {
  if (typeof datum !== 'object' || datum === null || Array.isArray(datum) || datum instanceof Uint8Array) throw malformed('not a record')
  return datum as DatumRecord
}

/** A number of bytes, rows or files, or a place: not negative. */
export function requireCount(record: DatumRecord, key: string): number {
  const value = optionalCount(record, key)
  if (value === null) throw malformed(`field "${key}" is missing`)
  return value
}

export function optionalCount(record: DatumRecord, key: string): number | null {
  const value = optionalNumber(record, key)
  if (value !== null && value < 0) throw malformed(`field "${key}" is negative`)
  return value
}

export function requireNumber(record: DatumRecord, key: string): number {
  const value = optionalNumber(record, key)
  if (value === null) throw malformed(`field "${key}" is missing`)
  return value
}

export function optionalNumber(record: DatumRecord, key: string): number | null {
  const value = record[key] ?? null
  if (value === null || typeof value === 'number') return value
  throw malformed(`field "${key}" is not a number that fits in 53 bits`)
}

export function optionalBigInt(record: DatumRecord, key: string): bigint | null {
  const value = record[key] ?? null
  if (value === null) return null
  if (typeof value === 'number' || typeof value === 'bigint') return BigInt(value)
  throw malformed(`field "${key}" is not a long`)
}

export function requireString(record: DatumRecord, key: string): string {
  const value = optionalString(record, key)
  if (value === null) throw malformed(`field "${key}" is missing`)
  return value
}

export function optionalString(record: DatumRecord, key: string): string | null {
  const value = record[key] ?? null
  if (value === null || typeof value === 'string') return value
  throw malformed(`field "${key}" is not a string`)
}

export function requireBigInt(record: DatumRecord, key: string): bigint {
  const value = optionalBigInt(record, key)
  if (value === null) throw malformed(`field "${key}" is missing`)
  return value
}
