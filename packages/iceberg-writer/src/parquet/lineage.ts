import type { Column, Field } from '@moonlink/core'
import { LAST_UPDATED_FIELD_ID, ROW_ID_FIELD_ID } from './types.ts'

/** The columns that store lineage (Iceberg spec, row lineage): `_row_id`, then `_last_updated_sequence_number`. */
export const LINEAGE_FIELDS: readonly Field[] = [
  { id: ROW_ID_FIELD_ID, name: '_row_id', type: { kind: 'long' }, required: false },
  { id: LAST_UPDATED_FIELD_ID, name: '_last_updated_sequence_number', type: { kind: 'long' }, required: false },
]

const TWO_TO_32 = 0x1_0000_0000

/** The first `length` values as a `long` column; -1 becomes null. */
export function lineageColumn(values: Float64Array, length: number): Column {
  const words = new Int32Array(length * 2)
  const validity = new Uint8Array((length + 7) >> 3)
  let nullCount = 0
  for (let row = 0; row < length; row++) {
    const value = values[row]
    if (value < 0) {
      nullCount++
      continue
    }
    validity[row >> 3] |= 1 << (row & 7)
    words[row * 2] = (value % TWO_TO_32) | 0
    words[row * 2 + 1] = Math.floor(value / TWO_TO_32)
  }
  const bytes = new Uint8Array(words.buffer)
  return {
    type: { kind: 'long' },
    length,
    nullCount,
    validity: nullCount > 0 ? validity : null,
    values: bytes,
    offsets: null,
    children: [],
  }
}

/** A file's stored lineage with what its null rows inherit: `inherited(row)`. `stored` is null where the file has no such column. */
export function resolveLineage(stored: Column | null, length: number, inherited: (row: number) => number): Float64Array {
  const result = new Float64Array(length)
  const words = stored === null ? null : new Int32Array(stored.values.buffer, stored.values.byteOffset, length * 2)
  const validity = stored?.validity ?? null
  for (let row = 0; row < length; row++) {
    const isStored = words !== null && (validity === null || ((validity[row >> 3] >> (row & 7)) & 1) === 1)
    result[row] = isStored ? words[row * 2 + 1] * TWO_TO_32 + (words[row * 2] >>> 0) : inherited(row)
  }
  return result
}
