import type { JsonObject, JsonValue } from '@moonlink/core'
import { numberOf, objectsOf, textMapOf, textOf } from '../metadata/fields.ts'

const DEFAULT_PREVIOUS_VERSIONS = 100

export interface LoggedMetadata {
  readonly metadata: JsonObject
  /** Metadata files that left the log and are to be deleted, as the table's properties ask for. */
  readonly dropped: readonly string[]
}

/**
 * Adds the version before to the metadata log and bounds the log by `write.metadata.previous-versions-max`; what leaves it is to be
 * deleted where `write.metadata.delete-after-commit.enabled` says so.
 */
export function withMetadataLog(base: JsonObject, baseUri: string, updated: JsonObject): LoggedMetadata {
  const properties = textMapOf(updated, 'properties')
  const wanted = Number(properties['write.metadata.previous-versions-max'] ?? DEFAULT_PREVIOUS_VERSIONS)
  const limit = Number.isInteger(wanted) && wanted >= 1 ? wanted : DEFAULT_PREVIOUS_VERSIONS
  const entry: JsonObject = { 'timestamp-ms': numberOf(base, 'last-updated-ms'), 'metadata-file': baseUri }
  const log: readonly JsonObject[] = [...objectsOf(base, 'metadata-log'), entry]
  const dropped = log.slice(0, Math.max(0, log.length - limit)).map((old) => textOf(old, 'metadata-file'))
  const kept: JsonValue = log.slice(-limit)
  const deletes = deletesOldMetadata(updated)
  return { metadata: { ...updated, 'metadata-log': kept }, dropped: deletes ? dropped : [] }
}

export function deletesOldMetadata(metadata: JsonObject): boolean {
  return textMapOf(metadata, 'properties')['write.metadata.delete-after-commit.enabled'] === 'true'
}

/** The oldest metadata file that the log names; null where it names none. */
export function oldestLogged(metadata: JsonObject): string | null {
  const [oldest] = objectsOf(metadata, 'metadata-log')
  return oldest === undefined ? null : textOf(oldest, 'metadata-file')
}
