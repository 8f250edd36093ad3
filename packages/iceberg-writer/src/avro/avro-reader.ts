import { MoonlinkError, type JsonObject, type JsonValue } from '@moonlink/core'
import type { Long } from './avro-writer.ts'

/** A decoded Avro datum. Records are keyed as `compileDecoder` says; `long` is a number where that is exact, else a bigint. */
export type Datum = null | boolean | Long | string | Uint8Array | readonly Datum[] | DatumRecord
export interface DatumRecord {
  readonly [key: string]: Datum
}

export type Decoder = (reader: AvroReader) => Datum

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Reads Avro's binary encoding. Throws `corrupt`/`AVRO_MALFORMED` where the bytes end early or a length makes no sense. */
export class AvroReader {
  readonly bytes: Uint8Array
  private readonly view: DataView
  at: number

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = at
  }

  get atEnd(): boolean {
    return this.at >= this.bytes.length
  }

  long(): Long {
    let low = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.byte()
      low |= (byte & 0x7f) << shift
      if (byte < 0x80) return (low >>> 1) ^ -(low & 1)
    }
    return this.longTail(BigInt(low))
  }

  /** A long that must be a length or count: not negative, exact as a number. */
  size(): number {
    const value = this.long()
    if (typeof value !== 'number' || value < 0) throw malformed(`a length of ${value}`)
    return value
  }

  bytesValue(): Uint8Array {
    return this.raw(this.size())
  }

  string(): string {
    return utf8.decode(this.bytesValue())
  }

  raw(count: number): Uint8Array {
    if (count > this.bytes.length - this.at) throw malformed('bytes end early')
    const value = this.bytes.subarray(this.at, this.at + count)
    this.at += count
    return value
  }

  float(): number {
    this.raw(4)
    return this.view.getFloat32(this.at - 4, true)
  }

  double(): number {
    this.raw(8)
    return this.view.getFloat64(this.at - 8, true)
  }

  byte(): number {
    if (this.at >= this.bytes.length) throw malformed('bytes end early')
    return this.bytes[this.at++]
  }

  /** Items of an array or map: blocks of a count (negative: a byte size follows) until a count of 0. */
  blocks(item: () => void): void {
    for (;;) {
      let count = this.long()
      if (count === 0) return
      if (count < 0) {
        count = -count
        this.long()
      }
      for (let index = 0; index < count; index++) item()
    }
  }

  private longTail(low: bigint): Long {
    let value = low
    for (let shift = 28n; shift < 70n; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) {
        const bits = BigInt.asUintN(64, value)
        const long = (bits >> 1n) ^ -(bits & 1n)
        return long >= BigInt(Number.MIN_SAFE_INTEGER) && long <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(long) : long
      }
    }
    throw malformed('a varint longer than ten bytes')
  }
}

/**
 * Turns a writer's Avro schema into a decoder, so that files of any writer can be read, whatever the order of their fields.
 *
 * A record's fields are keyed by `names(field-id)` where the field has an id the map knows, else by their own name.
 */
export function compileDecoder(schema: JsonValue, names: ReadonlyMap<number, string>): Decoder {
  return compile(schema, names, new Map())
}

function compile(schema: JsonValue, names: ReadonlyMap<number, string>, named: Map<string, Decoder>): Decoder {
  if (typeof schema === 'string') return PRIMITIVES[schema] ?? reference(schema, named)
  if (Array.isArray(schema)) return union(schema.map((branch: JsonValue) => compile(branch, names, named)))
  if (schema === null || typeof schema !== 'object') throw malformed(`schema ${String(schema)}`)
  const node = schema as JsonObject
  const kind = typeof node['type'] === 'string' ? node['type'] : 'nested'
  switch (kind) {
    case 'record':
      return record(node, names, named)
    case 'array':
      return array(compile(node['items'] ?? null, names, named))
    case 'map':
      return map(compile(node['values'] ?? null, names, named))
    case 'fixed': {
      const size = Number(node['size'])
      return remember(node, named, (reader) => reader.raw(size))
    }
    case 'enum': {
      const symbols = (node['symbols'] ?? []) as readonly string[]
      return remember(node, named, (reader) => symbols[reader.size()] ?? null)
    }
    default:
      return compile(node['type'] ?? null, names, named)
  }
}

const PRIMITIVES: Readonly<Record<string, Decoder>> = {
  null: () => null,
  boolean: (reader) => reader.byte() === 1,
  int: (reader) => reader.long(),
  long: (reader) => reader.long(),
  float: (reader) => reader.float(),
  double: (reader) => reader.double(),
  bytes: (reader) => reader.bytesValue(),
  string: (reader) => reader.string(),
}

function reference(name: string, named: Map<string, Decoder>): Decoder {
  const decoder = named.get(name)
  if (!decoder) throw malformed(`schema names an unknown type "${name}"`)
  return decoder
}

function remember(node: JsonObject, named: Map<string, Decoder>, decoder: Decoder): Decoder {
  const name = node['name'] as string
  named.set(name, decoder)
  if (typeof node['namespace'] === 'string') named.set(`${node['namespace']}.${name}`, decoder)
  return decoder
}

function record(node: JsonObject, names: ReadonlyMap<number, string>, named: Map<string, Decoder>): Decoder {
  const fields: { key: string; decode: Decoder }[] = []
  const decoder = remember(node, named, (reader) => {
    const value: Record<string, Datum> = {}
    for (const field of fields) value[field.key] = field.decode(reader)
    return value
  })
  for (const field of (node['fields'] ?? []) as readonly JsonObject[]) {
    const key = names.get(Number(field['field-id'])) ?? (field['name'] as string)
    fields.push({ key, decode: compile(field['type'] ?? null, names, named) })
  }
  return decoder
}

function union(branches: readonly Decoder[]): Decoder {
  return (reader) => {
    const index = reader.size()
    const branch = branches[index]
    if (!branch) throw malformed(`union branch ${index} of ${branches.length}`)
    return branch(reader)
  }
}

function array(item: Decoder): Decoder {
  return (reader) => {
    const values: Datum[] = []
    reader.blocks(() => values.push(item(reader)))
    return values
  }
}

function map(value: Decoder): Decoder {
  return (reader) => {
    const entries: Record<string, Datum> = {}
    reader.blocks(() => {
      entries[reader.string()] = value(reader)
    })
    return entries
  }
}

export function malformed(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'AVRO_MALFORMED', `malformed Avro: ${what}`)
}
