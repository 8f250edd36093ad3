import type { ColumnBuilder } from '@moonlink/core'
import { BadValueError, shownText } from './bad-value.ts'
import type { DecodeValue } from './decoder.ts'
import { malformedValue } from './wire.ts'

const OPEN = 0x7b
const CLOSE = 0x7d
const COMMA = 0x2c
const QUOTE = 0x22
const BACKSLASH = 0x5c

/**
 * The text form of a one-dimensional array: `{1,NULL,"a \"b\""}`, with `[lower:upper]=` in front where the lower bound is not 1.
 * The lower bound is not kept: an Iceberg list has none.
 */
export function textList(decodeElement: DecodeValue): DecodeValue {
  return (source, start, end, builder) => {
    let at = skipBounds(source, start, end)
    if (source[at] !== OPEN || source[end - 1] !== CLOSE || end - at < 2) malformed(source, start, end)
    at++
    const last = end - 1
    const [child] = builder.children
    if (at === last) return builder.appendListEnd()
    if (source[at] === OPEN) throw new BadValueError(shownText(source, start, end), 'which is an array of several dimensions, not a list')
    for (;;) {
      at =
        source[at] === QUOTE
          ? quotedElement(source, at + 1, last, child, decodeElement)
          : bareElement(source, at, last, child, decodeElement)
      if (at === last) return builder.appendListEnd()
      if (source[at] !== COMMA) malformed(source, start, end)
      at++
    }
  }
}

/** Decodes an element up to the next comma; returns where it ends. */
function bareElement(source: Uint8Array, start: number, last: number, child: ColumnBuilder, decodeElement: DecodeValue): number {
  let at = start
  while (at < last && source[at] !== COMMA) at++
  if (at === start) malformedValue('array', 'an element is missing')
  if (isNull(source, start, at)) child.appendNull()
  else decodeElement(source, start, at, child)
  return at
}

/** Decodes an element whose opening quote lies before `start`; returns what follows the closing one. */
function quotedElement(source: Uint8Array, start: number, last: number, child: ColumnBuilder, decodeElement: DecodeValue): number {
  let at = start
  let escapes = 0
  while (at < last && source[at] !== QUOTE) {
    if (source[at] === BACKSLASH) {
      escapes++
      at++
    }
    at++
  }
  if (at >= last) malformedValue('array', 'a quote is not closed')
  if (escapes === 0) decodeElement(source, start, at, child)
  else {
    const bytes = unescape(source, start, at, escapes)
    decodeElement(bytes, 0, bytes.length, child)
  }
  return at + 1
}

function unescape(source: Uint8Array, start: number, end: number, escapes: number): Uint8Array {
  const bytes = new Uint8Array(end - start - escapes)
  let size = 0
  for (let at = start; at < end; at++) {
    if (source[at] === BACKSLASH) at++
    bytes[size++] = source[at]!
  }
  return bytes
}

function skipBounds(source: Uint8Array, start: number, end: number): number {
  if (source[start] !== 0x5b) return start
  let at = start
  while (at < end && source[at] !== 0x3d) at++
  if (source.subarray(start, at).filter((byte) => byte === 0x5b).length > 1) {
    throw new BadValueError(shownText(source, start, end), 'which is an array of several dimensions, not a list')
  }
  return at + 1
}

/** An unquoted NULL, in the upper case that Postgres prints. */
function isNull(source: Uint8Array, start: number, end: number): boolean {
  return (
    end - start === 4 && source[start] === 0x4e && source[start + 1] === 0x55 && source[start + 2] === 0x4c && source[start + 3] === 0x4c
  )
}

function malformed(source: Uint8Array, start: number, end: number): never {
  malformedValue('array', `"${shownText(source, start, end)}"`)
}
