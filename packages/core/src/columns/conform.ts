import { typesEqual, type Field, type FieldType, type StructType } from '../types.ts'
import { ColumnBuilder } from './column-builder.ts'
import { float32View, int32View, type Column, type ColumnBatch } from './column.ts'
import type { Value } from './value.ts'
import { appendValue, valueAt } from './values.ts'

/**
 * Whether every value of `from` is one of `to`, so that a column may change its type and old files stay as they are: Iceberg's promotions
 * int → long, float → double, decimals of more digits and the same scale; of elements and parts too. A struct may gain, lose, rename and
 * reorder parts.
 */
export function isPromotion(from: FieldType, to: FieldType): boolean {
  if (from.kind === 'list' && to.kind === 'list') return isSameOrPromotion(from.element, to.element) && !typesEqual(from, to)
  if (from.kind === 'struct' && to.kind === 'struct') return !typesEqual(from, to) && arePartsPromotable(from, to)
  if (from.kind === 'decimal' && to.kind === 'decimal') return from.scale === to.scale && from.precision < to.precision
  return (from.kind === 'int' && to.kind === 'long') || (from.kind === 'float' && to.kind === 'double')
}

function isSameOrPromotion(from: FieldType, to: FieldType): boolean {
  return typesEqual(from, to) || isPromotion(from, to)
}

function arePartsPromotable(from: StructType, to: StructType): boolean {
  return to.fields.every((part) => {
    const before = from.fields.find((known) => known.id === part.id)
    return before === undefined ? !part.required : isSameOrPromotion(before.type, part.type) && (!part.required || before.required)
  })
}

/**
 * The rows of `batch` as rows of `fields`, matched by id: a field that the batch lacks holds its initial default, one of a promoted type its
 * values as they are in the new type. Columns that fit are shared, not copied. Throws `RangeError` for types that no promotion joins.
 */
export function conformBatch(batch: ColumnBatch, fields: readonly Field[]): ColumnBatch {
  if (batch.fields === fields) return batch
  const byId = new Map(batch.fields.map((field, index) => [field.id, index]))
  const columns = fields.map((field) => {
    const index = byId.get(field.id)
    return index === undefined ? defaultColumn(field, batch.length) : promoteColumn(batch.columns[index], field.type)
  })
  return { fields, columns, length: batch.length }
}

/** The field with a promoted type; its defaults stay the same values. */
export function promoteField(field: Field, type: FieldType): Field {
  const { initialDefault, writeDefault, ...rest } = field
  const promoted = (value: Value) => valueAt(promoteColumn(constantColumn(field.type, value, 1), type), 0)
  return {
    ...rest,
    type,
    ...(initialDefault === undefined ? {} : { initialDefault: promoted(initialDefault) }),
    ...(writeDefault === undefined ? {} : { writeDefault: promoted(writeDefault) }),
  }
}

/** The field's cells of rows that were written without it. */
export function defaultColumn(field: Field, length: number): Column {
  return constantColumn(field.type, field.initialDefault ?? null, length)
}

/** `length` times the same value. */
export function constantColumn(type: FieldType, value: Value, length: number): Column {
  const builder = new ColumnBuilder(type, length)
  if (length > 0) appendValue(builder, value)
  // Doubling: each step copies what is there.
  while (builder.length < length) builder.appendRange(builder.view(), 0, Math.min(builder.length, length - builder.length))
  return builder.view()
}

/** The column with its values in `type`, which is the same type or a promotion of it. */
export function promoteColumn(column: Column, type: FieldType): Column {
  if (typesEqual(column.type, type)) return column
  if (!isPromotion(column.type, type)) {
    throw new RangeError(`a column of type ${column.type.kind} is not one of ${type.kind}`)
  }
  switch (type.kind) {
    case 'long':
      return { ...column, type, values: bytesOf(BigInt64Array.from(int32View(column).subarray(0, column.length), BigInt)) }
    case 'double':
      return { ...column, type, values: bytesOf(Float64Array.from(float32View(column).subarray(0, column.length))) }
    case 'list':
      return { ...column, type, children: [promoteColumn(column.children[0], type.element)] }
    case 'struct':
      return { ...column, type, children: promoteParts(column, column.type as StructType, type) }
    default:
      return { ...column, type }
  }
}

function promoteParts(column: Column, from: StructType, to: StructType): Column[] {
  return to.fields.map((part) => {
    const index = from.fields.findIndex((known) => known.id === part.id)
    return index < 0 ? defaultColumn(part, column.length) : promoteColumn(column.children[index], part.type)
  })
}

function bytesOf(values: BigInt64Array | Float64Array): Uint8Array {
  return new Uint8Array(values.buffer)
}
