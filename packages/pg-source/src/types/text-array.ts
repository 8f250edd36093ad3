import type { ColumnBuilder } from '@moonlink/core'
import { refuseDimensions, refuseLowerBound, type ListShape } from './binary-array.ts'
import { shownText } from './bad-value.ts'
import type { DecodeValue } from './decoder.ts'
import { malformedValue } from './wire.ts'

const OPEN = 0x7b
const CLOSE = 0x7d
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** The text form of an array as lists within each other: `{{1,NULL},{2,3}}`, `[lower:upper]=` in front where a lower bound is not 1. */
export function textList(decodeElement: DecodeValue, { depth, dropsLowerBounds }: ListShape, delimiter = ','): DecodeValue {
  const separator = delimiter.charCodeAt(0)
  return (source, start, end, builder) => {
    const at = skipBounds(source, start, end, dropsLowerBounds)
    if (source[at] !== OPEN || source[end - 1] !== CLOSE || end - at < 2) malformed(source, start, end)
    if (end - at === 2) return builder.appendListEnd()
    let dimensions = 0
    while (source[at + dimensions] === OPEN) dimensions++
    if (dimensions !== depth) refuseDimensions(dimensions, depth)
    const last = appendList(source, at, end, depth, separator, decodeElement, builder)
    if (last !== end) malformed(source, start, end)
  }
}

/** int2vector and oidvector: elements with blanks between. */
export function textVectorList(decodeElement: DecodeValue): DecodeValue {
  return (source, start, end, builder) => {
    const [child] = builder.children
    let from = start
    for (let at = start; at <= end; at++) {
      if (at < end && source[at] !== 0x20) continue
      if (at > from) decodeElement(source, from, at, child)
      from = at + 1
    }
    builder.appendListEnd()
  }
}

/** Appends the list that opens at `at`; returns what follows its closing brace. */
function appendList(
  source: Uint8Array,
  start: number,
  end: number,
  depth: number,
  separator: number,
  decodeElement: DecodeValue,
  builder: ColumnBuilder,
): number {
  const [child] = builder.children
  if (source[start] !== OPEN) malformed(source, start, end)
  let at = start + 1
  for (;;) {
    if (depth > 1) at = appendList(source, at, end, depth - 1, separator, decodeElement, child)
    else if (source[at] === QUOTE) at = quotedElement(source, at + 1, end, child, decodeElement)
    else at = bareElement(source, at, end, separator, child, decodeElement)
    if (at >= end) malformed(source, start, end)
    if (source[at] === CLOSE) break
    if (source[at] !== separator) malformed(source, start, end)
    at++
  }
  builder.appendListEnd()
  return at + 1
}

/** Decodes an element up to what ends it; returns where it ends. */
function bareElement(
  source: Uint8Array,
  start: number,
  end: number,
  separator: number,
  child: ColumnBuilder,
  decodeElement: DecodeValue,
): number {
  let at = start
  while (at < end && source[at] !== separator && source[at] !== CLOSE) at++
  if (at === start) malformedValue('array', 'an element is missing')
  if (isNull(source, start, at)) child.appendNull()
  else decodeElement(source, start, at, child)
  return at
}

/** Decodes an element whose opening quote lies before `start`; returns what follows the closing one. */
function quotedElement(source: Uint8Array, start: number, end: number, child: ColumnBuilder, decodeElement: DecodeValue): number {
  let at = start
  let escapes = 0
  while (at < end && source[at] !== QUOTE) {
    if (source[at] === BACKSLASH) {
      escapes++
      at++
    }
    at++
  }
  if (at >= end) malformedValue('array', 'a quote is not closed')
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

/** Skips `[lower:upper][lower:upper]=`, which is there only where a lower bound is not 1. */
function skipBounds(source: Uint8Array, start: number, end: number, dropsLowerBounds: boolean): number {
  if (source[start] !== 0x5b) return start
  let at = start
  while (at < end && source[at] !== 0x3d) at++
  if (at === end) malformed(source, start, end)
  if (dropsLowerBounds) return at + 1
  const bounds = shownText(source, start, at).matchAll(/\[(-?\d+):/g)
  for (const [, lower] of bounds) if (lower !== '1') refuseLowerBound(Number(lower))
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
