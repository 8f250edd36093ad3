import { assert, defaultColumn, fixedWidth, MoonlinkError, type Column, type Field, type FieldType } from '@moonlink/core'
import type * as arrow from 'apache-arrow'
import { malformed, PhysicalType } from './footer.ts'
import { MICROS, type PhysicalColumn } from './physical-type.ts'
import { variantText, type BytesColumn } from './variant-columns.ts'

const MICROS_PER_DAY = 86_400_000_000n
const NO_BYTES = new Uint8Array(0)

/** Plain physical values (see `plainElements`) as a column of `type`; shares memory where the layouts agree. */
export function toColumn(data: arrow.Data, source: PhysicalColumn, type: FieldType): Column {
  assert(data.offset === 0, 'a decoded column starts at its first value')
  const { length } = data
  const nullCount = data.nullCount
  const validity = nullCount > 0 ? data.nullBitmap : null
  const shared = { type, length, nullCount, validity }
  const of = (values: Uint8Array, offsets: Int32Array | null = null, children: readonly Column[] = []): Column => ({
    ...shared,
    values,
    offsets,
    children,
  })
  switch (type.kind) {
    case 'list':
      return of(NO_BYTES, offsetsOf(data), [toColumn(data.children[0], source.children[0]!, type.element)])
    case 'struct':
      return of(
        NO_BYTES,
        null,
        type.fields.map((field, index) => partColumn(data, source.children[index], field)),
      )
    case 'string':
    case 'binary':
      return of(aligned(bytesOf(data.values as Uint8Array)), offsetsOf(data))
    case 'variant':
      return {
        ...shared,
        ...variantText(partOf(data, source.children[0]!), partOf(data, source.children[1]!), validity, length),
        children: [],
      }
    case 'decimal':
      return of(decimals(data, source.physical))
    case 'boolean':
      return of(aligned(bytesOf(data.values as Uint8Array)))
    default:
      return of(fixedValues(data, source, type))
  }
}

function partOf(variant: arrow.Data, part: PhysicalColumn): BytesColumn {
  const data = variant.children[part.index]
  return { values: bytesOf(data.values as Uint8Array), offsets: offsetsOf(data) }
}

function partColumn(data: arrow.Data, part: PhysicalColumn | null, field: Field): Column {
  return part === null ? defaultColumn(field, data.length) : toColumn(data.children[part.index], part, field.type)
}

function fixedValues(data: arrow.Data, source: PhysicalColumn, type: FieldType): Uint8Array {
  const values = data.values as ArrayBufferView
  const { kind } = type
  if (kind === 'long' && source.physical === PhysicalType.INT32) return widen(values as Int32Array)
  if (kind === 'double' && source.physical === PhysicalType.FLOAT) return bytesOf(Float64Array.from(values as Float32Array))
  if (kind === 'time' || kind === 'timestamp' || kind === 'timestamptz') return microseconds(values, source)
  const bytes = aligned(bytesOf(values))
  assert(bytes.length >= data.length * fixedWidth(type), 'a decoded column has a value per row', { kind, bytes: bytes.length })
  return bytes
}

/** Times and timestamps in microseconds. Units other than Iceberg's are rare, so they may cost a bigint a value. */
function microseconds(values: ArrayBufferView, { physical, ticksPerSecond }: PhysicalColumn): Uint8Array {
  if (physical === PhysicalType.INT32) {
    const factor = ticksPerSecond === 0 ? MICROS_PER_DAY : BigInt(MICROS / ticksPerSecond)
    return bytesOf(BigInt64Array.from(values as Int32Array, (value) => BigInt(value) * factor))
  }
  if (ticksPerSecond === 0 || ticksPerSecond === MICROS) return aligned(bytesOf(values))
  if (ticksPerSecond < MICROS) {
    const factor = BigInt(MICROS / ticksPerSecond)
    return bytesOf((values as BigInt64Array).map((value) => value * factor))
  }
  const divisor = BigInt(ticksPerSecond / MICROS)
  return bytesOf((values as BigInt64Array).map((value) => (value - (((value % divisor) + divisor) % divisor)) / divisor))
}

function widen(values: Int32Array): Uint8Array {
  const words = new Int32Array(values.length * 2)
  for (let index = 0; index < values.length; index++) {
    words[index * 2] = values[index]!
    words[index * 2 + 1] = values[index] >> 31
  }
  return bytesOf(words)
}

/** Unscaled values of any physical type as 128-bit little-endian integers. */
function decimals(data: arrow.Data, physical: number): Uint8Array {
  const words = new Int32Array(data.length * 4)
  if (physical === PhysicalType.INT32 || physical === PhysicalType.INT64) {
    const values = data.values as Int32Array | BigInt64Array
    const source = new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2)
    const width = physical === PhysicalType.INT32 ? 1 : 2
    for (let row = 0; row < data.length; row++) {
      const high = source[row * width + width - 1]
      words.fill(high >> 31, row * 4, row * 4 + 4)
      words[row * 4] = source[row * width]!
      if (width === 2) words[row * 4 + 1] = high
    }
    return bytesOf(words)
  }
  const target = bytesOf(words)
  const bytes = data.values as Uint8Array
  const offsets = physical === PhysicalType.BYTE_ARRAY ? offsetsOf(data) : null
  const width = offsets === null ? (data.type as arrow.FixedSizeBinary).byteWidth : 0
  for (let row = 0; row < data.length; row++) {
    const start = offsets === null ? row * width : offsets[row]
    const end = offsets === null ? start + width : offsets[row + 1]
    reverseInto(target, row * 16, bytes, start, end)
  }
  return target
}

/** Writes a big-endian integer of any width as 16 bytes little-endian, its sign extended. */
function reverseInto(target: Uint8Array, at: number, source: Uint8Array, start: number, end: number): void {
  if (start === end) return
  const sign = source[start] & 0x80 ? 0xff : 0
  for (let index = 0; index < 16; index++) {
    const from = end - 1 - index
    target[at + index] = from >= start ? source[from] : sign
  }
  if (end - start > 16 && source.subarray(start, end - 16).some((byte) => byte !== sign)) {
    throw new MoonlinkError('corrupt', 'PARQUET_DECIMAL_RANGE', 'a decimal of a Parquet file exceeds 128 bits')
  }
}

function offsetsOf(data: arrow.Data): Int32Array {
  const offsets = data.valueOffsets as unknown
  if (!(offsets instanceof Int32Array)) {
    throw malformed('a column is not what its schema says')
  }
  return offsets.length > data.length ? offsets : new Int32Array(data.length + 1)
}

function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Columns promise values that start at a multiple of 8. */
function aligned(bytes: Uint8Array): Uint8Array {
  return (bytes.byteOffset & 7) === 0 ? bytes : bytes.slice()
}
