import { isJsonObject, MoonlinkError, type CreateTable, type JsonObject, type JsonValue, type LoadedTable } from '@moonlink/core'
import { absoluteUri, answerInvalid, currentSchema, shown } from './answers.ts'

const FORMAT_VERSION = 3

/** The body that asks for a staged table: the server picks uuid and location and creates nothing yet. */
export function stageRequest(name: string, options: CreateTable): JsonObject {
  return {
    name,
    schema: options.schema,
    'stage-create': true,
    properties: { ...options.properties, 'format-version': String(FORMAT_VERSION) },
    ...(options.location === undefined ? {} : { location: options.location }),
  }
}

/**
 * The updates that make the staged table, with the field ids of `options.schema` as they are: a plain create numbers fields anew,
 * `add-schema` does not.
 */
export function createUpdates(staged: { readonly metadata: JsonObject }, options: CreateTable): JsonObject[] {
  return [
    { action: 'assign-uuid', uuid: staged.metadata['table-uuid'] },
    { action: 'upgrade-format-version', 'format-version': FORMAT_VERSION },
    { action: 'add-schema', schema: options.schema, 'last-column-id': lastColumnId(options.schema) },
    { action: 'set-current-schema', 'schema-id': -1 },
    { action: 'add-spec', spec: { 'spec-id': 0, fields: [] } },
    { action: 'set-default-spec', 'spec-id': -1 },
    { action: 'add-sort-order', 'sort-order': { 'order-id': 0, fields: [] } },
    { action: 'set-default-sort-order', 'sort-order-id': -1 },
    { action: 'set-location', location: absoluteUri(staged.metadata['location']) },
    { action: 'set-properties', updates: { ...stagedProperties(staged.metadata), ...options.properties } },
  ]
}

/** What the server itself wants in the table's properties. `format-version` is no stored property. */
function stagedProperties(metadata: JsonObject): JsonObject {
  const { 'format-version': _, ...properties } = isJsonObject(metadata['properties']) ? metadata['properties'] : {}
  return properties
}

/** Throws `corrupt` where the created table is not what was asked for, `invalid` where the server made it in another version. */
export function checkCreated(created: LoadedTable, options: CreateTable, what: string): void {
  const version = created.metadata['format-version']
  if (version !== FORMAT_VERSION) {
    throw new MoonlinkError(
      'invalid',
      'FORMAT_VERSION_UNSUPPORTED',
      `the catalog made ${what} in format version ${shown(version)}; Moonlink needs ${FORMAT_VERSION}: use a catalog that supports it, and drop that table.`,
      { context: { table: what, version } },
    )
  }
  const wanted = fieldIds(options.schema)
  const made = fieldIds(currentSchema(created.metadata))
  if (wanted.join() !== made.join()) throw answerInvalid(what, `the fields have the ids ${made.join(', ')} instead of ${wanted.join(', ')}`)
}

/** The largest field id anywhere in a schema. */
export function lastColumnId(schema: JsonObject): number {
  return Math.max(0, ...fieldIds(schema))
}

/** Every field id of a type's JSON, nested ones included, in the order they are written. */
function fieldIds(type: JsonValue | undefined): number[] {
  if (!isJsonObject(type)) return []
  const own = ['id', 'element-id', 'key-id', 'value-id'].map((key) => type[key]).filter((id) => typeof id === 'number')
  const fields = Array.isArray(type['fields']) ? (type['fields'] as readonly JsonValue[]) : []
  const nested = [...fields, type['type'], type['element'], type['key'], type['value']]
  return [...own, ...nested.flatMap(fieldIds)]
}
