import { isJsonObject, MoonlinkError, type JsonObject, type JsonValue } from '@moonlink/core'
import type { Long } from './avro-writer.ts'

/** A decoded Avro datum. Records are keyed as `compileDecoder` says; `long` is a number where that is exact, else a bigint. */
export type Datum = null | boolean | Long | string | Uint8Array | readonly Datum[] | DatumRecord
export interface DatumRecord {
  readonly [key: string]: Datum
}

export type Decoder = (reader: AvroReader) => Datum

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** How deep a schema, and a datum of records in records, may nest. */
const MAX_DEPTH = 64

/** Reads Avro's binary encoding. Throws `corrupt`/`AVRO_MALFORMED` where the bytes end early or a length makes no sense. */
export class AvroReader {
  readonly bytes: Uint8Array
  private readonly view: DataView
  at: number
  private depth = 0

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
    const bytes = this.bytesValue()
    try {
      return utf8.decode(bytes)
    } catch {
      throw malformed('a string is not UTF-8')
    }
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

  /**
   * Items of an array or map: blocks of a count (negative: a byte size follows) until a count of 0. An item has at least a byte here, so that no
   * count asks for more than the bytes can tell.
   */
  blocks(item: () => void): void {
    for (;;) {
      let count = this.long()
      if (count === 0) return
      if (count < 0) {
        count = -count
        this.long()
      }
      for (let index = 0; index < count; index++) this.advancing(item)
    }
  }

  /** Reads something that must take at least a byte. */
  advancing(read: () => void): void {
    const before = this.at
    read()
    if (this.at === before) throw malformed('items that take no bytes')
  }

  /** Reads a part of a datum that may hold others like it. */
  nested<T>(read: () => T): T {
    if (++this.depth > MAX_DEPTH) throw malformed('records nest too deeply')
    const value = read()
    this.depth--
    return value
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
  return new Compiler(names).compile(schema, 0)
}

class Compiler {
  private readonly names: ReadonlyMap<number, string>
  /** Named types met so far. */
  private readonly named = new Map<string, Decoder>()

  constructor(names: ReadonlyMap<number, string>) {
    this.names = names
  }

  compile(schema: JsonValue | undefined, depth: number): Decoder {
    if (depth > MAX_DEPTH) throw malformed('the schema nests too deeply')
    if (typeof schema === 'string') return PRIMITIVES.get(schema) ?? this.reference(schema)
    if (Array.isArray(schema)) return union(schema.map((branch: JsonValue) => this.compile(branch, depth + 1)))
    if (!isJsonObject(schema)) throw malformed(`a schema that is a ${typeof schema}`)
    switch (typeof schema['type'] === 'string' ? schema['type'] : 'nested') {
      case 'record':
        return this.record(schema, depth + 1)
      case 'array':
        return array(this.compile(schema['items'], depth + 1))
      case 'map':
        return map(this.compile(schema['values'], depth + 1))
      case 'fixed':
        return this.remember(schema, fixed(schema['size']))
      case 'enum':
        return this.remember(schema, enumeration(schema['symbols']))
      default:
        return this.compile(schema['type'], depth + 1)
    }
  }

  private reference(name: string): Decoder {
    const decoder = this.named.get(name)
    if (!decoder) throw malformed(`schema names an unknown type "${name}"`)
    return decoder
  }

  private remember({ name, namespace }: JsonObject, decoder: Decoder): Decoder {
    if (typeof name !== 'string') return decoder
    this.named.set(name, decoder)
    if (typeof namespace === 'string') this.named.set(`${namespace}.${name}`, decoder)
    return decoder
  }

  private record(node: JsonObject, depth: number): Decoder {
    const fields: { key: string; decode: Decoder }[] = []
    const decoder = this.remember(node, (reader) =>
      reader.nested(() => {
        const value: Record<string, Datum> = {}
        for (const field of fields) value[field.key] = field.decode(reader)
        return value
      }),
    )
    for (const field of listOf(node['fields'])) {
      if (!isJsonObject(field)) throw malformed('a field of a record is no object')
      const key = this.names.get(Number(field['field-id'])) ?? field['name']
      if (typeof key !== 'string') throw malformed('a field of a record has no name')
      fields.push({ key, decode: this.compile(field['type'], depth) })
    }
    return decoder
  }
}

const PRIMITIVES: ReadonlyMap<string, Decoder> = new Map<string, Decoder>([
  ['null', () => null],
  ['boolean', (reader) => reader.byte() === 1],
  ['int', (reader) => reader.long()],
  ['long', (reader) => reader.long()],
  ['float', (reader) => reader.float()],
  ['double', (reader) => reader.double()],
  ['bytes', (reader) => reader.bytesValue()],
  ['string', (reader) => reader.string()],
])

function union(branches: readonly Decoder[]): Decoder {
  return (reader) => {
    const index = reader.size()
    const branch = branches[index]
    if (!branch) throw malformed(`union branch ${index} of ${branches.length}`)
    return reader.nested(() => branch(reader))
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
    const entries: [string, Datum][] = []
    reader.blocks(() => entries.push([reader.string(), value(reader)]))
    return Object.fromEntries(entries)
  }
}

function fixed(size: JsonValue | undefined): Decoder {
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw malformed('a fixed type without a size')
  return (reader) => reader.raw(size)
}

function enumeration(symbols: JsonValue | undefined): Decoder {
  const names = listOf(symbols)
  return (reader) => {
    const symbol = names[reader.size()]
    return typeof symbol === 'string' ? symbol : null
  }
}

function listOf(json: JsonValue | undefined): readonly JsonValue[] {
  if (!Array.isArray(json)) throw malformed('the schema lacks a list')
  return json as readonly JsonValue[]
}

export function malformed(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'AVRO_MALFORMED', `malformed Avro: ${what}`)
}
