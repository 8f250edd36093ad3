import { assert, MoonlinkError } from './errors.ts'
import type { JsonObject, JsonValue } from './ports/catalog.ts'

/** The part of ECMAScript's "JSON.parse source text access" that TypeScript's library does not declare yet. */
interface SourceTextJson {
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
  rawJSON(text: string): unknown
}

const sourceTextJson = JSON as unknown as SourceTextJson

/** Every integer that a number can't hold has at least this many digits in a row. */
const LONG_INTEGER = /\d{16}/
const INTEGER = /^-?\d+$/

/**
 * Parses JSON as `JSON.parse` does, except that an integer beyond ±(2^53 − 1) comes as a `bigint`, exactly. Smaller integers
 * and everything with a fraction or exponent are numbers.
 *
 * Throws `corrupt`/`JSON_MALFORMED`; `what` names the text in that message. Nothing of the text itself is in it.
 */
export function parseJsonLossless(text: string, what = 'text'): JsonValue {
  try {
    // The reviver is called for every value, so it is worth asking first whether any could need it.
    if (!LONG_INTEGER.test(text)) return JSON.parse(text) as JsonValue
    return sourceTextJson.parse(text, reviveInteger) as JsonValue
  } catch (error) {
    const at = /position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1] ?? null
    throw new MoonlinkError('corrupt', 'JSON_MALFORMED', `${what} is not JSON${at === null ? '' : ` (at character ${at})`}.`, {
      context: { what, length: text.length, at },
    })
  }
}

function reviveInteger(_key: string, value: unknown, context: { readonly source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  return context.source !== undefined && INTEGER.test(context.source) ? BigInt(context.source) : value
}

/** Prints JSON as `JSON.stringify` does, with every `bigint` as an integer literal, and -0 as `-0`. A number that is not finite is a bug. */
export function stringifyJsonLossless(value: JsonValue, indent = 0): string {
  return JSON.stringify(value, printNumber, indent)
}

function printNumber(key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return sourceTextJson.rawJSON(value.toString())
  if (Object.is(value, -0)) return sourceTextJson.rawJSON('-0')
  assert(typeof value !== 'number' || Number.isFinite(value), 'a number in JSON is finite', { key, value })
  return value
}

/** Narrows to a JSON object: neither null nor an array. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
