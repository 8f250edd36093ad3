import { fixedWidth, type Column } from '@moonlink/core'

/** The rows that hold the least and the greatest value; -1 where there is none. NaN is no value; zeros of either sign are equal. */
export interface Extremes {
  readonly least: number
  readonly greatest: number
  readonly nanCount: number
}

/**
 * Strings and binaries are compared up to here; of longer ones that agree so far, the longer is greater. Enough for bounds of 16
 * code points.
 */
export const COMPARED_BYTES = 64

/** The extremes of values `[from, to)`, none of them null, of a primitive column, by Iceberg's order: signed numbers, unsigned bytes. */
export function extremesOf(column: Column, from: number, to: number): Extremes {
  if (from === to) return { least: -1, greatest: -1, nanCount: 0 }
  switch (column.type.kind) {
    case 'boolean':
      return booleanExtremes(column, from, to)
    case 'int':
    case 'date':
      return intExtremes(column, from, to)
    case 'float':
    case 'double':
      return floatExtremes(column, from, to)
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return longExtremes(column, from, to, 2)
    case 'decimal':
      // Up to 18 digits the upper two words only repeat the sign.
      return column.type.precision <= 18 ? longExtremes(column, from, to, 4) : wideExtremes(column, from, to)
    default:
      return byteExtremes(column, from, to)
  }
}

function booleanExtremes({ values }: Column, from: number, to: number): Extremes {
  let least = -1
  let greatest = -1
  for (let row = from; row < to && (least < 0 || greatest < 0); row++) {
    if ((values[row >> 3] >> (row & 7)) & 1) greatest = greatest < 0 ? row : greatest
    else least = least < 0 ? row : least
  }
  return { least: least < 0 ? greatest : least, greatest: greatest < 0 ? least : greatest, nanCount: 0 }
}

function intExtremes({ values }: Column, from: number, to: number): Extremes {
  const numbers = new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2)
  let least = from
  let greatest = from
  let min = numbers[from]
  let max = min
  for (let row = from + 1; row < to; row++) {
    const value = numbers[row]
    if (value < min) {
      min = value
      least = row
    } else if (value > max) {
      max = value
      greatest = row
    }
  }
  return { least, greatest, nanCount: 0 }
}

function floatExtremes({ type, values }: Column, from: number, to: number): Extremes {
  const { buffer, byteOffset, byteLength } = values
  const numbers =
    type.kind === 'float' ? new Float32Array(buffer, byteOffset, byteLength >> 2) : new Float64Array(buffer, byteOffset, byteLength >> 3)
  let least = -1
  let greatest = -1
  let min = Infinity
  let max = -Infinity
  let nanCount = 0
  for (let row = from; row < to; row++) {
    const value = numbers[row]
    if (value !== value) {
      nanCount++
      continue
    }
    if (value < min || least < 0) {
      min = value
      least = row
    }
    if (value > max || greatest < 0) {
      max = value
      greatest = row
    }
  }
  return { least, greatest, nanCount }
}

/** 64-bit integers that lie `stride` words apart, the low word first. */
function longExtremes({ values }: Column, from: number, to: number, stride: number): Extremes {
  const words = new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2)
  let least = from
  let greatest = from
  let minHigh = words[from * stride + 1]
  let minLow = words[from * stride] >>> 0
  let maxHigh = minHigh
  let maxLow = minLow
  for (let row = from + 1; row < to; row++) {
    const high = words[row * stride + 1]
    const low = words[row * stride] >>> 0
    if (high < minHigh || (high === minHigh && low < minLow)) {
      minHigh = high
      minLow = low
      least = row
    } else if (high > maxHigh || (high === maxHigh && low > maxLow)) {
      maxHigh = high
      maxLow = low
      greatest = row
    }
  }
  return { least, greatest, nanCount: 0 }
}

/** 128-bit integers. */
function wideExtremes({ values }: Column, from: number, to: number): Extremes {
  const words = new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2)
  let least = from
  let greatest = from
  for (let row = from + 1; row < to; row++) {
    if (compareWide(words, row, least) < 0) least = row
    else if (compareWide(words, row, greatest) > 0) greatest = row
  }
  return { least, greatest, nanCount: 0 }
}

function compareWide(words: Int32Array, a: number, b: number): number {
  const atA = a * 4
  const atB = b * 4
  if (words[atA + 3] !== words[atB + 3]) return words[atA + 3] - words[atB + 3]
  for (let word = 2; word >= 0; word--) {
    if (words[atA + word] !== words[atB + word]) return (words[atA + word] >>> 0) - (words[atB + word] >>> 0)
  }
  return 0
}

/** Strings, binaries, uuids and fixed values. */
function byteExtremes({ type, values, offsets }: Column, from: number, to: number): Extremes {
  const width = fixedWidth(type)
  const limit = offsets === null ? width : COMPARED_BYTES
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength)
  let leastRow = from
  let greatestRow = from
  let leastAt = offsets === null ? from * width : offsets[from]
  let leastEnd = offsets === null ? leastAt + width : offsets[from + 1]
  let greatestAt = leastAt
  let greatestEnd = leastEnd
  // Every value between the two begins with the `shared` bytes that they share; the four bytes behind those settle most comparisons.
  let shared = Math.min(leastEnd - leastAt, limit)
  let leastKey = 0
  let greatestKey = 0
  for (let row = from + 1; row < to; row++) {
    const at = offsets === null ? row * width : offsets[row]
    const end = offsets === null ? at + width : offsets[row + 1]
    const sharesAll = end - at >= shared && sameBytes(view, at, leastAt, shared)
    if (sharesAll && end - at >= shared + 4 && shared + 4 <= limit) {
      const key = view.getUint32(at + shared)
      if (key > leastKey && key < greatestKey) continue
    }
    const start = sharesAll ? shared : matchingBytes(values, at, end, leastAt, leastAt + shared)
    if (compareBytes(values, at, end, leastAt, leastEnd, start, limit) < 0) {
      leastRow = row
      leastAt = at
      leastEnd = end
    } else if (compareBytes(values, at, end, greatestAt, greatestEnd, start, limit) > 0) {
      greatestRow = row
      greatestAt = at
      greatestEnd = end
    } else continue
    shared = start
    // Where an extreme is too short for a key, no key lies between.
    const hasKeys = Math.min(leastEnd - leastAt, greatestEnd - greatestAt) >= shared + 4
    leastKey = hasKeys ? view.getUint32(leastAt + shared) : 0
    greatestKey = hasKeys ? view.getUint32(greatestAt + shared) : 0
  }
  return { least: leastRow, greatest: greatestRow, nanCount: 0 }
}

function sameBytes(view: DataView, a: number, b: number, size: number): boolean {
  let index = 0
  for (; index + 4 <= size; index += 4) if (view.getInt32(a + index) !== view.getInt32(b + index)) return false
  for (; index < size; index++) if (view.getUint8(a + index) !== view.getUint8(b + index)) return false
  return true
}

function matchingBytes(values: Uint8Array, from: number, to: number, fromB: number, toB: number): number {
  const size = Math.min(to - from, toB - fromB)
  let index = 0
  while (index < size && values[from + index] === values[fromB + index]) index++
  return index
}

/** Compares values whose first `common` bytes agree, looking at `limit` bytes at most. */
function compareBytes(values: Uint8Array, from: number, to: number, fromB: number, toB: number, common: number, limit: number): number {
  const size = Math.min(to - from, toB - fromB, limit)
  for (let index = common; index < size; index++) {
    const difference = values[from + index] - values[fromB + index]
    if (difference !== 0) return difference
  }
  return to - from - (toB - fromB)
}
