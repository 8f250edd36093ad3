import type { Value } from './columns/value.ts'

/** Iceberg types that a mirror can hold. Timestamps and times are in microseconds. A `variant` holds JSON. */
export type FieldType = PrimitiveType | ListType | StructType

/** Primitive types that are no more than their name. */
export const plainKinds = [
  'boolean',
  'int',
  'long',
  'float',
  'double',
  'date',
  'time',
  'timestamp',
  'timestamptz',
  'string',
  'uuid',
  'binary',
  'variant',
] as const

export type PrimitiveType =
  | { readonly kind: (typeof plainKinds)[number] }
  | { readonly kind: 'decimal'; readonly precision: number; readonly scale: number }
  | { readonly kind: 'fixed'; readonly length: number }

export interface ListType {
  readonly kind: 'list'
  readonly elementId: number
  readonly element: FieldType
  readonly elementRequired: boolean
}

/** Values with named parts. Its fields have ids of their own, different from those of every other field of the table. */
export interface StructType {
  readonly kind: 'struct'
  /** At least one. */
  readonly fields: readonly Field[]
}

/** A column, or a part of a struct: `id` is the Iceberg field id, kept for the column's whole life. */
export interface Field {
  readonly id: number
  readonly name: string
  readonly type: FieldType
  /** True where the column can never hold a null. */
  readonly required: boolean
  /** What rows hold that were written before the column was added; fixed for its life. Absent: null. */
  readonly initialDefault?: Value
  /** What writers put where they are given nothing for the column. Absent: null. Moonlink always writes what the source has. */
  readonly writeDefault?: Value
}

/** The columns of a table, as Iceberg has them. */
export interface TableSchema {
  readonly fields: readonly Field[]
  /** Field ids of the primary key, in key order; empty for a table without one. */
  readonly identifierFieldIds: readonly number[]
}

/** Prints a type as Iceberg's JSON does for primitives (`decimal(10, 2)`), `list<…>` for lists, `struct<id: name type, …>` for structs. */
export function formatType(type: FieldType): string {
  switch (type.kind) {
    case 'decimal':
      return `decimal(${type.precision}, ${type.scale})`
    case 'fixed':
      return `fixed[${type.length}]`
    case 'list':
      return `list<${formatType(type.element)}>`
    case 'struct':
      return `struct<${type.fields.map((field) => `${field.id}: ${field.name} ${formatType(field.type)}${field.required ? ' required' : ''}`).join(', ')}>`
    default:
      return type.kind
  }
}

/** Whether two types are the same, with the ids and names of all that they are made of. */
export function typesEqual(a: FieldType, b: FieldType): boolean {
  return formatType(a) === formatType(b)
}

/** The types that a type is made of: a list's element, a struct's fields. */
export function childTypes(type: FieldType): readonly FieldType[] {
  if (type.kind === 'list') return [type.element]
  return type.kind === 'struct' ? type.fields.map((field) => field.type) : []
}

/** Whether a type is a variant, or has one within. */
export function hasVariant(type: FieldType): boolean {
  return type.kind === 'variant' || childTypes(type).some(hasVariant)
}

/**
 * Bytes of one value in `Column.values`, or 0 for a type of variable length, a list or a struct.
 * Booleans are one bit; for them this returns 0 too (ask `kind`).
 */
export function fixedWidth(type: FieldType): number {
  switch (type.kind) {
    case 'int':
    case 'float':
    case 'date':
      return 4
    case 'long':
    case 'double':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return 8
    case 'decimal':
    case 'uuid':
      return 16
    case 'fixed':
      return type.length
    default:
      return 0
  }
}
