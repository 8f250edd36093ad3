import { MoonlinkError } from '@moonlink/core'

/**
 * Thrift's compact protocol as trees, for Parquet's footers and page indexes. A struct keeps every field that was read, known or not, so
 * what is written again loses nothing. Source: thrift-compact-protocol.md of apache/thrift.
 */
export const ThriftType = {
  TRUE: 1,
  FALSE: 2,
  I8: 3,
  I16: 4,
  I32: 5,
  I64: 6,
  DOUBLE: 7,
  BINARY: 8,
  LIST: 9,
  SET: 10,
  MAP: 11,
  STRUCT: 12,
  UUID: 13,
} as const

/** Integers up to 32 bits are numbers, 64-bit ones bigints; a double stays its 8 bytes. */
export type ThriftValue = boolean | number | bigint | Uint8Array | ThriftList | ThriftMap | ThriftStruct

export interface ThriftList {
  readonly elementType: number
  readonly items: ThriftValue[]
}

export interface ThriftMap {
  readonly keyType: number
  readonly valueType: number
  readonly entries: [ThriftValue, ThriftValue][]
}

const decoder = new TextDecoder()
const encoder = new TextEncoder()
const MAX_DEPTH = 64

/** A struct's fields by id. Getters return undefined for an absent field and throw `corrupt` for one of another type. */
export class ThriftStruct {
  private readonly fields = new Map<number, { readonly type: number; readonly value: ThriftValue }>()

  get ids(): number[] {
    return [...this.fields.keys()].sort((a, b) => a - b)
  }

  typeOf(id: number): number | undefined {
    return this.fields.get(id)?.type
  }

  value(id: number): ThriftValue | undefined {
    return this.fields.get(id)?.value
  }

  i32(id: number): number | undefined {
    return this.typed(id, ThriftType.I32) as number | undefined
  }

  i64(id: number): number | undefined {
    const value = this.typed(id, ThriftType.I64) as bigint | undefined
    return value === undefined ? undefined : Number(value)
  }

  text(id: number): string | undefined {
    const bytes = this.typed(id, ThriftType.BINARY) as Uint8Array | undefined
    return bytes === undefined ? undefined : decoder.decode(bytes)
  }

  struct(id: number): ThriftStruct | undefined {
    return this.typed(id, ThriftType.STRUCT) as ThriftStruct | undefined
  }

  /** A list of structs; empty where the field is absent. */
  structs(id: number): readonly ThriftStruct[] {
    const list = this.typed(id, ThriftType.LIST) as ThriftList | undefined
    if (list === undefined || list.items.length === 0) return []
    if (list.elementType !== ThriftType.STRUCT) throw malformed(`field ${id} is not a list of structs`)
    return list.items as ThriftStruct[]
  }

  set(id: number, type: number, value: ThriftValue): this {
    this.fields.set(id, { type, value })
    return this
  }

  setBoolean(id: number, value: boolean): this {
    return this.set(id, ThriftType.TRUE, value)
  }

  setI32(id: number, value: number): this {
    return this.set(id, ThriftType.I32, value)
  }

  setI64(id: number, value: number): this {
    return this.set(id, ThriftType.I64, BigInt(value))
  }

  setText(id: number, value: string): this {
    return this.set(id, ThriftType.BINARY, encoder.encode(value))
  }

  setStruct(id: number, value: ThriftStruct): this {
    return this.set(id, ThriftType.STRUCT, value)
  }

  setStructs(id: number, items: readonly ThriftStruct[]): this {
    return this.set(id, ThriftType.LIST, { elementType: ThriftType.STRUCT, items: [...items] })
  }

  setList(id: number, elementType: number, items: readonly ThriftValue[]): this {
    return this.set(id, ThriftType.LIST, { elementType, items: [...items] })
  }

  delete(...ids: number[]): this {
    for (const id of ids) this.fields.delete(id)
    return this
  }

  /** A copy whose fields can be set without touching this one's; the values are shared. */
  clone(): ThriftStruct {
    const copy = new ThriftStruct()
    for (const [id, field] of this.fields) copy.fields.set(id, field)
    return copy
  }

  private typed(id: number, type: number): ThriftValue | undefined {
    const field = this.fields.get(id)
    if (field === undefined) return undefined
    if (field.type !== type) throw malformed(`field ${id} has type ${field.type}, not ${type}`)
    return field.value
  }
}

/** Reads one struct at the start of `bytes`. Binary values share its memory. Throws `corrupt`. */
export function readThrift(bytes: Uint8Array): ThriftStruct {
  return new Reader(bytes).struct(0)
}

/** As `readThrift`, for a struct that something follows: how many bytes it takes, too. */
export function readThriftPrefix(bytes: Uint8Array): { readonly struct: ThriftStruct; readonly size: number } {
  const reader = new Reader(bytes)
  const struct = reader.struct(0)
  return { struct, size: reader.at }
}

export function writeThrift(struct: ThriftStruct): Uint8Array {
  const writer = new Writer()
  writer.struct(struct)
  return writer.take()
}

class Reader {
  private readonly bytes: Uint8Array
  at = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  struct(depth: number): ThriftStruct {
    if (depth > MAX_DEPTH) throw malformed('structs nest too deeply')
    const struct = new ThriftStruct()
    let id = 0
    for (;;) {
      const header = this.byte()
      if (header === 0) return struct
      const delta = header >> 4
      id = delta === 0 ? this.zigzag() : id + delta
      const type = header & 15
      struct.set(id, type, type === ThriftType.TRUE || type === ThriftType.FALSE ? type === ThriftType.TRUE : this.value(type, depth))
    }
  }

  private value(type: number, depth: number): ThriftValue {
    switch (type) {
      case ThriftType.TRUE:
      case ThriftType.FALSE:
        return this.byte() === ThriftType.TRUE
      case ThriftType.I8:
        return (this.byte() << 24) >> 24
      case ThriftType.I16:
      case ThriftType.I32:
        return this.zigzag()
      case ThriftType.I64: {
        const raw = this.varint()
        return (raw >> 1n) ^ -(raw & 1n)
      }
      case ThriftType.DOUBLE:
        return this.take(8)
      case ThriftType.BINARY:
        return this.take(Number(this.varint()))
      case ThriftType.UUID:
        return this.take(16)
      case ThriftType.LIST:
      case ThriftType.SET:
        return this.list(depth + 1)
      case ThriftType.MAP:
        return this.map(depth + 1)
      case ThriftType.STRUCT:
        return this.struct(depth + 1)
      default:
        throw malformed(`unknown type ${type}`)
    }
  }

  private list(depth: number): ThriftList {
    const header = this.byte()
    const size = header >> 4 === 15 ? Number(this.varint()) : header >> 4
    this.checkCount(size)
    const elementType = header & 15
    const items: ThriftValue[] = []
    for (let index = 0; index < size; index++) items.push(this.value(elementType, depth))
    return { elementType, items }
  }

  private map(depth: number): ThriftMap {
    const size = Number(this.varint())
    this.checkCount(size)
    const types = size === 0 ? 0 : this.byte()
    const map: ThriftMap = { keyType: types >> 4, valueType: types & 15, entries: [] }
    for (let index = 0; index < size; index++) map.entries.push([this.value(map.keyType, depth), this.value(map.valueType, depth)])
    return map
  }

  private checkCount(size: number): void {
    if (size > this.bytes.length - this.at) throw malformed('a collection is longer than the input')
  }

  private byte(): number {
    if (this.at >= this.bytes.length) throw malformed('the input ends early')
    return this.bytes[this.at++]
  }

  private take(size: number): Uint8Array {
    if (size > this.bytes.length - this.at) throw malformed('the input ends early')
    this.at += size
    return this.bytes.subarray(this.at - size, this.at)
  }

  private zigzag(): number {
    const raw = Number(BigInt.asUintN(32, this.varint()))
    return (raw >>> 1) ^ -(raw & 1)
  }

  private varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw malformed('a varint is too long')
  }
}

class Writer {
  private bytes = new Uint8Array(4096)
  private at = 0

  struct(struct: ThriftStruct): void {
    let last = 0
    for (const id of struct.ids) {
      const value = struct.value(id)!
      const declared = struct.typeOf(id)!
      const type = typeof value === 'boolean' ? (value ? ThriftType.TRUE : ThriftType.FALSE) : declared
      const delta = id - last
      if (delta > 0 && delta <= 15) this.byte((delta << 4) | type)
      else {
        this.byte(type)
        this.zigzag(id)
      }
      last = id
      if (typeof value !== 'boolean') this.value(type, value)
    }
    this.byte(0)
  }

  take(): Uint8Array {
    return this.bytes.slice(0, this.at)
  }

  private value(type: number, value: ThriftValue): void {
    switch (type) {
      case ThriftType.TRUE:
      case ThriftType.FALSE:
        return this.byte(value === true ? ThriftType.TRUE : ThriftType.FALSE)
      case ThriftType.I8:
        return this.byte((value as number) & 255)
      case ThriftType.I16:
      case ThriftType.I32:
        return this.zigzag(value as number)
      case ThriftType.I64: {
        const signed = value as bigint
        return this.varint(BigInt.asUintN(64, (signed << 1n) ^ (signed >> 63n)))
      }
      case ThriftType.BINARY:
        this.varint(BigInt((value as Uint8Array).length))
        return this.raw(value as Uint8Array)
      case ThriftType.DOUBLE:
      case ThriftType.UUID:
        return this.raw(value as Uint8Array)
      case ThriftType.LIST:
      case ThriftType.SET:
        return this.list(value as ThriftList)
      case ThriftType.MAP:
        return this.map(value as ThriftMap)
      default:
        return this.struct(value as ThriftStruct)
    }
  }

  private list({ elementType, items }: ThriftList): void {
    this.byte((Math.min(items.length, 15) << 4) | elementType)
    if (items.length >= 15) this.varint(BigInt(items.length))
    for (const item of items) this.value(elementType, item)
  }

  private map({ keyType, valueType, entries }: ThriftMap): void {
    this.varint(BigInt(entries.length))
    if (entries.length === 0) return
    this.byte((keyType << 4) | valueType)
    for (const [key, value] of entries) {
      this.value(keyType, key)
      this.value(valueType, value)
    }
  }

  private byte(value: number): void {
    this.reserve(1)
    this.bytes[this.at++] = value
  }

  private raw(bytes: Uint8Array): void {
    this.reserve(bytes.length)
    this.bytes.set(bytes, this.at)
    this.at += bytes.length
  }

  private zigzag(value: number): void {
    this.varint(BigInt(((value << 1) ^ (value >> 31)) >>> 0))
  }

  private varint(value: bigint): void {
    while (value >= 0x80n) {
      this.byte(Number(value & 0x7fn) | 0x80)
      value >>= 7n
    }
    this.byte(Number(value))
  }

  private reserve(count: number): void {
    if (this.at + count <= this.bytes.length) return
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.at + count))
    grown.set(this.bytes)
    this.bytes = grown
  }
}

function malformed(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'THRIFT_MALFORMED', `thrift data is malformed: ${what}`)
}
