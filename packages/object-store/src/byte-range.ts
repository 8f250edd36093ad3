import { assert, type ByteRange } from '@moonlink/core'

/** The bytes `[start, end)` that a range means in an object of `size` bytes; empty where it lies past the end. */
export function resolveRange(range: ByteRange | undefined, size: number): { readonly start: number; readonly end: number } {
  if (range === undefined) return { start: 0, end: size }
  assertRange(range)
  const start = range.offset === null ? Math.max(0, size - range.length) : Math.min(range.offset, size)
  return { start, end: Math.min(size, start + range.length) }
}

export function assertRange(range: ByteRange): void {
  assert(isCount(range.length) && (range.offset === null || isCount(range.offset)), 'a byte range is made of whole numbers from 0', {
    offset: range.offset,
    length: range.length,
  })
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}
