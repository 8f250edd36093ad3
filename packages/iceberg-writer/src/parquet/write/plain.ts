import { COPY_SLACK_BYTES, copyShort, fixedWidth, SHORT_COPY_BYTES, type ByteSink, type Column } from '@moonlink/core'
import { PhysicalType } from '../footer.ts'
import type { Leaf } from './file-schema.ts'

/** Bytes that values `[from, to)` take in Parquet's PLAIN encoding. */
export function plainSize({ type, physical, typeLength }: Leaf, { offsets }: Column, from: number, to: number): number {
  if (offsets !== null) return offsets[to] - offsets[from] + 4 * (to - from)
  if (type.kind === 'boolean') return (to - from + 7) >> 3
  if (physical === PhysicalType.FIXED) return typeLength * (to - from)
  return (physical === PhysicalType.INT32 || physical === PhysicalType.FLOAT ? 4 : 8) * (to - from)
}

/** Appends values `[from, to)`, none of them null, in Parquet's PLAIN encoding (Encodings.md of apache/parquet-format). */
export function appendPlain(sink: ByteSink, leaf: Leaf, column: Column, from: number, to: number): void {
  const { type, values, offsets } = column
  if (offsets !== null) appendByteArrays(sink, values, offsets, from, to)
  else if (type.kind === 'boolean') appendBits(sink, values, from, to)
  else if (type.kind !== 'decimal') sink.append(values.subarray(from * fixedWidth(type), to * fixedWidth(type)))
  else if (leaf.physical === PhysicalType.FIXED) appendBigEndian(sink, values, from, to, leaf.typeLength)
  else appendLowWords(sink, values, from, to, leaf.physical === PhysicalType.INT32 ? 1 : 2)
}

/** Each value behind its length. */
function appendByteArrays(sink: ByteSink, values: Uint8Array, offsets: Int32Array, from: number, to: number): void {
  sink.reserve(offsets[to] - offsets[from] + 4 * (to - from) + COPY_SLACK_BYTES)
  const { bytes, view } = sink
  const source = new DataView(values.buffer, values.byteOffset, values.byteLength)
  let at = sink.length
  let start = offsets[from]
  for (let row = from; row < to; row++) {
    const end = offsets[row + 1]
    view.setInt32(at, end - start, true)
    at += 4
    // What is written behind a value is overwritten next.
    if (end - start > SHORT_COPY_BYTES || end + COPY_SLACK_BYTES > values.length) bytes.set(values.subarray(start, end), at)
    else copyShort(view, at, source, start, end)
    at += end - start
    start = end
  }
  sink.length = at
}

function appendBits(sink: ByteSink, values: Uint8Array, from: number, to: number): void {
  const size = (to - from + 7) >> 3
  sink.reserve(size)
  const { bytes, length } = sink
  const start = from >> 3
  const shift = from & 7
  for (let index = 0; index < size; index++) {
    bytes[length + index] = (values[start + index] >> shift) | ((values[start + index + 1] ?? 0) << (8 - shift))
  }
  if ((to - from) & 7) bytes[length + size - 1] &= (1 << ((to - from) & 7)) - 1
  sink.length += size
}

/** The low words of 128-bit integers. */
function appendLowWords(sink: ByteSink, values: Uint8Array, from: number, to: number, words: number): void {
  const source = new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2)
  sink.reserve(4 * words * (to - from))
  const { view } = sink
  let at = sink.length
  for (let row = from; row < to; row++) {
    view.setInt32(at, source[row * 4], true)
    if (words === 2) view.setInt32(at + 4, source[row * 4 + 1], true)
    at += 4 * words
  }
  sink.length = at
}

/** The low `width` bytes of little-endian 128-bit integers, most significant first. */
function appendBigEndian(sink: ByteSink, values: Uint8Array, from: number, to: number, width: number): void {
  sink.reserve(width * (to - from))
  const { bytes } = sink
  let at = sink.length
  for (let row = from; row < to; row++) {
    for (let byte = row * 16 + width - 1; byte >= row * 16; byte--) bytes[at++] = values[byte]
  }
  sink.length = at
}
