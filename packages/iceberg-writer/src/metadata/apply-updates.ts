import { MoonlinkError, type JsonObject, type JsonValue } from '@moonlink/core'
import { numberOf, objectOf, objectsOf, textMapOf, textOf } from './fields.ts'
import { checkRequirements } from './requirements.ts'
import { addedSchemaId } from './schema-updates.ts'
import { lastColumnId } from './schema-json.ts'
import { addSnapshot, removeRef, removeSnapshots, setRef } from './snapshot-updates.ts'
import { invalidUpdate, type UpdateContext } from './update-context.ts'

type Update = (metadata: JsonObject, update: JsonObject, context: UpdateContext) => JsonObject

/**
 * Applies one commit to table metadata, as the Iceberg REST specification defines `TableRequirement` and `TableUpdate`. Pure: returns new metadata.
 *
 * `next-row-id`, `last-sequence-number` and the snapshot log follow from `add-snapshot` and `set-snapshot-ref`. The metadata log is
 * the catalog's business. `nowMs` is the commit's wall clock; time stamps never run backwards.
 *
 * Throws `conflict`/`COMMIT_CONFLICT` for a failed requirement or a snapshot built on older metadata; `invalid`/`UPDATE_UNKNOWN`,
 * `invalid`/`UPDATE_INVALID`.
 */
export function applyUpdates(
  metadata: JsonObject,
  requirements: readonly JsonObject[],
  updates: readonly JsonObject[],
  nowMs: number,
): JsonObject {
  checkRequirements(metadata, requirements)
  const context: UpdateContext = {
    nowMs: Math.max(nowMs, numberOf(metadata, 'last-updated-ms')),
    lastSchemaId: null,
    lastSpecId: null,
    lastSortOrderId: null,
  }
  let next: JsonObject = { ...metadata, 'last-updated-ms': context.nowMs }
  for (const update of updates) {
    const action = textOf(update, 'action')
    const apply = UPDATES[action]
    if (!apply) throw new MoonlinkError('invalid', 'UPDATE_UNKNOWN', `unknown table update "${action}"`, { context: { action } })
    next = apply(next, update, context)
  }
  return next
}

const UPDATES: Readonly<Record<string, Update>> = {
  'assign-uuid': (metadata, update) => ({ ...metadata, 'table-uuid': update['uuid'] ?? null }),
  'upgrade-format-version': upgradeFormatVersion,
  'add-schema': addSchema,
  'set-current-schema': setCurrentSchema,
  'add-spec': addSpec,
  'set-default-spec': setDefaultSpec,
  'add-sort-order': addSortOrder,
  'set-default-sort-order': setDefaultSortOrder,
  'add-snapshot': addSnapshot,
  'set-snapshot-ref': setRef,
  'remove-snapshots': removeSnapshots,
  'remove-snapshot-ref': removeRef,
  'set-location': (metadata, update) => ({ ...metadata, location: textOf(update, 'location') }),
  'set-properties': setProperties,
  'remove-properties': removeProperties,
  'set-statistics': (metadata, update) => setStatistics(metadata, 'statistics', objectOf(update, 'statistics')),
  'remove-statistics': (metadata, update) => without(metadata, 'statistics', 'snapshot-id', [update['snapshot-id']]),
  'set-partition-statistics': (metadata, update) =>
    setStatistics(metadata, 'partition-statistics', objectOf(update, 'partition-statistics')),
  'remove-partition-statistics': (metadata, update) => without(metadata, 'partition-statistics', 'snapshot-id', [update['snapshot-id']]),
  'remove-partition-specs': (metadata, update) => without(metadata, 'partition-specs', 'spec-id', update['spec-ids']),
  'remove-schemas': (metadata, update) => without(metadata, 'schemas', 'schema-id', update['schema-ids']),
}

function upgradeFormatVersion(metadata: JsonObject, update: JsonObject): JsonObject {
  const version = numberOf(update, 'format-version')
  if (version !== 3) throw invalidUpdate(`format version ${version} is not supported here, only 3`)
  return { ...metadata, 'format-version': 3, 'next-row-id': metadata['next-row-id'] ?? 0 }
}

function addSchema(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const schemas = objectsOf(metadata, 'schemas')
  const schema = objectOf(update, 'schema')
  const id = addedSchemaId(metadata, schema)
  context.lastSchemaId = id
  if (schemas.some((known) => known['schema-id'] === id)) return metadata
  const last = Math.max(numberOf(metadata, 'last-column-id'), lastColumnId(schema))
  return { ...metadata, schemas: [...schemas, { ...schema, 'schema-id': id }], 'last-column-id': last }
}

function setCurrentSchema(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const id = resolve(metadata, 'schemas', 'schema-id', numberOf(update, 'schema-id'), context.lastSchemaId)
  return { ...metadata, 'current-schema-id': id }
}

function addSpec(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const specs = objectsOf(metadata, 'partition-specs')
  const spec = objectOf(update, 'spec')
  const id = nextId(specs, 'spec-id')
  context.lastSpecId = id
  const fieldIds = objectsOf(spec, 'fields').map((field) => Number(field['field-id'] ?? 0))
  const last = Math.max(numberOf(metadata, 'last-partition-id'), ...fieldIds)
  return { ...metadata, 'partition-specs': [...specs, { ...spec, 'spec-id': id }], 'last-partition-id': last }
}

function setDefaultSpec(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const id = resolve(metadata, 'partition-specs', 'spec-id', numberOf(update, 'spec-id'), context.lastSpecId)
  return { ...metadata, 'default-spec-id': id }
}

function addSortOrder(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const orders = objectsOf(metadata, 'sort-orders')
  const order = objectOf(update, 'sort-order')
  const id = objectsOf(order, 'fields').length === 0 ? 0 : Math.max(1, nextId(orders, 'order-id'))
  context.lastSortOrderId = id
  const others = orders.filter((known) => known['order-id'] !== id)
  return { ...metadata, 'sort-orders': [...others, { ...order, 'order-id': id }] }
}

function setDefaultSortOrder(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const id = resolve(metadata, 'sort-orders', 'order-id', numberOf(update, 'sort-order-id'), context.lastSortOrderId)
  return { ...metadata, 'default-sort-order-id': id }
}

function setProperties(metadata: JsonObject, update: JsonObject): JsonObject {
  // `updated` and `removed` are older names of the same keys, which the specification asks to accept.
  const updates = textMapOf(update, update['updates'] === undefined ? 'updated' : 'updates')
  return { ...metadata, properties: { ...objectOf(metadata, 'properties'), ...updates } }
}

function removeProperties(metadata: JsonObject, update: JsonObject): JsonObject {
  const removals = (update['removals'] ?? update['removed'] ?? []) as readonly string[]
  const kept = Object.entries(objectOf(metadata, 'properties')).filter(([key]) => !removals.includes(key))
  return { ...metadata, properties: Object.fromEntries(kept) }
}

function setStatistics(metadata: JsonObject, key: string, statistics: JsonObject): JsonObject {
  const others = objectsOf(metadata, key).filter((known) => known['snapshot-id'] !== statistics['snapshot-id'])
  return { ...metadata, [key]: [...others, statistics] }
}

function without(
  metadata: JsonObject,
  key: string,
  idKey: string,
  ids: JsonValue | readonly (JsonValue | undefined)[] | undefined,
): JsonObject {
  const removed = Array.isArray(ids) ? (ids as readonly JsonValue[]) : []
  return { ...metadata, [key]: objectsOf(metadata, key).filter((known) => !removed.includes(known[idKey] ?? null)) }
}

function resolve(metadata: JsonObject, key: string, idKey: string, id: number, lastAdded: number | null): number {
  const resolved = id === -1 ? lastAdded : id
  if (resolved === null) throw invalidUpdate(`-1 as ${idKey} stands for one added in the same commit, and none was`)
  if (!objectsOf(metadata, key).some((known) => known[idKey] === resolved)) throw invalidUpdate(`there is no ${idKey} ${resolved}`)
  return resolved
}

function nextId(known: readonly JsonObject[], idKey: string): number {
  return known.reduce((next, item) => Math.max(next, numberOf(item, idKey) + 1), 0)
}
