import { MoonlinkError, type FieldType, type JsonValue, type Value } from '@moonlink/core'
import { longToJson } from './fields.ts'

/** A default as JSON (Iceberg spec, "JSON single-value serialization"). The value is one that `isDefaultable` accepts. */
export function defaultToJson(type: FieldType, value: Value): JsonValue {
  if (value === null) return null
  switch (type.kind) {
    case 'boolean':
      return value as boolean
    case 'int':
    case 'float':
    case 'double':
      return value as number
    case 'long':
      return longToJson(value as bigint)
    case 'decimal':
      return decimalText(value as bigint, type.scale)
    case 'date':
      return dateText(value as number)
    case 'time':
      return timeText(value as bigint)
    case 'timestamp':
      return timestampText(value as bigint)
    case 'timestamptz':
      return `${timestampText(value as bigint)}+00:00`
    case 'string':
      return value as string
    case 'uuid':
      return uuidText(value as Uint8Array)
    case 'binary':
    case 'fixed':
      return hexOf(value as Uint8Array)
    default:
      throw new MoonlinkError('invalid', 'DEFAULT_UNSUPPORTED', `a column of type ${type.kind} can't have a default in Iceberg.`)
  }
}

/** Reads what `defaultToJson` or another writer wrote. Throws `corrupt`/`METADATA_MALFORMED`, naming the column. */
export function defaultFromJson(type: FieldType, json: JsonValue, column: string): Value {
  const value = json === null ? null : valueOf(type, json)
  if (value !== undefined) return value
  throw new MoonlinkError('corrupt', 'METADATA_MALFORMED', `table metadata: the default of column "${column}" is not a ${type.kind}.`, {
    context: { column },
  })
}

function valueOf(type: FieldType, json: JsonValue): Value | undefined {
  if (typeof json === 'boolean') return type.kind === 'boolean' ? json : undefined
  if (typeof json === 'number' || typeof json === 'bigint') return numberValue(type, json)
  return typeof json === 'string' ? textValue(type, json) : undefined
}

function numberValue(type: FieldType, json: number | bigint): Value | undefined {
  switch (type.kind) {
    case 'long':
      return typeof json === 'bigint' || Number.isInteger(json) ? BigInt(json) : undefined
    case 'int':
    case 'float':
    case 'double':
      return Number(json)
    default:
      return undefined
  }
}

function textValue(type: FieldType, text: string): Value | undefined {
  switch (type.kind) {
    case 'string':
      return text
    case 'decimal':
      return decimalOf(text, type.scale)
    case 'date': {
      const ms = Date.parse(`${text}T00:00:00Z`)
      return Number.isNaN(ms) ? undefined : ms / DAY_MS
    }
    case 'time':
      return timeOf(text)
    case 'timestamp':
    case 'timestamptz':
      return timestampOf(text)
    case 'uuid':
      return /^[0-9a-f-]{36}$/i.test(text) ? bytesOf(text.replaceAll('-', '')) : undefined
    case 'binary':
    case 'fixed':
      return bytesOf(text)
    default:
      return undefined
  }
}

const DAY_MS = 86_400_000
const SECOND_MICROS = 1_000_000n

function decimalText(unscaled: bigint, scale: number): string {
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
  const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
  return unscaled < 0n ? `-${text}` : text
}

function decimalOf(text: string, scale: number): bigint | undefined {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text)
  if (!match || (match[3] ?? '').length > scale) return undefined
  const unscaled = BigInt(match[2] + (match[3] ?? '').padEnd(scale, '0'))
  return match[1] === '-' ? -unscaled : unscaled
}

function dateText(days: number): string {
  return new Date(days * DAY_MS).toISOString().slice(0, 10)
}

function timeText(micros: bigint): string {
  const seconds = Number(micros / SECOND_MICROS)
  const part = (value: number) => String(value).padStart(2, '0')
  return `${part(Math.floor(seconds / 3600))}:${part(Math.floor(seconds / 60) % 60)}:${part(seconds % 60)}${fraction(micros)}`
}

function timeOf(text: string): bigint | undefined {
  const match = /^(\d\d):(\d\d)(?::(\d\d)(\.\d{1,6})?)?$/.exec(text)
  if (!match) return undefined
  const seconds = (Number(match[1]) * 60 + Number(match[2])) * 60 + Number(match[3] ?? 0)
  return BigInt(seconds) * SECOND_MICROS + microsOf(match[4])
}

function timestampText(micros: bigint): string {
  const fractionMicros = ((micros % SECOND_MICROS) + SECOND_MICROS) % SECOND_MICROS
  const seconds = (micros - fractionMicros) / SECOND_MICROS
  return new Date(Number(seconds) * 1000).toISOString().slice(0, 19) + fraction(fractionMicros)
}

function timestampOf(text: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(\.\d{1,6})?(?:\+00:00|Z)?$/.exec(text)
  if (!match) return undefined
  const ms = Date.parse(`${match[1]}${match[2] ?? ':00'}Z`)
  return Number.isNaN(ms) ? undefined : BigInt(ms) * 1000n + microsOf(match[3])
}

/** `.000001`, always of six digits, or nothing. */
function fraction(micros: bigint): string {
  const rest = micros % SECOND_MICROS
  return rest === 0n ? '' : `.${rest.toString().padStart(6, '0')}`
}

function microsOf(text: string | undefined): bigint {
  return text === undefined ? 0n : BigInt(text.slice(1).padEnd(6, '0'))
}

function uuidText(bytes: Uint8Array): string {
  return hexOf(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

function bytesOf(hex: string): Uint8Array | undefined {
  return /^(?:[0-9a-f]{2})*$/i.test(hex) ? new Uint8Array(Buffer.from(hex, 'hex')) : undefined
}
