import { parseLsn, type JsonObject, type Lsn } from '@moonlink/core'
import { longOf, objectsOf, optionalLongOf, textMapOf } from './fields.ts'
import { refSnapshotId } from './requirements.ts'
import { ancestors } from './snapshot-updates.ts'

/** Keys in a snapshot's summary: the end LSN it covers, and which open storage wrote it. */
export const SUMMARY_LSN = 'moonlink.lsn'
export const SUMMARY_WRITER = 'moonlink.writer'
/** Table properties that repeat the newest commit, for when its snapshot has been expired by others. */
export const PROPERTY_LSN = 'moonlink.committed-lsn'
export const PROPERTY_SNAPSHOT = 'moonlink.committed-snapshot-id'

/** LSN that a snapshot carries itself. */
export function lsnOfSnapshot(snapshot: JsonObject): Lsn | null {
  const text = textMapOf(snapshot, 'summary')[SUMMARY_LSN]
  return text === undefined ? null : parseLsn(text)
}

/**
 * Everything up to this LSN is in the table as of `from` (the current snapshot unless given): the ancestors decide, since somebody may
 * have rolled the table back. The property counts only where the ancestors that could tell have been expired, and the snapshot it was
 * set with is not among those retained elsewhere.
 */
export function committedLsn(metadata: JsonObject, from: bigint | null = refSnapshotId(metadata, 'main')): Lsn | null {
  const chain = ancestors(metadata, from)
  for (const snapshot of chain) {
    const lsn = lsnOfSnapshot(snapshot)
    if (lsn !== null) return lsn
  }
  const oldest = chain.at(-1)
  if (!oldest || optionalLongOf(oldest, 'parent-snapshot-id') === null) return null
  const properties = textMapOf(metadata, 'properties')
  const lsn = properties[PROPERTY_LSN]
  const committedAs = properties[PROPERTY_SNAPSHOT]
  const isElsewhere = objectsOf(metadata, 'snapshots').some((snapshot) => String(longOf(snapshot, 'snapshot-id')) === committedAs)
  return lsn === undefined || committedAs === undefined || isElsewhere ? null : parseLsn(lsn)
}
