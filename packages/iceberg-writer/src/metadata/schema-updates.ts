import type { JsonObject, TableSchema } from '@moonlink/core'
import { numberOf, objectsOf } from './fields.ts'
import { isSameSchemaJson, lastColumnId, schemaToJson } from './schema-json.ts'

/** How a commit gives the table a schema. */
export interface SchemaUpdate {
  /** The schema with the id it will have. */
  readonly schema: JsonObject
  readonly updates: readonly JsonObject[]
}

/** The id that `add-schema` gives: that of an equal schema the table has, else one beyond the greatest (as Iceberg's own library does). */
export function addedSchemaId(metadata: JsonObject, schema: JsonObject): number {
  const schemas = objectsOf(metadata, 'schemas')
  const equal = schemas.find((known) => isSameSchemaJson(known, schema))
  if (equal !== undefined) return numberOf(equal, 'schema-id')
  return schemas.reduce((next, known) => Math.max(next, numberOf(known, 'schema-id') + 1), 0)
}

/** The updates that make `schema` current; null where it is. */
export function schemaUpdate(metadata: JsonObject, schema: TableSchema): SchemaUpdate | null {
  const id = addedSchemaId(metadata, schemaToJson(schema))
  if (id === numberOf(metadata, 'current-schema-id')) return null
  const json = schemaToJson(schema, id)
  const isKnown = objectsOf(metadata, 'schemas').some((known) => known['schema-id'] === id)
  if (isKnown) return { schema: json, updates: [{ action: 'set-current-schema', 'schema-id': id }] }
  const lastId = Math.max(numberOf(metadata, 'last-column-id'), lastColumnId(json))
  return {
    schema: json,
    updates: [
      { action: 'add-schema', schema: json, 'last-column-id': lastId },
      { action: 'set-current-schema', 'schema-id': -1 },
    ],
  }
}
