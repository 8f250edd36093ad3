import { fixedWidth, type Field, type FieldType } from '../types.ts'

/**
 * An immutable column in Arrow's memory layout, little-endian.
 *
 * - fixed width (`int long float double date time timestamp timestamptz decimal uuid fixed`): `values` holds
 *   `length × fixedWidth(type)` bytes. `date` is days since 1970, times and timestamps microseconds (since midnight, since
 *   1970), `decimal` a 128-bit two's-complement unscaled integer, `uuid` 16 bytes in network order.
 * - `boolean`: `values` is a bitmap, least significant bit first.
 * - `string` (UTF-8), `binary` and `variant` (JSON text as Postgres prints jsonb; see `VariantEncoder`): value i is `values[offsets[i] … offsets[i+1])`.
 * - `list`: elements of value i are `children[0][offsets[i] … offsets[i+1])`; `values` is empty.
 * - `struct`: part k of value i is `children[k][i]`, null where the value itself is; `values` is empty.
 *
 * `validity` is a bitmap (bit set = not null), or null where no value is null. The bytes of a null value are unspecified.
 * `values` starts at an offset of its buffer that is a multiple of 8, so typed views over it are legal. Arrays may be longer than
 * `length` needs; what lies beyond is unspecified.
 */
export interface Column {
  readonly type: FieldType
  readonly length: number
  readonly nullCount: number
  readonly validity: Uint8Array | null
  readonly values: Uint8Array
  readonly offsets: Int32Array | null
  /** As many as `childTypes(type)`. */
  readonly children: readonly Column[]
}

/** Rows as columns of equal length, in the order of `fields`. */
export interface ColumnBatch {
  readonly fields: readonly Field[]
  readonly columns: readonly Column[]
  readonly length: number
}

/** Whether the row has a value; false where it is null. */
export function isValid(column: Column, row: number): boolean {
  return column.validity === null || ((column.validity[row >> 3] >> (row & 7)) & 1) === 1
}

/** The bit of a bitmap, least significant first. */
export function bitAt(bitmap: Uint8Array, index: number): boolean {
  return ((bitmap[index >> 3] >> (index & 7)) & 1) === 1
}

/** The values of a column of 4-byte integers: int and date; shares its memory. */
export function int32View(column: Column): Int32Array {
  return new Int32Array(column.values.buffer, column.values.byteOffset, column.values.byteLength >> 2)
}

/** The values of a column of 8-byte integers: long, time and timestamps; of decimals two words each, the lower first; shares its memory. */
export function bigInt64View(column: Column): BigInt64Array {
  return new BigInt64Array(column.values.buffer, column.values.byteOffset, column.values.byteLength >> 3)
}

/** The values of a column of floats; shares its memory. */
export function float32View(column: Column): Float32Array {
  return new Float32Array(column.values.buffer, column.values.byteOffset, column.values.byteLength >> 2)
}

/** The values of a column of doubles; shares its memory. */
export function float64View(column: Column): Float64Array {
  return new Float64Array(column.values.buffer, column.values.byteOffset, column.values.byteLength >> 3)
}

/** Bytes a column's `length` values take, its children included; what memory limits count. */
export function columnByteSize(column: Column): number {
  let size = column.validity ? (column.length + 7) >> 3 : 0
  if (column.type.kind === 'boolean') size += (column.length + 7) >> 3
  else if (column.offsets) {
    size += (column.length + 1) * 4
    if (column.type.kind !== 'list') size += column.offsets[column.length] - column.offsets[0]
  } else size += column.length * fixedWidth(column.type)
  for (const child of column.children) size += columnByteSize(child)
  return size
}

/** Bytes that the values of all columns take. */
export function batchByteSize(batch: ColumnBatch): number {
  return batch.columns.reduce((sum, column) => sum + columnByteSize(column), 0)
}
