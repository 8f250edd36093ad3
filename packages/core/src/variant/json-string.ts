import type { ByteSink } from '../byte-sink.ts'
import { malformedJson, unfitJson } from './variant-error.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const LOWER_U = 0x75
const HEX = new TextEncoder().encode('0123456789abcdef')
/** The letter behind a backslash, and the character that it means. */
const ESCAPES = new Map([
  [QUOTE, QUOTE],
  [BACKSLASH, BACKSLASH],
  [0x2f, 0x2f],
  [0x62, 0x08],
  [0x66, 0x0c],
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
])
/** By a character's code the letter that stands for it; 0 where none does, or none has to. */
const LETTERS = new Uint8Array(0x60)
for (const [letter, code] of ESCAPES) if (code !== 0x2f) LETTERS[code] = letter

/** Where the string whose text begins at `at`, behind its quote, ends: the index of the closing quote. Negative where it has escapes. */
export function endOfString(source: Uint8Array, at: number, end: number): number {
  let hasEscapes = false
  for (let next = at; next < end; next++) {
    const byte = source[next]
    if (byte === QUOTE) return hasEscapes ? -next : next
    if (byte === BACKSLASH) {
      hasEscapes = true
      next++
    }
  }
  throw malformedJson(source, at - 1, end)
}

/**
 * Appends the characters that the text of a JSON string means. Throws `invalid`: `VARIANT_UNFIT` for what Postgres' jsonb doesn't take either (`\u0000`,
 * half of a surrogate pair), `VARIANT_JSON_MALFORMED`.
 */
export function unescape(source: Uint8Array, start: number, end: number, sink: ByteSink): void {
  let run = start
  let at = start
  while (at < end) {
    if (source[at] !== BACKSLASH) {
      at++
      continue
    }
    sink.append(source.subarray(run, at))
    const letter = source[at + 1]
    if (letter === LOWER_U) at = unescapeUnit(source, at, end, sink)
    else {
      const meant = ESCAPES.get(letter)
      if (meant === undefined) throw malformedJson(source, at, end)
      sink.appendByte(meant)
      at += 2
    }
    run = at
  }
  sink.append(source.subarray(run, end))
}

function unescapeUnit(source: Uint8Array, at: number, end: number, sink: ByteSink): number {
  const unit = hexUnit(source, at, end)
  if (unit === 0) throw unfitJson('it has \\u0000, and jsonb has no such character')
  if (unit < 0xd800 || unit > 0xdfff) {
    appendCodePoint(sink, unit)
    return at + 6
  }
  const isPair = unit < 0xdc00 && at + 12 <= end && source[at + 6] === BACKSLASH && source[at + 7] === LOWER_U
  const low = isPair ? hexUnit(source, at + 6, end) : 0
  if (low < 0xdc00 || low > 0xdfff) throw unfitJson('it has half of a surrogate pair, and that is no character')
  appendCodePoint(sink, 0x1_0000 + ((unit - 0xd800) << 10) + low - 0xdc00)
  return at + 12
}

function hexUnit(source: Uint8Array, at: number, end: number): number {
  let unit = 0
  for (let next = at + 2; next < at + 6; next++) {
    const byte = source[next] | 0x20
    const digit = source[next] >= 0x30 && source[next] <= 0x39 ? source[next] - 0x30 : byte >= 0x61 && byte <= 0x66 ? byte - 0x57 : -1
    if (digit < 0 || next >= end) throw malformedJson(source, at, end)
    unit = unit * 16 + digit
  }
  return unit
}

function appendCodePoint(sink: ByteSink, point: number): void {
  if (point < 0x80) return sink.appendByte(point)
  const rest = (shift: number) => sink.appendByte(0x80 | ((point >> shift) & 0x3f))
  if (point < 0x800) sink.appendByte(0xc0 | (point >> 6))
  else {
    if (point < 0x1_0000) sink.appendByte(0xe0 | (point >> 12))
    else {
      sink.appendByte(0xf0 | (point >> 18))
      rest(12)
    }
    rest(6)
  }
  rest(0)
}

/** Appends UTF-8 as a JSON string, escaped as Postgres' `escape_json` does it. */
export function appendJsonString(sink: ByteSink, source: Uint8Array, start: number, end: number): void {
  sink.reserve(end - start + 2)
  sink.bytes[sink.length++] = QUOTE
  let run = start
  for (let at = start; at < end; at++) {
    const byte = source[at]
    if (byte >= 0x20 && byte !== QUOTE && byte !== BACKSLASH) continue
    sink.append(source.subarray(run, at))
    run = at + 1
    sink.appendByte(BACKSLASH)
    const letter = LETTERS[byte]
    if (letter !== 0) sink.appendByte(letter)
    else {
      sink.appendByte(LOWER_U)
      sink.appendByte(HEX[0])
      sink.appendByte(HEX[0])
      sink.appendByte(HEX[byte >> 4])
      sink.appendByte(HEX[byte & 15])
    }
  }
  sink.append(source.subarray(run, end))
  sink.appendByte(QUOTE)
}
