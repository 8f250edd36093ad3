import { formatType, type FieldType, type Value } from '@moonlink/core'
import { dateText, decimalText, timestampText, timeText } from './pg-text.ts'

/** A stored value as the cell that a query of the mirror would show (see the sql package's `Cell`). */
export function storedCell(type: FieldType, value: Value): unknown {
  if (value === null) return null
  switch (type.kind) {
    case 'float':
    case 'double':
      return Number.isFinite(value) ? value : String(value)
    case 'decimal':
      return decimalText(value as bigint, type.scale)
    case 'date':
      return dateText(value as number)
    case 'time':
      return timeText(value as bigint)
    case 'timestamp':
      return timestampText(value as bigint, '')
    case 'timestamptz':
      return timestampText(value as bigint, '+00')
    case 'binary':
      return `\\x${Buffer.from(value as Uint8Array).toString('hex')}`
    case 'uuid':
      return Buffer.from(value as Uint8Array)
        .toString('hex')
        .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
    case 'list':
      return (value as readonly Value[]).map((element) => storedCell(type.element, element))
    case 'struct':
      return Object.fromEntries(type.fields.map((field, index) => [field.name, storedCell(field.type, (value as readonly Value[])[index])]))
    case 'boolean':
    case 'int':
    case 'long':
    case 'string':
    // Its text.
    case 'variant':
      return value
    default:
      throw new Error(`no column of the oracle is stored as ${formatType(type)}`)
  }
}
