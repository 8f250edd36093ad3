import type { ColumnBuilder } from '@moonlink/core'
import { BadValueError } from './bad-value.ts'
import type { DecodeValue } from './decoder.ts'
import { arrayQuoting, quoteFrom } from './quoting.ts'
import type { RenderText } from './render.ts'
import type { TextSink } from './text-sink.ts'
import { int32At, malformedValue } from './wire.ts'

/** The binary form of arrays: dimensions, a flag, the element type; for each dimension its size and lower bound; the elements. */

const HEADER_BYTES = 12
const DIMENSION_BYTES = 8
const MAX_DIMENSIONS = 6

/** Checks an array's header; returns the number of its dimensions. */
function dimensionsOf(source: Uint8Array, start: number, end: number, elementOid: number): number {
  if (end - start < HEADER_BYTES) malformedValue('array', 'too short')
  const dimensions = int32At(source, start)
  if (int32At(source, start + 8) >>> 0 !== elementOid) malformedValue('array', `elements of type ${int32At(source, start + 8)}`)
  if (dimensions < 0 || dimensions > MAX_DIMENSIONS || end - start < HEADER_BYTES + dimensions * DIMENSION_BYTES) {
    malformedValue('array', `${dimensions} dimensions in ${end - start} bytes`)
  }
  let count = dimensions === 0 ? 0 : 1
  for (let index = 0; index < dimensions; index++) {
    const size = sizeOf(source, start, index)
    count *= size
    // Each element takes at least its length word, so the count is bounded by the bytes that came. Only vectors have empty dimensions.
    if (size < 0 || count > (end - start) >> 2) malformedValue('array', `${size} elements in ${end - start} bytes`)
  }
  return dimensions
}

function sizeOf(source: Uint8Array, start: number, dimension: number): number {
  return int32At(source, start + HEADER_BYTES + dimension * DIMENSION_BYTES)
}

function lowerBoundOf(source: Uint8Array, start: number, dimension: number): number {
  return int32At(source, start + HEADER_BYTES + dimension * DIMENSION_BYTES + 4)
}

/** What a list cannot say of an array. */
export interface ListShape {
  /** Lists within each other, at least 1. An array of another number of dimensions does not fit; the empty array always does. */
  readonly depth: number
  /** Whether a lower bound other than 1 is dropped; otherwise such an array does not fit. */
  readonly dropsLowerBounds: boolean
}

/** A binary array as lists within each other. */
export function binaryList(elementOid: number, decodeElement: DecodeValue, { depth, dropsLowerBounds }: ListShape): DecodeValue {
  return (source, start, end, builder) => {
    const dimensions = dimensionsOf(source, start, end, elementOid)
    if (dimensions === 0) {
      if (end - start !== HEADER_BYTES) malformedValue('array', 'bytes behind an empty one')
      return builder.appendListEnd()
    }
    if (dimensions !== depth) refuseDimensions(dimensions, depth)
    for (let index = 0; index < dimensions && !dropsLowerBounds; index++) {
      if (lowerBoundOf(source, start, index) !== 1) refuseLowerBound(lowerBoundOf(source, start, index))
    }
    const last = appendLists(source, start, HEADER_BYTES + start + dimensions * DIMENSION_BYTES, end, 0, depth, decodeElement, builder)
    if (last !== end) malformedValue('array', `${end - last} bytes too many`)
  }
}

/** Appends the list of one dimension at `at`; returns where it ends. */
function appendLists(
  source: Uint8Array,
  start: number,
  at: number,
  end: number,
  dimension: number,
  depth: number,
  decodeElement: DecodeValue,
  builder: ColumnBuilder,
): number {
  const [child] = builder.children
  const count = sizeOf(source, start, dimension)
  for (let index = 0; index < count; index++) {
    if (dimension + 1 < depth) {
      at = appendLists(source, start, at, end, dimension + 1, depth, decodeElement, child)
      continue
    }
    if (end - at < 4) malformedValue('array', 'cut off')
    const size = int32At(source, at)
    at += 4
    if (size === -1) {
      child.appendNull()
      continue
    }
    if (size < 0 || size > end - at) malformedValue('array', `an element of ${size} bytes`)
    decodeElement(source, at, at + size, child)
    at += size
  }
  builder.appendListEnd()
  return at
}

export function refuseDimensions(dimensions: number, depth: number): never {
  const what = `an array of ${dimensions} dimension${dimensions === 1 ? '' : 's'}`
  throw new BadValueError(what, `which ${'list<'.repeat(depth)}…${'>'.repeat(depth)} cannot hold`)
}

export function refuseLowerBound(bound: number): never {
  throw new BadValueError(`an array that counts from ${bound}`, 'which a list cannot say (lowerBounds: drop takes it as it is)')
}

/** A binary array as `array_out` prints it: `{1,NULL,"a b"}`, `[0:1]={…}` where a lower bound is not 1. */
export function renderArray(elementOid: number, renderElement: RenderText, delimiter: string): RenderText {
  const rules = arrayQuoting(delimiter)
  const comma = delimiter.charCodeAt(0)
  return (source, start, end, sink) => {
    const dimensions = dimensionsOf(source, start, end, elementOid)
    if (dimensions === 0) return sink.ascii('{}')
    renderBounds(source, start, dimensions, sink)
    const items = (dimension: number, from: number): number => {
      let at = from
      sink.byte(0x7b)
      for (let index = 0; index < sizeOf(source, start, dimension); index++) {
        if (index > 0) sink.byte(comma)
        at = dimension + 1 < dimensions ? items(dimension + 1, at) : element(at)
      }
      sink.byte(0x7d)
      return at
    }
    const element = (at: number): number => {
      const size = end - at < 4 ? -2 : int32At(source, at)
      if (size === -1) {
        sink.ascii('NULL')
        return at + 4
      }
      if (size < 0 || size > end - at - 4) malformedValue('array', `an element of ${size} bytes`)
      const first = sink.length
      renderElement(source, at + 4, at + 4 + size, sink)
      quoteFrom(sink, first, rules)
      return at + 4 + size
    }
    const last = items(0, start + HEADER_BYTES + dimensions * DIMENSION_BYTES)
    if (last !== end) malformedValue('array', `${end - last} bytes too many`)
  }
}

function renderBounds(source: Uint8Array, start: number, dimensions: number, sink: TextSink): void {
  let isPlain = true
  for (let index = 0; index < dimensions; index++) if (lowerBoundOf(source, start, index) !== 1) isPlain = false
  if (isPlain) return
  for (let index = 0; index < dimensions; index++) {
    const lower = lowerBoundOf(source, start, index)
    sink.byte(0x5b)
    sink.integer(lower)
    sink.byte(0x3a)
    sink.integer(lower + sizeOf(source, start, index) - 1)
    sink.byte(0x5d)
  }
  sink.byte(0x3d)
}

/** int2vector and oidvector: arrays of one dimension that count from 0, printed with blanks between. */
export function renderVector(elementOid: number, renderElement: RenderText): RenderText {
  return (source, start, end, sink) => {
    if (dimensionsOf(source, start, end, elementOid) === 0) return
    const count = sizeOf(source, start, 0)
    let at = start + HEADER_BYTES + DIMENSION_BYTES
    for (let index = 0; index < count; index++) {
      const size = end - at < 4 ? -1 : int32At(source, at)
      if (size < 0 || size > end - at - 4) malformedValue('array', `an element of ${size} bytes`)
      if (index > 0) sink.byte(0x20)
      renderElement(source, at + 4, at + 4 + size, sink)
      at += 4 + size
    }
  }
}
