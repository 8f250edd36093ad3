import {
  ColumnBuilder,
  evolveSchema,
  isDefaultable,
  isMoonlinkError,
  isPromotion,
  typesEqual,
  valueAt,
  type Field,
  type TableName,
  type TableSchema,
  type TableShape,
  type Value,
} from '@moonlink/core'
import { FieldIds, type MappedColumn } from '../types/index.ts'
import { describeShape, type MappedShape, type ShapeOptions } from './describe-shape.ts'
import type { RelationShape, ShapeColumn } from './relation-shape.ts'
import { decodeSourceState, type SourceState } from './source-state.ts'

/** The shape that a mirror takes on. */
export interface EvolvedShape {
  readonly mapped: MappedShape
  /** Why rows that the mirror has would not show what the source shows, be it only in new columns; null where they would. */
  readonly stale: string | null
}

/**
 * How a mirror of shape `known` shows the relation, which may be another than before: columns keep their fields by attribute number, unless
 * old values are none of the new type. Throws as `describeShape` does.
 */
export function evolveShape(table: TableName, known: TableShape, relation: RelationShape, options: ShapeOptions): EvolvedShape {
  const state = decodeSourceState(known.sourceState)
  const ids = new FieldIds(state?.ids)
  if (state !== null && state.relation.oid !== relation.oid) for (const { number } of relation.columns) ids.renew(number)
  let mapped = describeShape(table, relation, options, ids)
  const before = new Map(known.schema.fields.map((field) => [field.id, field]))
  const columns = new Map(relation.columns.map((column) => [column.name, column]))
  const renewed = mapped.columns.filter(({ field }) => !fits(before.get(field.id), field))
  for (const { name } of renewed) ids.renew(columns.get(name)!.number)
  if (renewed.length > 0) mapped = describeShape(table, relation, options, ids)
  const withDefaults = mapped.columns.map((column) => withInitialDefault(column, before, columns.get(column.name)!))
  const numbersBefore = new Set(state?.relation.columns.map(({ number }) => number))
  const unsent = mapped.columns.find(({ name, field }) => numbersBefore.has(columns.get(name)!.number) && !before.has(field.id))
  const fields = withDefaults.flatMap(({ column: { field, textField } }) => (textField ? [field, textField] : [field]))
  const schema = evolveSchema(known.schema, { ...mapped.schema, fields })!
  const [lost] = withDefaults.filter(({ isLost }) => isLost)
  return { mapped: withSchema(mapped, schema), stale: staleness(state, renewed, lost?.column, unsent) }
}

/** The shape that a mirror has, from what it kept of it. Null where it kept nothing that leads to the fields it has. */
export function restoreShape(table: TableName, shape: TableShape, options: ShapeOptions): MappedShape | null {
  const state = decodeSourceState(shape.sourceState)
  if (state === null) return null
  try {
    const mapped = describeShape(table, state.relation, options, new FieldIds(state.ids))
    return isSameShape(mapped.schema, shape.schema) ? withSchema(mapped, shape.schema) : null
  } catch (error) {
    if (isMoonlinkError(error, 'invalid')) return null
    throw error
  }
}

/** Whether both have the same fields in the same order, whatever they say of nulls and defaults, and the same key. */
export function isSameShape(a: TableSchema, b: TableSchema): boolean {
  if (a.fields.length !== b.fields.length || a.identifierFieldIds.join() !== b.identifierFieldIds.join()) return false
  return a.fields.every(({ id, name, type }, index) => {
    const other = b.fields[index]
    return other.id === id && other.name === name && typesEqual(other.type, type)
  })
}

function withSchema(mapped: MappedShape, schema: TableSchema): MappedShape {
  const byId = new Map(schema.fields.map((field) => [field.id, field]))
  const columns = mapped.columns.map((column): MappedColumn => ({
    ...column,
    field: byId.get(column.field.id)!,
    textField: column.textField && byId.get(column.textField.id)!,
  }))
  return { ...mapped, columns, schema }
}

function fits(known: Field | undefined, field: Field): boolean {
  return known === undefined || typesEqual(known.type, field.type) || isPromotion(known.type, field.type)
}

function staleness(
  known: SourceState | null,
  renewed: readonly MappedColumn[],
  lost: MappedColumn | undefined,
  unsent: MappedColumn | undefined,
): string | null {
  const [first] = renewed
  if (first !== undefined) return `column "${first.name}" has a type now that its old values are none of`
  if (lost !== undefined)
    return `column "${lost.name}" was added with a default that Iceberg can't hold for older rows, or that not all of them have`
  if (unsent !== undefined) return `column "${unsent.name}" was not published before, so that its older values are not known`
  return known === null ? 'what its rows were before is not known' : null
}

/** A new column shows in older rows what the source keeps for them. */
function withInitialDefault(
  column: MappedColumn,
  before: ReadonlyMap<number, Field>,
  { missing, isMissingMixed }: ShapeColumn,
): { readonly column: MappedColumn; readonly isLost: boolean } {
  if (before.has(column.field.id)) return { column, isLost: false }
  if (missing === null) return { column, isLost: isMissingMixed }
  const value = readText(column, missing)
  if (value === null || !isDefaultable(column.field.type, value)) return { column, isLost: true }
  return { column: { ...column, field: { ...column.field, initialDefault: value, writeDefault: value } }, isLost: false }
}

/** Null where the column's field does not hold the value, or its text does not tell it. */
function readText(column: MappedColumn, text: string): Value {
  const bytes = Buffer.from(text)
  const builder = new ColumnBuilder(column.field.type, 1)
  try {
    column.decoder.text(bytes, 0, bytes.length, builder)
  } catch {
    return null
  }
  return valueAt(builder.view(), 0)
}
