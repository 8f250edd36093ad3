import { parseLsn, type JsonObject, type Lsn, type StampedCommit, type TimelineLsn } from '@moonlink/core'
import { longOf, objectsOf, optionalLongOf, textMapOf } from './fields.ts'
import { refSnapshotId } from './requirements.ts'
import { ancestors } from './snapshot-updates.ts'

/** Keys in a snapshot's summary: the end LSN it covers, and which open storage wrote it. */
export const SUMMARY_LSN = 'moonlink.lsn'
/** The source's timeline of which that LSN is: after a failover an LSN alone does not say whose history it is of. */
export const SUMMARY_TIMELINE = 'moonlink.source-timeline'
/** Up to where that is known, where it is not as far as the snapshot's LSN. */
export const SUMMARY_TIMELINE_LSN = 'moonlink.source-timeline-lsn'
export const SUMMARY_WRITER = 'moonlink.writer'
/** Counts the owners of the table: each begins with a snapshot of the next number, after which none before it can commit. */
export const SUMMARY_EPOCH = 'moonlink.epoch'
/** End LSNs of the oldest and the newest change since the snapshot before it. */
export const SUMMARY_FIRST_CHANGE = 'moonlink.first-change-lsn'
export const SUMMARY_LAST_CHANGE = 'moonlink.last-change-lsn'
/** Table properties that repeat the newest commit, for when its snapshot has been expired by others. */
export const PROPERTY_LSN = 'moonlink.committed-lsn'
export const PROPERTY_SNAPSHOT = 'moonlink.committed-snapshot-id'

/** LSN that a snapshot carries itself. */
export function lsnOfSnapshot(snapshot: JsonObject): Lsn | null {
  return lsnIn(snapshot, SUMMARY_LSN)
}

/** What a snapshot of ours says about LSNs; null for another engine's. */
export function stampOf(snapshot: JsonObject): StampedCommit | null {
  const lsn = lsnOfSnapshot(snapshot)
  if (lsn === null) return null
  return { lsn, firstChangeLsn: lsnIn(snapshot, SUMMARY_FIRST_CHANGE), lastChangeLsn: lsnIn(snapshot, SUMMARY_LAST_CHANGE) }
}

function lsnIn(snapshot: JsonObject, key: string): Lsn | null {
  const text = textMapOf(snapshot, 'summary')[key]
  return text === undefined ? null : parseLsn(text)
}

/**
 * Everything up to this LSN is in the table as of `from` (the current snapshot unless given): the ancestors decide, since somebody may
 * have rolled the table back. The property counts only where the ancestors that could tell have been expired, and the snapshot it was
 * set with is not among those retained elsewhere.
 */
export function committedLsn(metadata: JsonObject, from: bigint | null = refSnapshotId(metadata, 'main')): Lsn | null {
  const stamp = committedStamp(metadata, from)
  if (stamp !== null) return stamp.lsn
  const oldest = ancestors(metadata, from).at(-1)
  if (!oldest || optionalLongOf(oldest, 'parent-snapshot-id') === null) return null
  const properties = textMapOf(metadata, 'properties')
  const lsn = properties[PROPERTY_LSN]
  const committedAs = properties[PROPERTY_SNAPSHOT]
  const isElsewhere = objectsOf(metadata, 'snapshots').some((snapshot) => String(longOf(snapshot, 'snapshot-id')) === committedAs)
  return lsn === undefined || committedAs === undefined || isElsewhere ? null : parseLsn(lsn)
}

/** What the newest snapshot of ours among the ancestors of `from` says; null where none is left. */
export function committedStamp(metadata: JsonObject, from: bigint | null): StampedCommit | null {
  for (const snapshot of ancestors(metadata, from)) {
    const stamp = stampOf(snapshot)
    if (stamp !== null) return stamp
  }
  return null
}

/** The source's timeline that the newest snapshot of ours among the ancestors of `from` names, and up to where it is of that; null where it names none. */
export function committedTimeline(metadata: JsonObject, from: bigint | null): TimelineLsn | null {
  for (const snapshot of ancestors(metadata, from)) {
    const lsn = lsnOfSnapshot(snapshot)
    if (lsn === null) continue
    const text = textMapOf(snapshot, 'summary')[SUMMARY_TIMELINE] ?? ''
    return /^[1-9]\d{0,9}$/.test(text) ? { timeline: Number(text), lsn: lsnIn(snapshot, SUMMARY_TIMELINE_LSN) ?? lsn } : null
  }
  return null
}

/** One more than any epoch among the ancestors of `from`. */
export function nextEpoch(metadata: JsonObject, from: bigint | null): number {
  let epoch = 0
  for (const snapshot of ancestors(metadata, from)) epoch = Math.max(epoch, Number(textMapOf(snapshot, 'summary')[SUMMARY_EPOCH] ?? 0))
  return epoch + 1
}
