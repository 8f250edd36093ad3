import type { ColumnBuilder } from '@moonlink/core'
import { shownText } from './bad-value.ts'
import { renderFloat4 } from './render-float.ts'
import { textFloat4 } from './text.ts'
import type { TextSink } from './text-sink.ts'
import { int32At, malformedValue, uint16At } from './wire.ts'

/** The forms of types that well-known extensions bring: hstore, pgvector, PostGIS. */

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** hstore: `"key"=>"value", "other"=>NULL`; in binary the number of pairs, then keys and values with their sizes. */
export function renderHstore(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = end - start < 4 ? -1 : int32At(source, start)
  if (count < 0) malformedValue('hstore', 'too short')
  let at = start + 4
  for (let index = 0; index < 2 * count; index++) {
    if (index > 0) sink.ascii(index % 2 === 0 ? ', ' : '=>')
    const size = end - at < 4 ? -2 : int32At(source, at)
    at += 4
    if (size === -1 && index % 2 === 1) sink.ascii('NULL')
    else if (size < 0 || size > end - at) malformedValue('hstore', `a part of ${size} bytes`)
    else renderQuoted(source, at, (at += size), sink)
  }
  if (at !== end) malformedValue('hstore', `${end - at} bytes too many`)
}

function renderQuoted(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  sink.byte(QUOTE)
  for (let at = start; at < end; at++) {
    if (source[at] === QUOTE || source[at] === BACKSLASH) sink.byte(BACKSLASH)
    sink.byte(source[at])
  }
  sink.byte(QUOTE)
}

/** pgvector's vector: dimensions and a reserved word (16 bits each), then float4 values. */
export function binaryVector(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const count = vectorLength(source, start, end, 4)
  const [child] = builder.children
  for (let index = 0; index < count; index++) child.appendInt32(int32At(source, start + 4 + 4 * index))
  builder.appendListEnd()
}

/** pgvector's halfvec, whose values of 16 bits are all float4 values too. */
export function binaryHalfvec(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const count = vectorLength(source, start, end, 2)
  const [child] = builder.children
  for (let index = 0; index < count; index++) child.appendInt32(widenHalf(uint16At(source, start + 4 + 2 * index)))
  builder.appendListEnd()
}

function vectorLength(source: Uint8Array, start: number, end: number, width: number): number {
  const count = end - start < 4 ? -1 : uint16At(source, start)
  if (end - start !== 4 + count * width) malformedValue('vector', `${count} dimensions in ${end - start} bytes`)
  return count
}

/** The bits of a 16-bit float as those of the same 32-bit float. */
function widenHalf(bits: number): number {
  const sign = (bits & 0x8000) << 16
  let exponent = (bits >> 10) & 0x1f
  let fraction = bits & 0x3ff
  if (exponent === 0x1f) return sign | 0x7f80_0000 | (fraction << 13)
  if (exponent === 0) {
    if (fraction === 0) return sign
    for (exponent = 1; (fraction & 0x400) === 0; exponent--) fraction <<= 1
    fraction &= 0x3ff
  }
  return sign | ((exponent + 112) << 23) | (fraction << 13)
}

/** vector and halfvec as text: `[1,2.5,3]`. */
export function textVector(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if (end - start < 2 || source[start] !== 0x5b || source[end - 1] !== 0x5d) malformedValue('vector', shownText(source, start, end))
  const [child] = builder.children
  let from = start + 1
  for (let at = from; at < end; at++) {
    if (source[at] !== 0x2c && at !== end - 1) continue
    if (at > from) textFloat4(source, from, at, child)
    from = at + 1
  }
  builder.appendListEnd()
}

const number = new Uint8Array(4)

export function renderVectorText(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = vectorLength(source, start, end, 4)
  sink.byte(0x5b)
  for (let index = 0; index < count; index++) {
    if (index > 0) sink.byte(0x2c)
    renderFloat4(source, start + 4 + 4 * index, start + 8 + 4 * index, sink)
  }
  sink.byte(0x5d)
}

export function renderHalfvec(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = vectorLength(source, start, end, 2)
  sink.byte(0x5b)
  for (let index = 0; index < count; index++) {
    if (index > 0) sink.byte(0x2c)
    const bits = widenHalf(uint16At(source, start + 4 + 2 * index))
    for (let byte = 0; byte < 4; byte++) number[byte] = bits >> (24 - 8 * byte)
    renderFloat4(number, 0, 4, sink)
  }
  sink.byte(0x5d)
}

/** sparsevec: `{1:1.5,3:2}/5`, counting from 1; in binary dimensions, the number of values and a reserved word, indices from 0, values. */
export function renderSparsevec(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = end - start < 12 ? -1 : int32At(source, start + 4)
  if (end - start !== 12 + 8 * count) malformedValue('sparsevec', `${count} values in ${end - start} bytes`)
  sink.byte(0x7b)
  for (let index = 0; index < count; index++) {
    if (index > 0) sink.byte(0x2c)
    sink.integer(int32At(source, start + 12 + 4 * index) + 1)
    sink.byte(0x3a)
    const at = start + 12 + 4 * count + 4 * index
    renderFloat4(source, at, at + 4, sink)
  }
  sink.ascii('}/')
  sink.integer(int32At(source, start))
}

/** PostGIS prints its extended well-known binary in hexadecimal, upper case. */
export function renderEwkb(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  sink.reserve(2 * (end - start))
  for (let at = start; at < end; at++) {
    sink.byte(upperHex(source[at] >> 4))
    sink.byte(upperHex(source[at] & 15))
  }
}

export function textEwkb(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if ((end - start) % 2 !== 0) malformedValue('geometry', shownText(source, start, end))
  const bytes = Buffer.from(new TextDecoder('latin1').decode(source.subarray(start, end)), 'hex')
  if (bytes.length !== (end - start) / 2) malformedValue('geometry', shownText(source, start, end))
  builder.appendBytes(bytes, 0, bytes.length)
}

function upperHex(digit: number): number {
  return digit < 10 ? 0x30 + digit : 0x37 + digit
}
