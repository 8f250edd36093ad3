import { fixedWidth, type Column } from '@moonlink/core'

/** The rows that hold a column's least and greatest value; -1 where it has none. NaN is no value; zeros of either sign are equal. */
export interface Extremes {
  readonly least: number
  readonly greatest: number
  readonly nanCount: number
}

/**
 * Strings and binaries are compared up to here; of longer ones that agree so far, the longer is greater. Enough for bounds of 16
 * code points.
 */
const COMPARED_BYTES = 64

/** The extremes of a primitive column, by Iceberg's order: signed numbers, unsigned bytes. */
export function extremesOf(column: Column): Extremes {
  switch (column.type.kind) {
    case 'boolean':
      return booleanExtremes(column)
    case 'int':
    case 'date':
      return intExtremes(column)
    case 'float':
    case 'double':
      return floatExtremes(column)
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return wordExtremes(column, 2)
    case 'decimal':
      return wordExtremes(column, 4)
    default:
      return byteExtremes(column)
  }
}

function isNull(validity: Uint8Array | null, row: number): boolean {
  return validity !== null && ((validity[row >> 3] >> (row & 7)) & 1) === 0
}

function booleanExtremes({ values, validity, length }: Column): Extremes {
  let least = -1
  let greatest = -1
  for (let row = 0; row < length && (least < 0 || greatest < 0); row++) {
    if (isNull(validity, row)) continue
    if ((values[row >> 3] >> (row & 7)) & 1) greatest = greatest < 0 ? row : greatest
    else least = least < 0 ? row : least
  }
  return { least: least < 0 ? greatest : least, greatest: greatest < 0 ? least : greatest, nanCount: 0 }
}

function intExtremes({ values, validity, length }: Column): Extremes {
  const numbers = new Int32Array(values.buffer, values.byteOffset, length)
  let least = -1
  let greatest = -1
  let min = Infinity
  let max = -Infinity
  for (let row = 0; row < length; row++) {
    if (isNull(validity, row)) continue
    const value = numbers[row]
    if (value < min) {
      min = value
      least = row
    }
    if (value > max) {
      max = value
      greatest = row
    }
  }
  return { least, greatest, nanCount: 0 }
}

function floatExtremes({ type, values, validity, length }: Column): Extremes {
  const { buffer, byteOffset } = values
  const numbers = type.kind === 'float' ? new Float32Array(buffer, byteOffset, length) : new Float64Array(buffer, byteOffset, length)
  let least = -1
  let greatest = -1
  let nanCount = 0
  for (let row = 0; row < length; row++) {
    if (isNull(validity, row)) continue
    const value = numbers[row]
    if (value !== value) nanCount++
    else {
      if (least < 0 || value < numbers[least]) least = row
      if (greatest < 0 || value > numbers[greatest]) greatest = row
    }
  }
  return { least, greatest, nanCount }
}

/** Two's-complement integers of `words` 32-bit words, least significant first. */
function wordExtremes({ values, validity, length }: Column, words: number): Extremes {
  const numbers = new Int32Array(values.buffer, values.byteOffset, length * words)
  let least = -1
  let greatest = -1
  for (let row = 0; row < length; row++) {
    if (isNull(validity, row)) continue
    if (least < 0) least = greatest = row
    else if (compareWords(numbers, row, least, words) < 0) least = row
    else if (compareWords(numbers, row, greatest, words) > 0) greatest = row
  }
  return { least, greatest, nanCount: 0 }
}

function compareWords(numbers: Int32Array, a: number, b: number, words: number): number {
  const atA = a * words
  const atB = b * words
  let word = words - 1
  if (numbers[atA + word] !== numbers[atB + word]) return numbers[atA + word] - numbers[atB + word]
  while (--word >= 0) {
    if (numbers[atA + word] !== numbers[atB + word]) return (numbers[atA + word] >>> 0) - (numbers[atB + word] >>> 0)
  }
  return 0
}

function byteExtremes({ type, values, offsets, validity, length }: Column): Extremes {
  const width = fixedWidth(type)
  const limit = offsets === null ? width : COMPARED_BYTES
  const start = (row: number) => (offsets === null ? row * width : offsets[row])
  let least = -1
  let greatest = -1
  // Every value between the two shares the bytes that they share, so those are looked at once.
  let shared = 0
  for (let row = 0; row < length; row++) {
    if (isNull(validity, row)) continue
    const from = start(row)
    const to = start(row + 1)
    if (least < 0) {
      least = greatest = row
      shared = Math.min(to - from, limit)
      continue
    }
    const common = matchingBytes(values, from, to, start(least), start(least) + shared)
    if (compareBytes(values, from, to, start(least), start(least + 1), common, limit) < 0) least = row
    else if (compareBytes(values, from, to, start(greatest), start(greatest + 1), common, limit) > 0) greatest = row
    else continue
    shared = matchingBytes(values, start(least), Math.min(start(least + 1), start(least) + limit), start(greatest), start(greatest + 1))
  }
  return { least, greatest, nanCount: 0 }
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
