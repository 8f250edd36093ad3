import {
  formatType,
  isJsonObject,
  MoonlinkError,
  stringifyJsonLossless,
  type Field,
  type FieldType,
  plainKinds,
  type JsonObject,
  type JsonValue,
  type TableSchema,
} from '@moonlink/core'
import { defaultFromJson, defaultToJson } from './default-json.ts'
import { numberOf, numbersOf, objectsOf, textOf } from './fields.ts'

/** Deeper than any type of Postgres, and than other readers go. */
const MAX_DEPTH = 64

/**
 * A schema as Iceberg JSON (spec, appendix C), with the field ids as they are.
 *
 * `identifier-field-ids` is left out where Iceberg would refuse it: a key column that is optional, or a float, double, variant, list or struct.
 */
export function schemaToJson(schema: TableSchema, schemaId = 0): JsonObject {
  const fields = schema.fields.map(fieldToJson)
  const identifiers = schema.identifierFieldIds
  const legal = identifiers.length > 0 && identifiers.every((id) => mayIdentify(schema.fields.find((field) => field.id === id)))
  return { type: 'struct', 'schema-id': schemaId, fields, ...(legal ? { 'identifier-field-ids': [...identifiers] } : {}) }
}

function fieldToJson(field: Field): JsonObject {
  return {
    id: field.id,
    name: field.name,
    required: field.required,
    type: typeToJson(field.type),
    ...(field.initialDefault == null ? {} : { 'initial-default': defaultToJson(field.type, field.initialDefault) }),
    ...(field.writeDefault == null ? {} : { 'write-default': defaultToJson(field.type, field.writeDefault) }),
  }
}

function mayIdentify(field: Field | undefined): boolean {
  return field !== undefined && field.required && !['float', 'double', 'variant', 'list', 'struct'].includes(field.type.kind)
}

function typeToJson(type: FieldType): JsonValue {
  if (type.kind === 'struct') return { type: 'struct', fields: type.fields.map(fieldToJson) }
  if (type.kind !== 'list') return formatType(type)
  return { type: 'list', 'element-id': type.elementId, element: typeToJson(type.element), 'element-required': type.elementRequired }
}

/** Reads a schema of Iceberg JSON. Throws `invalid`/`TYPE_UNSUPPORTED` naming a column whose type a mirror cannot hold. */
export function schemaFromJson(json: JsonObject): TableSchema {
  const fields = fieldsFromJson(json, null, 0)
  return { fields, identifierFieldIds: numbersOf(json, 'identifier-field-ids') }
}

/** `column` is the table's column that they are parts of, null for the columns themselves. */
function fieldsFromJson(json: JsonObject, column: string | null, depth: number): Field[] {
  return objectsOf(json, 'fields').map((field): Field => {
    const name = textOf(field, 'name')
    const type = typeFromJson(field['type'] ?? null, column ?? name, depth + 1)
    const initialDefault = defaultFromJson(type, field['initial-default'] ?? null, column ?? name)
    const writeDefault = defaultFromJson(type, field['write-default'] ?? null, column ?? name)
    return {
      id: numberOf(field, 'id'),
      name,
      type,
      required: field['required'] === true,
      ...(initialDefault === null ? {} : { initialDefault }),
      ...(writeDefault === null ? {} : { writeDefault }),
    }
  })
}

function typeFromJson(json: JsonValue, column: string, depth: number): FieldType {
  if (typeof json === 'string') return primitiveFromText(json, column)
  const node = isJsonObject(json) ? json : null
  if (depth > MAX_DEPTH) throw unsupported(column, `nested more than ${MAX_DEPTH} deep`)
  if (node?.['type'] === 'struct') {
    const fields = fieldsFromJson(node, column, depth)
    if (fields.length === 0) throw unsupported(column, 'struct<>')
    return { kind: 'struct', fields }
  }
  if (node?.['type'] !== 'list') throw unsupported(column, stringifyJsonLossless(node?.['type'] ?? null))
  return {
    kind: 'list',
    elementId: numberOf(node, 'element-id'),
    element: typeFromJson(node['element'] ?? null, column, depth + 1),
    elementRequired: node['element-required'] === true,
  }
}

function primitiveFromText(text: string, column: string): FieldType {
  const plain = plainKinds.find((kind) => kind === text)
  if (plain) return { kind: plain }
  const decimal = /^decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(text)
  const [precision, scale] = [Number(decimal?.[1]), Number(decimal?.[2])]
  if (precision >= 1 && precision <= 38 && scale <= precision) return { kind: 'decimal', precision, scale }
  const fixed = /^fixed\[\s*(\d+)\s*\]$/.exec(text)
  if (fixed) return { kind: 'fixed', length: Number(fixed[1]) }
  throw unsupported(column, text)
}

/** Whether two schemas differ at most in their ids and in how they are written. */
export function isSameSchemaJson(a: JsonObject, b: JsonObject): boolean {
  return canonical({ ...a, 'schema-id': 0 }) === canonical({ ...b, 'schema-id': 0 })
}

function canonical(json: JsonValue): string {
  if (typeof json === 'string') return JSON.stringify(json.replaceAll(', ', ','))
  if (Array.isArray(json)) return `[${json.map(canonical).join()}]`
  if (json === null || typeof json !== 'object') return stringifyJsonLossless(json)
  const entries = Object.entries(json).filter(([key, value]) => !isAbsent(key, value))
  return `{${entries
    .sort(([x], [y]) => (x < y ? -1 : 1))
    .map(([key, value]) => `${key}:${canonical(value)}`)
    .join()}}`
}

/** What some writers leave out and others write as nothing. */
function isAbsent(key: string, value: JsonValue): boolean {
  return value === null || (key === 'identifier-field-ids' && Array.isArray(value) && value.length === 0)
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
