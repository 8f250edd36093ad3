import { fixedWidth, type Column } from '@moonlink/core'

/** The values of a primitive column at `rows`, none of them null, one after the other, in memory of its own. */
export function denseColumn(column: Column, rows: Uint32Array): Column {
  const shared = { type: column.type, length: rows.length, nullCount: 0, validity: null, children: [] }
  if (column.offsets !== null) return { ...shared, ...denseBytes(column.values, column.offsets, rows) }
  if (column.type.kind === 'boolean') return { ...shared, values: denseBits(column.values, rows), offsets: null }
  return { ...shared, values: denseValues(column.values, fixedWidth(column.type), rows), offsets: null }
}

function denseValues(source: Uint8Array, width: number, rows: Uint32Array): Uint8Array {
  if (width % 4 !== 0) {
    const values = new Uint8Array(rows.length * width)
    for (let index = 0; index < rows.length; index++) {
      for (let byte = 0; byte < width; byte++) values[index * width + byte] = source[rows[index] * width + byte]
    }
    return values
  }
  const size = width >> 2
  const from = new Int32Array(source.buffer, source.byteOffset, source.byteLength >> 2)
  const words = new Int32Array(rows.length * size)
  let at = 0
  for (let index = 0; index < rows.length; index++) {
    const start = rows[index] * size
    for (let word = start; word < start + size; word++) words[at++] = from[word]
  }
  return new Uint8Array(words.buffer)
}

function denseBits(source: Uint8Array, rows: Uint32Array): Uint8Array {
  const bits = new Uint8Array((rows.length + 7) >> 3)
  for (let index = 0; index < rows.length; index++) {
    const row = rows[index]
    if ((source[row >> 3] >> (row & 7)) & 1) bits[index >> 3] |= 1 << (index & 7)
  }
  return bits
}

function denseBytes(source: Uint8Array, from: Int32Array, rows: Uint32Array): { values: Uint8Array; offsets: Int32Array } {
  const offsets = new Int32Array(rows.length + 1)
  for (let index = 0; index < rows.length; index++) offsets[index + 1] = offsets[index] + from[rows[index] + 1] - from[rows[index]]
  const values = new Uint8Array(offsets[rows.length])
  // Neighbours in the source are neighbours here, so a run of rows is one copy.
  for (let index = 0; index < rows.length;) {
    let end = index + 1
    while (end < rows.length && rows[end] === rows[end - 1] + 1) end++
    values.set(source.subarray(from[rows[index]], from[rows[end - 1] + 1]), offsets[index])
    index = end
  }
  return { values, offsets }
}
