import { MoonlinkError, stringifyJsonLossless, type JsonObject, type JsonValue } from '@moonlink/core'

/** Typed access to table metadata JSON. Each throws `corrupt`/`METADATA_MALFORMED` for a value that is missing or of another type. */

export function textOf(json: JsonObject, key: string): string {
  const value = json[key]
  if (typeof value !== 'string') throw malformed(key, 'a string')
  return value
}

export function numberOf(json: JsonObject, key: string): number {
  const value = json[key]
  if (typeof value !== 'number') throw malformed(key, 'a number')
  return value
}

/** A 64-bit id: JSON gives it as a number where that is exact, else as a bigint. */
export function longOf(json: JsonObject, key: string): bigint {
  const value = optionalLongOf(json, key)
  if (value === null) throw malformed(key, 'an integer')
  return value
}

/** Null where the key is absent, null, or the -1 that old writers put for none. */
export function optionalLongOf(json: JsonObject, key: string): bigint | null {
  const value = json[key] ?? null
  if (value === null) return null
  if (typeof value !== 'bigint' && !Number.isInteger(value)) throw malformed(key, 'an integer')
  const long = BigInt(value as number | bigint)
  return long === -1n ? null : long
}

/** An array of objects; empty where the key is absent. */
export function objectsOf(json: JsonObject, key: string): readonly JsonObject[] {
  const value = json[key] ?? []
  if (!Array.isArray(value)) throw malformed(key, 'an array')
  return value as readonly JsonObject[]
}

/** An object; empty where the key is absent. */
export function objectOf(json: JsonObject, key: string): JsonObject {
  const value = json[key] ?? {}
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(key, 'an object')
  return value as JsonObject
}

export function textMapOf(json: JsonObject, key: string): Readonly<Record<string, string>> {
  const entries = Object.entries(objectOf(json, key))
  return Object.fromEntries(entries.map(([name, value]) => [name, typeof value === 'string' ? value : stringifyJsonLossless(value)]))
}

/** A 64-bit id as JSON carries it best: a number where exact. */
export function longToJson(value: bigint): JsonValue {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER) ? Number(value) : value
}

function malformed(key: string, expected: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'METADATA_MALFORMED', `table metadata: "${key}" is not ${expected}.`, { context: { key } })
}
