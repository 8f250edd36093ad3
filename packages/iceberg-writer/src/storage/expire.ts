import { isMoonlinkError, type ExpirePolicy, type ExpireResult, type JsonObject, type JsonValue, type LoadedTable } from '@moonlink/core'
import { longOf, longToJson, numberOf, objectMapOf, objectsOf, textMapOf, textOf } from '../metadata/fields.ts'
import { refSnapshotId } from '../metadata/requirements.ts'
import { ancestors } from '../metadata/snapshot-updates.ts'
import type { Head } from './foreign-changes.ts'
import { mapConcurrent } from './map-concurrent.ts'
import { readTrees } from './reachable-files.ts'
import type { Committer } from './storage-parts.ts'

const CONCURRENT_CALLS = 8

export interface Expiry {
  readonly table: LoadedTable
  readonly result: ExpireResult
}

/**
 * Drops snapshots in one commit, then the files that only they named. A crash in between leaves files behind, which the ledger has, never the other way
 * round. `deferred` holds files that `keepPaths` saved in earlier calls.
 */
export async function expireSnapshots(committer: Committer, head: Head, policy: ExpirePolicy, deferred: Set<string>): Promise<Expiry> {
  const { metadata } = head.table
  const old = expiredSnapshots(metadata, policy, committer.clock.nowMs())
  const keepsFiles = textMapOf(metadata, 'properties')['gc.enabled'] === 'false'
  const paths = old.length === 0 || keepsFiles ? [] : await unreachableFiles(committer, head, without(metadata, old), old)
  if (paths.length > 0) await committer.ledger?.list({ paths, manifestLists: old.map((snapshot) => textOf(snapshot, 'manifest-list')) })
  const removed = old.length === 0 ? null : await removeSnapshots(committer, head, old)
  const table = removed ?? head.table
  const expired = removed === null ? [] : old
  if (keepsFiles) return { table, result: { snapshots: expired.length, files: 0 } }
  const doomed = new Set([...(removed === null ? [] : paths), ...deferred])
  deferred.clear()
  const deletable = [...doomed].filter((path) => {
    if (policy.keepPaths.has(path)) deferred.add(path)
    return !policy.keepPaths.has(path)
  })
  const gone: string[] = []
  await mapConcurrent(deletable, CONCURRENT_CALLS, async (path) => {
    try {
      await committer.store.delete(path)
      gone.push(path)
    } catch (error) {
      deferred.add(path)
      committer.logger.warn('a file of expired snapshots was not removed', { path, error: String(error) })
    }
  })
  if (gone.length > 0) await committer.ledger?.removed(gone)
  return { table, result: { snapshots: expired.length, files: deletable.length } }
}

function without(metadata: JsonObject, old: readonly JsonObject[]): JsonObject {
  return { ...metadata, snapshots: objectsOf(metadata, 'snapshots').filter((snapshot) => !old.includes(snapshot)) }
}

/** Snapshots that no ref needs: of `main` all but the newest `minSnapshots` and the young, of other branches and tags none. */
function expiredSnapshots(metadata: JsonObject, policy: ExpirePolicy, nowMs: number): readonly JsonObject[] {
  const isYoung = (snapshot: JsonObject) => nowMs - numberOf(snapshot, 'timestamp-ms') <= policy.maxAgeMs
  const kept = new Set<bigint>()
  const main = ancestors(metadata, refSnapshotId(metadata, 'main'))
  const keepCount = Math.max(1, policy.minSnapshots)
  main.forEach((snapshot, index) => {
    if (index < keepCount || isYoung(snapshot)) kept.add(longOf(snapshot, 'snapshot-id'))
  })
  for (const [name, ref] of objectMapOf(metadata, 'refs')) {
    if (name === 'main') continue
    const chain = ancestors(metadata, longOf(ref, 'snapshot-id'))
    for (const snapshot of ref['type'] === 'tag' ? chain.slice(0, 1) : chain) kept.add(longOf(snapshot, 'snapshot-id'))
  }
  const onMain = new Set(main)
  return objectsOf(metadata, 'snapshots').filter((snapshot) => {
    if (kept.has(longOf(snapshot, 'snapshot-id'))) return false
    // A snapshot on no ref may be one that another writer is about to publish.
    return onMain.has(snapshot) || !isYoung(snapshot)
  })
}

/** The table without the snapshots, or null where another writer came first: expiry can wait. */
async function removeSnapshots(committer: Committer, head: Head, expired: readonly JsonObject[]): Promise<LoadedTable | null> {
  const main = head.state.snapshotId
  const requirements: JsonObject[] = [
    { type: 'assert-table-uuid', uuid: textOf(head.table.metadata, 'table-uuid') },
    { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': main === null ? null : longToJson(main) },
  ]
  const ids = expired.map((snapshot) => longToJson(longOf(snapshot, 'snapshot-id')))
  try {
    return await committer.catalog.commit(committer.identifier, requirements, [{ action: 'remove-snapshots', 'snapshot-ids': ids }])
  } catch (error) {
    if (!isMoonlinkError(error, 'retry') && !isMoonlinkError(error, 'conflict')) throw error
    committer.logger.warn('snapshots were not expired this time', { table: committer.name, error: error.message })
    return error.kind === 'retry' ? removedAfterAll(committer, head, ids) : null
  }
}

/** Whether a commit of unknown outcome happened: then its files still have to go. */
async function removedAfterAll(committer: Committer, head: Head, ids: readonly JsonValue[]): Promise<LoadedTable | null> {
  const table = await committer.catalog.load(committer.identifier)
  if (table === null || refSnapshotId(table.metadata, 'main') !== head.state.snapshotId) return null
  const left = objectsOf(table.metadata, 'snapshots').some((snapshot) => ids.includes(snapshot['snapshot-id'] ?? null))
  return left ? null : table
}

/** Files that expired snapshots name and retained ones do not: manifest lists, manifests, data, Puffin and statistics files. */
async function unreachableFiles(
  committer: Committer,
  head: Head,
  retained: JsonObject,
  expired: readonly JsonObject[],
): Promise<readonly string[]> {
  const keeping = await readTrees(committer.store, witnesses(head.table.metadata, retained, expired), head.state, new Set())
  const leaving = await readTrees(committer.store, expired, head.state, keeping.manifests)
  const paths = [...leaving.manifests, ...leaving.files].filter((path) => !keeping.manifests.has(path) && !keeping.files.has(path))
  const lists = expired.map((snapshot) => textOf(snapshot, 'manifest-list'))
  return [...lists, ...paths, ...statisticsOf(head.table.metadata, expired)]
}

/**
 * The retained snapshots that together name every file which is still needed and an expired snapshot names too. A file is live for an
 * unbroken run of a straight history, so where only the oldest part of `main` goes, the oldest that stays is enough; else all of them.
 */
function witnesses(before: JsonObject, after: JsonObject, expired: readonly JsonObject[]): readonly JsonObject[] {
  const retained = objectsOf(after, 'snapshots')
  const main = ancestors(before, refSnapshotId(before, 'main'))
  const cut = main.length - expired.length
  const gone = new Set(expired.map((snapshot) => longOf(snapshot, 'snapshot-id')))
  const isStraight =
    main.length === objectsOf(before, 'snapshots').length &&
    main.length === objectsOf(before, 'snapshot-log').length &&
    cut > 0 &&
    main.slice(cut).every((snapshot) => gone.has(longOf(snapshot, 'snapshot-id')))
  return isStraight ? [main[cut - 1]] : retained
}

function statisticsOf(metadata: JsonObject, expired: readonly JsonObject[]): readonly string[] {
  const gone = new Set(expired.map((snapshot) => longOf(snapshot, 'snapshot-id')))
  return ['statistics', 'partition-statistics'].flatMap((key) =>
    objectsOf(metadata, key)
      .filter((statistics) => gone.has(longOf(statistics, 'snapshot-id')))
      .map((statistics) => textOf(statistics, 'statistics-path')),
  )
}
