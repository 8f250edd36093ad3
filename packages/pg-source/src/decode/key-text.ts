import { ColumnBuilder, isMoonlinkError, valueAt, type FieldType, type Value } from '@moonlink/core'
import { shownText } from '../types/bad-value.ts'
import type { MappedColumn } from '../types/index.ts'

/** A key's value for a message, as Postgres would print it where that is simple. */
export function describeKeyValue(source: Uint8Array, start: number, end: number, isText: boolean, column: MappedColumn): string {
  if (isText) return shownText(source, start, end)
  const builder = new ColumnBuilder(column.field.type, 1)
  try {
    column.decoder.binary(source, start, end, builder)
  } catch (error) {
    if (isMoonlinkError(error)) return '?'
    throw error
  }
  return printValue(valueAt(builder.view(), 0), column.field.type)
}

function printValue(value: Value, type: FieldType): string {
  if (typeof value === 'bigint' && type.kind === 'decimal') {
    const digits = (value < 0n ? -value : value).toString().padStart(type.scale + 1, '0')
    const point = digits.length - type.scale
    return `${value < 0n ? '-' : ''}${digits.slice(0, point)}${type.scale > 0 ? `.${digits.slice(point)}` : ''}`
  }
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (typeof value === 'number' && type.kind === 'date' && Math.abs(value) < 1e8)
    return new Date(value * 86_400_000).toISOString().slice(0, 10)
  return Array.isArray(value) ? `[${value.length} elements]` : String(value)
}
