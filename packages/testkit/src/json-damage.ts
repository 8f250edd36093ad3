import { isJsonObject, type JsonObject, type JsonValue } from '@moonlink/core'

/** What a value may be replaced by: every kind of JSON, and numbers and texts that no reader should go by. */
const OTHERS: readonly JsonValue[] = [
  null,
  true,
  0,
  -1,
  -7,
  0.5,
  1e300,
  2 ** 53,
  2n ** 70n,
  '',
  'x',
  '9'.repeat(30),
  '\u0000/../%',
  [],
  [null],
  [[]],
  {},
  { x: null },
  JSON.parse('{"__proto__": {"version": 1}}') as JsonValue,
  JSON.parse('['.repeat(1000) + ']'.repeat(1000)) as JsonValue,
]

export interface DamagedJson {
  /** What was done, and where. */
  readonly what: string
  readonly value: JsonValue
}

/**
 * Every copy of a JSON value in which one value, at any depth, is another, is missing or is there twice: what somebody may hand over who has a bug,
 * another version, or bad intentions.
 */
export function* damagedJson(original: JsonValue, path = '$'): Generator<DamagedJson> {
  for (const value of OTHERS) yield { what: `${path} = ${typeof value === 'bigint' ? value : JSON.stringify(value)}`, value }
  if (Array.isArray(original)) yield* damagedArray(original as readonly JsonValue[], path)
  else if (isJsonObject(original)) yield* damagedObject(original, path)
}

function* damagedArray(original: readonly JsonValue[], path: string): Generator<DamagedJson> {
  for (const [index, item] of original.entries()) {
    yield { what: `${path}[${index}] is missing`, value: original.toSpliced(index, 1) }
    yield { what: `${path}[${index}] is there twice`, value: original.toSpliced(index, 0, item) }
    for (const { what, value } of damagedJson(item, `${path}[${index}]`)) yield { what, value: original.with(index, value) }
  }
}

function* damagedObject(original: JsonObject, path: string): Generator<DamagedJson> {
  for (const [key, item] of Object.entries(original)) {
    const { [key]: _missing, ...others } = original
    yield { what: `${path}.${key} is missing`, value: others }
    yield { what: `${path}.${key} is called __proto__`, value: { ...others, ['__proto__']: item } }
    for (const { what, value } of damagedJson(item, `${path}.${key}`)) yield { what, value: { ...original, [key]: value } }
  }
}
