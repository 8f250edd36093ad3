import type { ColumnBuilder } from '@moonlink/core'

/**
 * Appends the value at `source[start … end)` to the builder of its column, or throws before the value is complete:
 * `BadValueError` where Iceberg cannot hold it, `corrupt`/`VALUE_MALFORMED` where Postgres cannot have sent it.
 */
export type DecodeValue = (source: Uint8Array, start: number, end: number, builder: ColumnBuilder) => void

/**
 * Appends values of one column: value i is `source[cells[at + 2·i] … cells[at + 2·i + 1])`, or null where that end is negative. Returns how
 * many were appended; fewer than `count` where the next one is null or needs the decoder of single values. Throws as that does.
 */
export type DecodeRun = (source: Uint8Array, cells: Int32Array, at: number, count: number, builder: ColumnBuilder) => number

/** A column's decoders for the two forms that values travel in. Text means Postgres' output under `datestyle=ISO` and `bytea_output=hex`. */
export interface ValueDecoder {
  readonly binary: DecodeValue
  readonly text: DecodeValue
}
