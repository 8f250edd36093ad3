import { isJsonObject, MoonlinkError, stringifyJsonLossless, type JsonObject, type JsonValue, type LoadedTable } from '@moonlink/core'
import * as z from 'zod'

/** Whole numbers come as `bigint` where they are large. */
const wholeNumber = z.union([z.number().int(), z.bigint()])
const strings = z.record(z.string(), z.string())

/** Of the metadata, what nobody can go on without (Iceberg spec, table metadata fields); everything else passes as it is. */
const metadata = z.looseObject({
  'format-version': z.number().int(),
  'table-uuid': z.string().min(1),
  location: z.string().min(1),
  'last-sequence-number': wholeNumber.optional(),
  'last-column-id': z.number().int(),
  schemas: z.array(z.looseObject({ 'schema-id': z.number().int(), fields: z.array(z.unknown()) })).min(1),
  'current-schema-id': z.number().int(),
  'current-snapshot-id': wholeNumber.nullish(),
  'next-row-id': wholeNumber.optional(),
  snapshots: z.array(z.looseObject({ 'snapshot-id': wholeNumber })).nullish(),
  refs: z.record(z.string(), z.looseObject({ 'snapshot-id': wholeNumber })).nullish(),
  properties: strings.nullish(),
})

const credential = z.looseObject({ prefix: z.string(), config: strings })

const loadedTable = z.looseObject({
  // A staged table has no metadata file yet.
  'metadata-location': z.string().min(1).nullish(),
  metadata,
  config: strings.nullish(),
  'storage-credentials': z.array(credential).nullish(),
})

const config = z.looseObject({ defaults: strings.nullish(), overrides: strings.nullish() })

const tablePage = z.looseObject({
  identifiers: z.array(z.looseObject({ namespace: z.array(z.string()), name: z.string() })),
  'next-page-token': z.string().nullish(),
})

export type ConfigAnswer = z.infer<typeof config>
export type TablePage = z.infer<typeof tablePage>

export function readConfig(body: JsonValue): ConfigAnswer {
  return validated(config, body, 'its configuration')
}

export function readTablePage(body: JsonValue, what: string): TablePage {
  return validated(tablePage, body, what)
}

/** A table the catalog says exists. Throws `corrupt`/`CATALOG_ANSWER_INVALID`. */
export function readLoadedTable(body: JsonValue, what: string): LoadedTable {
  const staged = readStagedTable(body, what)
  if (staged.metadataLocation === null) throw answerInvalid(what, 'metadata-location is missing')
  return { ...staged, metadataLocation: staged.metadataLocation }
}

/** As `readLoadedTable`, for a table that need not have a metadata file. */
export function readStagedTable(
  body: JsonValue,
  what: string,
): Omit<LoadedTable, 'metadataLocation'> & { readonly metadataLocation: string | null } {
  const answer = validated(loadedTable, body, what)
  checkConsistency(answer.metadata, what)
  const raw = isJsonObject(body) ? body['metadata'] : undefined
  if (!isJsonObject(raw)) throw answerInvalid(what, 'metadata is missing')
  const credentials = (answer['storage-credentials'] ?? [])
    .filter((one) => answer.metadata.location.startsWith(one.prefix))
    .sort((a, b) => a.prefix.length - b.prefix.length)
  return {
    metadataLocation: absoluteUri(answer['metadata-location'] ?? null),
    metadata: raw,
    // The longest prefix wins, and credentials are looked at before the plain configuration.
    config: Object.assign({}, answer.config, ...credentials.map((one) => one.config)) as Record<string, string>,
  }
}

/** What the metadata says about itself must hold, or whoever uses it goes wrong far from here. */
function checkConsistency(table: z.infer<typeof metadata>, what: string): void {
  const currentSchema = table['current-schema-id']
  if (!table.schemas.some((schema) => schema['schema-id'] === currentSchema)) {
    throw answerInvalid(what, `current-schema-id is ${currentSchema}, which is not among schemas`)
  }
  const current = table['current-snapshot-id'] ?? null
  const main = table.refs?.['main']?.['snapshot-id'] ?? null
  if (main !== null && current !== null && main !== current) {
    throw answerInvalid(what, `current-snapshot-id is ${current}, but the branch main is at ${main}`)
  }
  const known = table.snapshots ?? []
  if (current !== null && current !== -1 && !known.some((snapshot) => snapshot['snapshot-id'] === current)) {
    throw answerInvalid(what, `current-snapshot-id is ${current}, which is not among snapshots`)
  }
  if (table['format-version'] >= 3 && table['next-row-id'] === undefined) throw answerInvalid(what, 'next-row-id is missing')
}

function validated<T>(schema: z.ZodType<T>, body: JsonValue, what: string): T {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw answerInvalid(what, issue === undefined ? 'it has the wrong shape' : `${issue.path.join('.') || 'the body'}: ${issue.message}`)
}

export function answerInvalid(what: string, why: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'CATALOG_ANSWER_INVALID', `the catalog's answer for ${what} cannot be right: ${why}.`, {
    context: { what, why },
  })
}

/** The schema in force. `readLoadedTable` has seen to it that there is one. */
export function currentSchema(table: JsonObject): JsonObject {
  const id = table['current-schema-id']
  const schemas = table['schemas']
  const found = Array.isArray(schemas) ? schemas.find((schema: JsonValue) => isJsonObject(schema) && schema['schema-id'] === id) : undefined
  if (!isJsonObject(found)) throw answerInvalid('a table', `schema ${shown(id)} is missing`)
  return found
}

/** A value as it stands in JSON, for messages. */
export function shown(value: JsonValue | undefined): string {
  return value === undefined ? 'absent' : stringifyJsonLossless(value)
}

/** Catalogs over a local directory may answer with a bare path; version 3 wants URIs everywhere. */
export function absoluteUri(location: string | null): string | null
export function absoluteUri(location: JsonValue | undefined): JsonValue
export function absoluteUri(location: JsonValue | undefined): JsonValue {
  return typeof location === 'string' && location.startsWith('/') ? `file://${location}` : (location ?? null)
}
