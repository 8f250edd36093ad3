import { MoonlinkError, type JsonObject, type LoadedTable, type Lsn } from '@moonlink/core'
import { longOf, numberOf, textMapOf, textOf } from '../metadata/fields.ts'
import { committedLsn, lsnOfSnapshot, PROPERTY_SNAPSHOT, stampOf, SUMMARY_EPOCH, SUMMARY_WRITER } from '../metadata/committed-lsn.ts'
import { refSnapshotId } from '../metadata/requirements.ts'
import { ancestors } from '../metadata/snapshot-updates.ts'
import { blobKey } from './load-state.ts'
import type { TableState } from './table-state.ts'

/** Codes of the errors by which a table is no more as it was opened: others have changed it. */
export const FOREIGN_CHANGES: ReadonlySet<string> = new Set([
  'TABLE_GONE',
  'TABLE_REPLACED',
  'ICEBERG_SCHEMA_CHANGED',
  'FILE_REMOVED',
  'FILE_CHANGED',
  'ROWS_CHANGED',
  'ROLLED_BACK',
  'EARLIER_COMMIT_LANDED',
])

export interface Head {
  readonly table: LoadedTable
  readonly state: TableState
}

/** The table is no longer the one that was opened. Throws `conflict`. */
export function checkSameTable(base: LoadedTable, head: LoadedTable | null, name: string): asserts head is LoadedTable {
  if (head === null) throw conflict('TABLE_GONE', `Iceberg table ${name} was dropped`)
  if (textOf(base.metadata, 'table-uuid') !== textOf(head.metadata, 'table-uuid')) {
    throw conflict('TABLE_REPLACED', `Iceberg table ${name} was dropped and created again`)
  }
}

/**
 * Decides whether a commit planned on `base` may be planned again on `head`, which others have moved on to. It may where they left
 * the rows as they were, and every file and vector of `base` alone.
 *
 * Throws `fenced`/`OTHER_MIRROR` where another mirror committed, else `conflict` naming what changed.
 */
export function checkRebase(base: Head, head: Head, writerId: string, name: string): void {
  const since = snapshotsSince(base, head, writerId, name)
  const lsn = committedLsn(base.table.metadata, base.state.snapshotId)
  for (const snapshot of since) checkWriter(snapshot, lsn, writerId, name)
  if (numberOf(base.table.metadata, 'current-schema-id') !== numberOf(head.table.metadata, 'current-schema-id')) {
    throw conflict('ICEBERG_SCHEMA_CHANGED', `the schema of Iceberg table ${name} was changed by another writer`)
  }
  for (const path of base.state.files.keys()) {
    if (!head.state.files.has(path)) throw conflict('FILE_REMOVED', `another writer removed data file ${path} from ${name}`)
    const before = base.state.vectors.get(path)
    const now = head.state.vectors.get(path)
    if ((before && blobKey(before.entry)) !== (now && blobKey(now.entry))) {
      throw conflict('FILE_CHANGED', `another writer deleted rows of data file ${path} of ${name}`)
    }
  }
  const changes = since.find(changesRows)
  if (changes !== undefined) throw conflict('ROWS_CHANGED', `another writer changed rows of ${name} (${described(changes)})`)
}

/**
 * What others did to the rows since the last snapshot of ours that has an LSN: the table is not what the source had at any LSN then, though the ancestors of `from` say one. Null where they left the rows as
 * they were, as a compaction does, and where nothing was committed yet.
 */
export function foreignChange(metadata: JsonObject, from: bigint | null): string | null {
  if (committedLsn(metadata, from) === null) return null
  const chain = ancestors(metadata, from)
  const at = chain.findIndex((snapshot) => stampOf(snapshot) !== null)
  const changes = (at < 0 ? chain : chain.slice(0, at)).find(changesRows)
  if (changes !== undefined) return `another writer changed rows of its Iceberg table (${described(changes)})`
  const last = textMapOf(metadata, 'properties')[PROPERTY_SNAPSHOT]
  if (at < 0 || last === undefined || String(longOf(chain[at], 'snapshot-id')) === last) return null
  return `its Iceberg table was rolled back from snapshot ${last}`
}

/** Whether it is another engine's, and has other rows than the one before it. */
function changesRows(snapshot: JsonObject): boolean {
  const summary = textMapOf(snapshot, 'summary')
  if (summary[SUMMARY_WRITER] !== undefined || summary['operation'] === 'replace') return false
  // Who counts at all leaves out what is none.
  const added = summary['added-records'] ?? (summary['total-records'] === undefined ? 'unknown' : '0')
  return summary['operation'] !== 'append' || added !== '0'
}

function described(snapshot: JsonObject): string {
  return `snapshot ${longOf(snapshot, 'snapshot-id')}: ${textMapOf(snapshot, 'summary')['operation'] ?? 'unknown'}`
}

/** Throws `fenced`/`OTHER_MIRROR` where another mirror committed since `base`. */
export function checkNotFenced(base: LoadedTable, head: LoadedTable, writerId: string, name: string): void {
  const known = refSnapshotId(base.metadata, 'main')
  for (const snapshot of ancestors(head.metadata, refSnapshotId(head.metadata, 'main'))) {
    if (longOf(snapshot, 'snapshot-id') === known) return
    checkOwner(snapshot, writerId, name)
  }
}

function snapshotsSince(base: Head, head: Head, writerId: string, name: string): readonly JsonObject[] {
  const chain = ancestors(head.table.metadata, head.state.snapshotId)
  if (base.state.snapshotId === null) return chain
  const at = chain.findIndex((snapshot) => longOf(snapshot, 'snapshot-id') === base.state.snapshotId)
  if (at >= 0) return chain.slice(0, at)
  // Whoever took the table over may have expired what it began with.
  const lastSequenceNumber = numberOf(base.table.metadata, 'last-sequence-number')
  for (const snapshot of chain) if (numberOf(snapshot, 'sequence-number') > lastSequenceNumber) checkOwner(snapshot, writerId, name)
  throw conflict('ROLLED_BACK', `snapshot ${base.state.snapshotId} is no longer in the history of Iceberg table ${name}`)
}

/** Returns whether the snapshot is ours. */
function checkOwner(snapshot: JsonObject, writerId: string, name: string): boolean {
  const summary = textMapOf(snapshot, 'summary')
  // A mirror's; one without an LSN took the table over before its first copy.
  if (summary[SUMMARY_WRITER] === undefined) return false
  if (summary[SUMMARY_WRITER] === writerId) return true
  const message = `another backend has taken over Iceberg table ${name} and commits to it; this one stops. Run one backend for a table.`
  throw new MoonlinkError('fenced', 'OTHER_MIRROR', message, { context: { table: name, epoch: summary[SUMMARY_EPOCH] ?? null } })
}

function checkWriter(snapshot: JsonObject, lsn: Lsn | null, writerId: string, name: string): void {
  if (!checkOwner(snapshot, writerId, name)) return
  // A snapshot that only keeps another out may come late.
  if (textMapOf(snapshot, 'summary')['changed-partition-count'] === '0' && lsnOfSnapshot(snapshot) === lsn) return
  throw earlierLanded(name)
}

/** A commit of ours that was given up as unknown: what it held must not be committed twice. */
export function earlierLanded(name: string): MoonlinkError {
  return conflict('EARLIER_COMMIT_LANDED', `an earlier commit to Iceberg table ${name}, whose outcome was unknown, has landed`)
}

function conflict(code: string, what: string): MoonlinkError {
  return new MoonlinkError('conflict', code, `${what}. Open the table again.`)
}
