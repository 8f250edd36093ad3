import {
  DuckDBArrayType,
  DuckDBArrayValue,
  DuckDBBlobValue,
  DuckDBDateValue,
  DuckDBDecimalValue,
  DuckDBIntervalValue,
  DuckDBListType,
  DuckDBListValue,
  DuckDBMapValue,
  DuckDBStructType,
  DuckDBStructValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  DuckDBTimeValue,
  DuckDBTypeId,
  DuckDBUnionValue,
  type DuckDBDataChunk,
  type DuckDBType,
  type DuckDBValue,
} from '@duckdb/node-api'
import { bytesText, dateText, decimalText, intervalText, shortestFloat, timestampText, timeText } from './cell-text.ts'

/**
 * A value of a result. Integers are numbers, or bigints where a number would lose digits; decimals, dates, times, timestamps
 * (UTC), intervals, uuids and binary (`\x…`) are text as Postgres prints them; a 32-bit float is the number of the fewest digits that
 * name it (`0.1`), as Postgres prints it; NaN and infinities are text; lists are arrays, structs objects, maps arrays of `{key, value}`.
 */
export type Cell = null | boolean | number | bigint | string | readonly Cell[] | { readonly [name: string]: Cell }

/** The chunk's rows. */
export function rowsOf(chunk: DuckDBDataChunk): Cell[][] {
  const { rowCount, columnCount } = chunk
  const rows = Array.from({ length: rowCount }, (): Cell[] => [])
  for (let column = 0; column < columnCount; column++) {
    const vector = chunk.getColumnVector(column)
    const shorten = floatsOf(vector.type) ?? unchanged
    for (let row = 0; row < rowCount; row++) rows[row].push(shorten(cellOf(vector.getItem(row))))
  }
  return rows
}

function cellOf(value: DuckDBValue): Cell {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'number':
      return Number.isFinite(value) ? value : String(value)
    case 'bigint':
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
    default:
      return value === null || value === undefined ? null : objectCell(value)
  }
}

function objectCell(value: DuckDBValue & object): Cell {
  if (value instanceof DuckDBDecimalValue) return decimalText(value.value, value.scale)
  if (value instanceof DuckDBTimestampTZValue) return timestampText(value.micros, '+00')
  if (value instanceof DuckDBTimestampValue) return timestampText(value.micros, '')
  if (value instanceof DuckDBDateValue) return dateText(value.days)
  if (value instanceof DuckDBTimeValue) return timeText(value.micros)
  if (value instanceof DuckDBIntervalValue) return intervalText(value.months, value.days, value.micros)
  if (value instanceof DuckDBBlobValue) return bytesText(value.bytes)
  if (value instanceof DuckDBListValue || value instanceof DuckDBArrayValue) return value.items.map(cellOf)
  if (value instanceof DuckDBStructValue) {
    return Object.fromEntries(Object.entries(value.entries).map(([name, entry]) => [name, cellOf(entry)]))
  }
  if (value instanceof DuckDBMapValue) return value.entries.map((entry) => ({ key: cellOf(entry.key), value: cellOf(entry.value) }))
  if (value instanceof DuckDBUnionValue) return cellOf(value.value)
  return String(value)
}

const unchanged = (cell: Cell): Cell => cell

/** What a cell of the type becomes with its 32-bit floats in their fewest digits; null where the type has none. */
function floatsOf(type: DuckDBType): ((cell: Cell) => Cell) | null {
  if (type.typeId === DuckDBTypeId.FLOAT) return (cell) => (typeof cell === 'number' ? shortestFloat(cell) : cell)
  if (type instanceof DuckDBListType || type instanceof DuckDBArrayType) {
    const ofItem = floatsOf(type.valueType)
    return ofItem && ((cell) => (Array.isArray(cell) ? (cell as readonly Cell[]).map(ofItem) : cell))
  }
  if (type instanceof DuckDBStructType) {
    const ofEntries = new Map(type.entryNames.map((name, index) => [name, floatsOf(type.entryTypes[index]) ?? unchanged]))
    if ([...ofEntries.values()].every((ofEntry) => ofEntry === unchanged)) return null
    return (cell) =>
      cell === null
        ? null
        : Object.fromEntries(Object.entries(cell).map(([name, entry]) => [name, (ofEntries.get(name) ?? unchanged)(entry)]))
  }
  return null
}
