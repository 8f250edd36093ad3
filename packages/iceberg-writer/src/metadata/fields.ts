import { isJsonObject, MoonlinkError, stringifyJsonLossless, type JsonObject, type JsonValue } from '@moonlink/core'

/** Typed access to table metadata JSON. Each throws `corrupt`/`METADATA_MALFORMED` for a value that is missing or of another type. */

export function textOf(json: JsonObject, key: string): string {
  const value = json[key]
  if (typeof value !== 'string') throw malformed(key, 'a string')
  return value
}

/** A whole number that is exact as a number: ids of schemas and fields, sequence numbers, times. */
export function numberOf(json: JsonObject, key: string): number {
  const value = json[key]
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw malformed(key, 'a whole number below 2^53')
  return value
}

export function countOf(json: JsonObject, key: string): number {
  const value = numberOf(json, key)
  if (value < 0) throw malformed(key, 'a count')
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
  if (!Array.isArray(value) || !(value as readonly JsonValue[]).every(isJsonObject)) throw malformed(key, 'an array of objects')
  return value as readonly JsonObject[]
}

/** An array of whole numbers; empty where the key is absent. */
export function numbersOf(json: JsonObject, key: string): readonly number[] {
  const value = json[key] ?? []
  if (!Array.isArray(value) || !value.every((item) => Number.isSafeInteger(item))) throw malformed(key, 'an array of whole numbers')
  return value as readonly number[]
}

/** An object; empty where the key is absent. */
export function objectOf(json: JsonObject, key: string): JsonObject {
  const value = json[key] ?? {}
  if (!isJsonObject(value)) throw malformed(key, 'an object')
  return value
}

/** Objects by their names; empty where the key is absent. */
export function objectMapOf(json: JsonObject, key: string): readonly (readonly [string, JsonObject])[] {
  const entries = Object.entries(objectOf(json, key))
  return entries.map(([name, value]) => {
    if (!isJsonObject(value)) throw malformed(`${key}.${name}`, 'an object')
    return [name, value]
  })
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
