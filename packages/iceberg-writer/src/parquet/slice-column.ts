import { fixedWidth, type Column } from '@moonlink/core'

/** Rows `[from, to)` of a column, offsets beginning at 0. Shares its memory, except for offsets and bitmaps that have to be shifted. */
export function sliceColumn(column: Column, from: number, to: number): Column {
  const length = to - from
  const validity = column.validity === null ? null : sliceBits(column.validity, from, to)
  const nullCount = validity === null ? 0 : column.length === length ? column.nullCount : length - countBits(validity, length)
  const shared = { type: column.type, length, nullCount, validity: nullCount === 0 ? null : validity }
  if (column.type.kind === 'struct') {
    return { ...shared, values: column.values, offsets: null, children: column.children.map((child) => sliceColumn(child, from, to)) }
  }
  if (column.offsets === null) {
    const { kind } = column.type
    const width = fixedWidth(column.type)
    const values = kind === 'boolean' ? sliceBits(column.values, from, to) : column.values.subarray(from * width, to * width)
    return { ...shared, values, offsets: null, children: [] }
  }
  const first = column.offsets[from]
  const last = column.offsets[to]
  const offsets = rebase(column.offsets.subarray(from, to + 1), first)
  if (column.type.kind === 'list')
    return { ...shared, values: column.values, offsets, children: [sliceColumn(column.children[0], first, last)] }
  return { ...shared, values: column.values.subarray(first, last), offsets, children: [] }
}

function rebase(offsets: Int32Array, first: number): Int32Array {
  return first === 0 ? offsets : offsets.map((offset) => offset - first)
}

/** Bits `[from, to)` as a bitmap that starts at bit 0; what lies beyond its last bit is unspecified. */
function sliceBits(bitmap: Uint8Array, from: number, to: number): Uint8Array {
  const bytes = (to - from + 7) >> 3
  const start = from >> 3
  const shift = from & 7
  if (shift === 0) return bitmap.subarray(start, start + bytes)
  const result = new Uint8Array(bytes)
  for (let index = 0; index < bytes; index++) {
    result[index] = (bitmap[start + index] >> shift) | ((bitmap[start + index + 1] ?? 0) << (8 - shift))
  }
  return result
}

function countBits(bitmap: Uint8Array, length: number): number {
  let count = 0
  const whole = length >> 3
  for (let index = 0; index < whole; index++) count += bitsInByte(bitmap[index])
  if (length & 7) count += bitsInByte(bitmap[whole] & ((1 << (length & 7)) - 1))
  return count
}

function bitsInByte(byte: number): number {
  const pairs = byte - ((byte >> 1) & 0x55)
  const nibbles = (pairs & 0x33) + ((pairs >> 2) & 0x33)
  return (nibbles + (nibbles >> 4)) & 0x0f
}
