import type { Field, FieldType, Value } from '@moonlink/core'
import { bytesText, dateText, decimalText, timestampText, timeText } from './cell-text.ts'
import { duckdbType, quoteName, quoteText } from './sql-text.ts'

/** A stored column, or a part of one: of a struct its parts, of a list its element. */
export interface ColumnShape {
  readonly name: string
  /** Iceberg field id; null in a file written without ids. */
  readonly fieldId: number | null
  /** DuckDB's type of it as it is stored; null where that is the field's own. */
  readonly type: string | null
  readonly parts: readonly ColumnShape[]
}

/** The field as it is stored where it has its present type. */
export function shapeOfField({ id, name, type }: Field): ColumnShape {
  return { name, fieldId: id, type: null, parts: partsOf(type) }
}

/**
 * SQL for the stored column `value` as what the field is now. Parts of structs go by their ids. A column that is stored in the field's type is left
 * as it is: DuckDB binds each cast of each scan whenever a statement runs, which for many files and columns takes longer than reading some.
 */
export function storedSql(value: string, shape: ColumnShape, field: Field): string {
  if (shape.parts.length === 0 && shape.type === duckdbType(field.type)) return value
  const conformed = hasSameParts(shape.parts, field.type) ? value : partsSql(value, shape.parts, field.type, 1)
  return `${conformed}::${duckdbType(field.type)}`
}

/** SQL for the field in rows that were stored without it. */
export function defaultSql({ type, initialDefault }: Field): string {
  return `${literal(type, initialDefault ?? null)}::${duckdbType(type)}`
}

/** Whether DuckDB, which goes by names, finds every part by itself. */
export function hasSameParts(parts: readonly ColumnShape[], type: FieldType): boolean {
  const now = partsOf(type)
  // A file written without ids is taken as it is.
  if (now.length === 0 || parts.some((part) => part.fieldId === null)) return true
  if (type.kind === 'list') return hasSameParts(parts[0]?.parts ?? [], type.element)
  if (type.kind !== 'struct' || parts.length !== now.length) return false
  return type.fields.every(({ id, name, type: part }, index) => {
    return parts[index].fieldId === id && parts[index].name === name && hasSameParts(parts[index].parts, part)
  })
}

/** The DuckDB type in which a stored column is read by id: with the parts that the field still has, or with one of those that it had where none is left. */
export function storedType(shape: ColumnShape, type: FieldType): string {
  if (type.kind === 'list') return `${storedType(shape.parts[0], type.element)}[]`
  if (type.kind !== 'struct') return duckdbType(type)
  const kept = shape.parts.flatMap((part) => {
    const field = type.fields.find(({ id }) => id === part.fieldId)
    return field === undefined ? [] : [`${quoteName(part.name)} ${storedType(part, field.type)}`]
  })
  // Tells which values are null; all that it holds is let go.
  return `STRUCT(${kept.length > 0 ? kept.join(', ') : anyPart(shape)})`
}

/** A part of a stored struct, by its name and type: a simple one if there is any. */
function anyPart({ parts }: ColumnShape): string {
  const { name, type } = parts.find((part) => part.parts.length === 0) ?? parts[0]
  return `${quoteName(name)} ${type}`
}

function partsOf(type: FieldType): readonly ColumnShape[] {
  if (type.kind === 'struct') return type.fields.map(shapeOfField)
  return type.kind === 'list' ? [{ name: 'element', fieldId: type.elementId, type: null, parts: partsOf(type.element) }] : []
}

function partsSql(value: string, parts: readonly ColumnShape[], type: FieldType, depth: number): string {
  if (type.kind === 'list') {
    const element = `e${depth}`
    return `list_transform(${value}, lambda ${element}: ${partsSql(element, parts[0]?.parts ?? [], type.element, depth + 1)})`
  }
  if (type.kind !== 'struct') return value
  const packed = type.fields.map((field) => {
    const stored = parts.find((part) => part.fieldId === field.id)
    const sql = stored === undefined ? defaultSql(field) : partsSql(`${value}.${quoteName(stored.name)}`, stored.parts, field.type, depth)
    return `${quoteName(field.name)} := ${sql}`
  })
  return `CASE WHEN ${value} IS NOT NULL THEN struct_pack(${packed.join(', ')}) END`
}

/** Something that DuckDB casts to the type without loss. */
function literal(type: FieldType, value: Value): string {
  if (value === null) return 'NULL'
  switch (type.kind) {
    case 'boolean':
      return value === true ? 'true' : 'false'
    case 'decimal':
      return quoteText(decimalText(value as bigint, type.scale))
    case 'date':
      return quoteText(dateText(value as number))
    case 'time':
      return quoteText(timeText(value as bigint))
    case 'timestamp':
      return quoteText(timestampText(value as bigint, ''))
    case 'timestamptz':
      return quoteText(timestampText(value as bigint, '+00'))
    case 'uuid':
      return quoteText(bytesText(value as Uint8Array).slice(2))
    case 'binary':
    case 'fixed':
      return `unhex(${quoteText(bytesText(value as Uint8Array).slice(2))})`
    default:
      return quoteText(String(value))
  }
}
