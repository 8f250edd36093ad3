import { bitAt, fixedWidth, int32View, type Column, type Field } from '@moonlink/core'
import type { KeyHashes } from './key-hashes.ts'

const MAX_PACKED_BYTES = 8

/** Bytes of a key column inside a packed key: 0 where the type has no fixed width. */
function packedWidth(field: Field): number {
  return field.type.kind === 'boolean' ? 1 : fixedWidth(field.type)
}

/** True where every value of the key fits side by side in 64 bits. */
export function isPackable(fields: readonly Field[]): boolean {
  const total = fields.reduce((sum, field) => sum + packedWidth(field), 0)
  return fields.length > 0 && total <= MAX_PACKED_BYTES && fields.every((field) => field.required && packedWidth(field) > 0)
}

/** Lays the key columns side by side into 64 bits, in key order: a bijection between keys and what lands in `into`. */
export function packKeys(fields: readonly Field[], columns: readonly Column[], from: number, into: KeyHashes): void {
  into.low.fill(0, 0, into.length)
  into.high.fill(0, 0, into.length)
  let offset = 0
  for (let index = 0; index < fields.length; index++) {
    const width = packedWidth(fields[index])
    const column = columns[index]
    if (column.type.kind === 'boolean') packBits(column, from, into, offset)
    else if (width === 8) packLongs(column, from, into)
    else if (width === 4 && offset % 4 === 0) packWords(column, from, offset === 0 ? into.low : into.high, into.length)
    else packBytes(column, width, from, into, offset)
    offset += width
  }
}

function packLongs(column: Column, from: number, { low, high, length }: KeyHashes): void {
  const words = int32View(column)
  for (let index = 0; index < length; index++) {
    low[index] = words[(from + index) * 2]!
    high[index] = words[(from + index) * 2 + 1]!
  }
}

function packWords(column: Column, from: number, half: Uint32Array, length: number): void {
  const words = int32View(column)
  for (let index = 0; index < length; index++) half[index] = words[from + index]!
}

function packBits(column: Column, from: number, into: KeyHashes, offset: number): void {
  const half = offset < 4 ? into.low : into.high
  const shift = (offset & 3) * 8
  for (let index = 0; index < into.length; index++) if (bitAt(column.values, from + index)) half[index] |= 1 << shift
}

function packBytes(column: Column, width: number, from: number, { low, high, length }: KeyHashes, offset: number): void {
  for (let index = 0; index < length; index++) {
    const start = (from + index) * width
    for (let byte = 0; byte < width; byte++) {
      const half = offset + byte < 4 ? low : high
      half[index] |= column.values[start + byte] << (((offset + byte) & 3) * 8)
    }
  }
}
