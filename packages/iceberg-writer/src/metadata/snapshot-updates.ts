import { MoonlinkError, type JsonObject, type JsonValue } from '@moonlink/core'
import { longOf, longToJson, numberOf, objectMapOf, objectOf, objectsOf, optionalLongOf, textOf } from './fields.ts'
import { refSnapshotId } from './requirements.ts'
import { invalidUpdate, type UpdateContext } from './update-context.ts'

const MAIN = 'main'
/** How far before the table's last change a snapshot's clock may be, as Iceberg's Java library has it. */
const CLOCK_SKEW_MS = 60_000

/** `add-snapshot`: takes the snapshot's row-id range out of the table's and moves the last sequence number. */
export function addSnapshot(metadata: JsonObject, update: JsonObject): JsonObject {
  const snapshot = objectOf(update, 'snapshot')
  const id = longOf(snapshot, 'snapshot-id')
  const snapshots = objectsOf(metadata, 'snapshots')
  if (snapshots.some((known) => longOf(known, 'snapshot-id') === id)) throw invalidUpdate(`snapshot ${id} exists`)
  const sequenceNumber = numberOf(snapshot, 'sequence-number')
  const lastSequenceNumber = numberOf(metadata, 'last-sequence-number')
  if (sequenceNumber <= lastSequenceNumber) throw stale('sequence number', sequenceNumber, lastSequenceNumber + 1)
  const firstRowId = longOf(snapshot, 'first-row-id')
  const nextRowId = longOf(metadata, 'next-row-id')
  if (firstRowId < nextRowId) throw stale('first row id', firstRowId, nextRowId)
  const timestampMs = numberOf(snapshot, 'timestamp-ms')
  const lastLogged = objectsOf(metadata, 'snapshot-log').at(-1)
  if (lastLogged && timestampMs < numberOf(lastLogged, 'timestamp-ms') - CLOCK_SKEW_MS) {
    throw invalidUpdate(`snapshot ${id} has an earlier time stamp than the one before it`)
  }
  return {
    ...metadata,
    snapshots: [...snapshots, snapshot],
    'last-sequence-number': sequenceNumber,
    'next-row-id': longToJson(firstRowId + longOf(snapshot, 'added-rows')),
    'last-updated-ms': Math.max(numberOf(metadata, 'last-updated-ms'), timestampMs),
  }
}

/** `set-snapshot-ref`: moves a branch or tag; for `main` the current snapshot and the snapshot log with it. */
export function setRef(metadata: JsonObject, update: JsonObject, context: UpdateContext): JsonObject {
  const name = textOf(update, 'ref-name')
  const id = longOf(update, 'snapshot-id')
  const snapshot = objectsOf(metadata, 'snapshots').find((known) => longOf(known, 'snapshot-id') === id)
  if (!snapshot) throw invalidUpdate(`ref "${name}" would point at snapshot ${id}, which is not there`)
  const ref: Record<string, JsonValue> = { 'snapshot-id': longToJson(id), type: textOf(update, 'type') }
  for (const key of ['min-snapshots-to-keep', 'max-snapshot-age-ms', 'max-ref-age-ms']) {
    if (update[key] !== undefined && update[key] !== null) ref[key] = update[key]
  }
  const next: JsonObject = { ...metadata, refs: { ...objectOf(metadata, 'refs'), [name]: ref } }
  if (name !== MAIN || refSnapshotId(metadata, MAIN) === id) return next
  const log = objectsOf(metadata, 'snapshot-log')
  const previousMs = log.length === 0 ? 0 : numberOf(log.at(-1)!, 'timestamp-ms')
  // A snapshot of this commit is logged at its own time, an older one (a rollback) at the time of the commit.
  const isNew = longOf(snapshot, 'sequence-number') === longOf(metadata, 'last-sequence-number')
  const loggedMs = Math.max(previousMs, isNew ? numberOf(snapshot, 'timestamp-ms') : context.nowMs)
  return {
    ...next,
    'current-snapshot-id': longToJson(id),
    'snapshot-log': [...log, { 'timestamp-ms': loggedMs, 'snapshot-id': longToJson(id) }],
  }
}

export function removeRef(metadata: JsonObject, update: JsonObject): JsonObject {
  const name = textOf(update, 'ref-name')
  const { [name]: _removed, ...refs } = objectOf(metadata, 'refs')
  return { ...metadata, refs, ...(name === MAIN ? { 'current-snapshot-id': null, 'snapshot-log': [] } : {}) }
}

/** `remove-snapshots`: their statistics go too, refs to them, and the part of the snapshot log that could no longer be followed. */
export function removeSnapshots(metadata: JsonObject, update: JsonObject): JsonObject {
  const removed = new Set(((update['snapshot-ids'] ?? []) as readonly (number | bigint)[]).map((id) => BigInt(id)))
  const main = refSnapshotId(metadata, MAIN)
  if (main !== null && removed.has(main)) throw invalidUpdate(`snapshot ${main} is the current one`)
  const keeps = (item: JsonObject) => !removed.has(longOf(item, 'snapshot-id'))
  const log = objectsOf(metadata, 'snapshot-log')
  const lastGap = log.findLastIndex((entry) => !keeps(entry))
  const refs = objectMapOf(metadata, 'refs').filter(([, ref]) => keeps(ref))
  return {
    ...metadata,
    snapshots: objectsOf(metadata, 'snapshots').filter(keeps),
    refs: Object.fromEntries(refs),
    'snapshot-log': log.slice(lastGap + 1),
    statistics: objectsOf(metadata, 'statistics').filter(keeps),
    'partition-statistics': objectsOf(metadata, 'partition-statistics').filter(keeps),
  }
}

/** Ids of the snapshot and its ancestors as far as they are retained, newest first. */
export function ancestors(metadata: JsonObject, from: bigint | null): readonly JsonObject[] {
  const byId = new Map(objectsOf(metadata, 'snapshots').map((snapshot) => [longOf(snapshot, 'snapshot-id'), snapshot]))
  const chain: JsonObject[] = []
  for (let id = from; id !== null;) {
    const snapshot = byId.get(id)
    if (!snapshot) break
    byId.delete(id)
    chain.push(snapshot)
    id = optionalLongOf(snapshot, 'parent-snapshot-id')
  }
  return chain
}

function stale(what: string, found: number | bigint, least: number | bigint): MoonlinkError {
  return new MoonlinkError(
    'conflict',
    'COMMIT_CONFLICT',
    `snapshot has ${what} ${found}, but the table is at ${least} already. Load the table again.`,
  )
}
