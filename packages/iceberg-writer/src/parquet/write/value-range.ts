import { fixedWidth, type Column, type PrimitiveType } from '@moonlink/core'
import { COMPARED_BYTES, extremesOf } from './extremes.ts'

/**
 * The least and the greatest of some values, as they lie in a column (a boolean as one byte), in memory of their own; null where there
 * is none. A string or binary longer than `COMPARED_BYTES` is cut off a little behind that.
 */
export interface ValueRange {
  readonly least: Uint8Array | null
  readonly greatest: Uint8Array | null
  readonly nanCount: number
}

/** Of a longer value so many bytes are kept: whoever sees more than `COMPARED_BYTES` knows that it was longer. */
const KEPT_BYTES = COMPARED_BYTES + 4

/** The range of values `[from, to)`, none of them null. */
export function rangeOf(column: Column, from: number, to: number): ValueRange {
  const { least, greatest, nanCount } = extremesOf(column, from, to)
  return { least: least < 0 ? null : valueBytes(column, least), greatest: greatest < 0 ? null : valueBytes(column, greatest), nanCount }
}

/** One range for values of which these are the ranges. */
export function mergeRanges(type: PrimitiveType, ranges: readonly ValueRange[]): ValueRange {
  const nanCount = ranges.reduce((sum, range) => sum + range.nanCount, 0)
  const candidates = columnOf(
    type,
    ranges.flatMap(({ least, greatest }) => (least === null || greatest === null ? [] : [least, greatest])),
  )
  return { ...rangeOf(candidates, 0, candidates.length), nanCount }
}

function columnOf(type: PrimitiveType, values: readonly Uint8Array[]): Column {
  const bytes = new Uint8Array(values.reduce((sum, value) => sum + value.length, 0))
  const offsets = new Int32Array(values.length + 1)
  values.forEach((value, index) => {
    bytes.set(value, offsets[index])
    offsets[index + 1] = offsets[index] + value.length
  })
  const isVariable = type.kind === 'string' || type.kind === 'binary'
  return {
    // Booleans are bytes here, and those have the same order.
    type: type.kind === 'boolean' ? { kind: 'fixed', length: 1 } : type,
    length: values.length,
    nullCount: 0,
    validity: null,
    values: bytes,
    offsets: isVariable ? offsets : null,
    children: [],
  }
}

function valueBytes({ type, values, offsets }: Column, row: number): Uint8Array {
  if (type.kind === 'boolean') return new Uint8Array([(values[row >> 3] >> (row & 7)) & 1])
  if (offsets !== null) return values.slice(offsets[row], Math.min(offsets[row + 1], offsets[row] + KEPT_BYTES))
  const width = fixedWidth(type)
  return values.slice(row * width, (row + 1) * width)
}
