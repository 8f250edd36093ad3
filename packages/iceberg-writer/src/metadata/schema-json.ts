import {
  formatType,
  MoonlinkError,
  stringifyJsonLossless,
  type Field,
  type FieldType,
  type JsonObject,
  type JsonValue,
  type TableSchema,
} from '@moonlink/core'
import { numberOf, objectsOf, textOf } from './fields.ts'

const PLAIN_KINDS = [
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
] as const

/**
 * A schema as Iceberg JSON (spec, appendix C), with the field ids as they are.
 *
 * `identifier-field-ids` is left out where Iceberg would refuse it: a key column that is optional, or float or double.
 */
export function schemaToJson(schema: TableSchema, schemaId = 0): JsonObject {
  const fields = schema.fields.map((field) => ({
    id: field.id,
    name: field.name,
    required: field.required,
    type: typeToJson(field.type),
  }))
  const identifiers = schema.identifierFieldIds
  const legal = identifiers.length > 0 && identifiers.every((id) => mayIdentify(schema.fields.find((field) => field.id === id)))
  return { type: 'struct', 'schema-id': schemaId, fields, ...(legal ? { 'identifier-field-ids': [...identifiers] } : {}) }
}

function mayIdentify(field: Field | undefined): boolean {
  return field !== undefined && field.required && !['float', 'double', 'list'].includes(field.type.kind)
}

function typeToJson(type: FieldType): JsonValue {
  if (type.kind !== 'list') return formatType(type)
  return { type: 'list', 'element-id': type.elementId, element: typeToJson(type.element), 'element-required': type.elementRequired }
}

/** Reads a schema of Iceberg JSON. Throws `invalid`/`TYPE_UNSUPPORTED` naming a column whose type a mirror cannot hold. */
export function schemaFromJson(json: JsonObject): TableSchema {
  const fields = objectsOf(json, 'fields').map((field): Field => {
    const name = textOf(field, 'name')
    return { id: numberOf(field, 'id'), name, type: typeFromJson(field['type'] ?? null, name), required: field['required'] === true }
  })
  const identifiers = (json['identifier-field-ids'] ?? []) as readonly number[]
  return { fields, identifierFieldIds: [...identifiers] }
}

function typeFromJson(json: JsonValue, column: string): FieldType {
  if (typeof json === 'string') return primitiveFromText(json, column)
  const node = json as JsonObject | null
  if (node?.['type'] !== 'list') throw unsupported(column, stringifyJsonLossless(node?.['type'] ?? null))
  return {
    kind: 'list',
    elementId: numberOf(node, 'element-id'),
    element: typeFromJson(node['element'] ?? null, column),
    elementRequired: node['element-required'] === true,
  }
}

function primitiveFromText(text: string, column: string): FieldType {
  const plain = PLAIN_KINDS.find((kind) => kind === text)
  if (plain) return { kind: plain }
  const decimal = /^decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(text)
  if (decimal) return { kind: 'decimal', precision: Number(decimal[1]), scale: Number(decimal[2]) }
  const fixed = /^fixed\[\s*(\d+)\s*\]$/.exec(text)
  if (fixed) return { kind: 'fixed', length: Number(fixed[1]) }
  throw unsupported(column, text)
}

/** Greatest field id of the schema, nested ids included; 0 for a schema without fields. */
export function lastColumnId(schema: JsonObject): number {
  const ofType = (type: JsonValue): number => {
    if (type === null || typeof type !== 'object') return 0
    const node = type as JsonObject
    const own = Math.max(Number(node['element-id'] ?? 0), Number(node['key-id'] ?? 0), Number(node['value-id'] ?? 0))
    const nested = [node['element'], node['key'], node['value']].map((part) => ofType(part ?? null))
    return Math.max(own, lastColumnId(node), ...nested)
  }
  return objectsOf(schema, 'fields').reduce((last, field) => Math.max(last, numberOf(field, 'id'), ofType(field['type'] ?? null)), 0)
}

function unsupported(column: string, type: string): MoonlinkError {
  return new MoonlinkError(
    'invalid',
    'TYPE_UNSUPPORTED',
    `column "${column}" of the Iceberg table has type ${type}, which a mirror cannot hold.`,
    {
      context: { column, type },
    },
  )
}
