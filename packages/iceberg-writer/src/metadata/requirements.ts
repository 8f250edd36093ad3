import { MoonlinkError, stringifyJsonLossless, type JsonObject, type JsonValue } from '@moonlink/core'
import { objectOf, optionalLongOf, textOf } from './fields.ts'

const MAIN = 'main'

/** Requirements that compare one number of the metadata: requirement type → key in both. */
const NUMBER_REQUIREMENTS: Readonly<Record<string, { readonly requirement: string; readonly metadata: string }>> = {
  'assert-last-assigned-field-id': { requirement: 'last-assigned-field-id', metadata: 'last-column-id' },
  'assert-current-schema-id': { requirement: 'current-schema-id', metadata: 'current-schema-id' },
  'assert-last-assigned-partition-id': { requirement: 'last-assigned-partition-id', metadata: 'last-partition-id' },
  'assert-default-spec-id': { requirement: 'default-spec-id', metadata: 'default-spec-id' },
  'assert-default-sort-order-id': { requirement: 'default-sort-order-id', metadata: 'default-sort-order-id' },
}

/**
 * Checks requirements of a commit (Iceberg REST specification, `TableRequirement`) against the current metadata.
 * Throws `conflict`/`COMMIT_CONFLICT` for one that does not hold, `invalid`/`REQUIREMENT_UNKNOWN` for one it does not know.
 */
export function checkRequirements(metadata: JsonObject, requirements: readonly JsonObject[]): void {
  for (const requirement of requirements) checkRequirement(metadata, requirement)
}

function checkRequirement(metadata: JsonObject, requirement: JsonObject): void {
  const type = textOf(requirement, 'type')
  switch (type) {
    case 'assert-create':
      throw conflict(type, 'the table exists')
    case 'assert-table-uuid':
      return expectEqual(type, requirement['uuid'] ?? null, metadata['table-uuid'] ?? null)
    case 'assert-ref-snapshot-id':
      return expectEqual(type, optionalLongOf(requirement, 'snapshot-id'), refSnapshotId(metadata, textOf(requirement, 'ref')))
    default: {
      const keys = NUMBER_REQUIREMENTS[type]
      if (!keys) throw new MoonlinkError('invalid', 'REQUIREMENT_UNKNOWN', `unknown commit requirement "${type}"`, { context: { type } })
      return expectEqual(type, requirement[keys.requirement] ?? null, metadata[keys.metadata] ?? null)
    }
  }
}

function expectEqual(type: string, expected: JsonValue, found: JsonValue): void {
  if (expected !== found) throw conflict(type, `expected ${stringifyJsonLossless(expected)}, found ${stringifyJsonLossless(found)}`)
}

function conflict(type: string, why: string): MoonlinkError {
  return new MoonlinkError('conflict', 'COMMIT_CONFLICT', `commit requirement ${type} failed: ${why}. Load the table again.`, {
    context: { requirement: type },
  })
}

/** Snapshot that a branch or tag points at, or null where there is no such ref. */
export function refSnapshotId(metadata: JsonObject, name: string): bigint | null {
  const refs = objectOf(metadata, 'refs')
  if (refs[name] != null) return optionalLongOf(objectOf(refs, name), 'snapshot-id')
  return name === MAIN ? optionalLongOf(metadata, 'current-snapshot-id') : null
}
