import type { FileGroup, ObjectStore } from '@moonlink/core'
import { objectsOf, textOf } from '../metadata/fields.ts'
import { refSnapshotId } from '../metadata/requirements.ts'
import { ancestors } from '../metadata/snapshot-updates.ts'
import type { Head } from './foreign-changes.ts'
import { readTrees } from './reachable-files.ts'

/**
 * Those of the groups' files that no snapshot of the table needs (see `TableStorage.unneeded`). A snapshot that has gone may have left manifests, data and
 * deletion vectors to those that came after it, of which any may be the last to need them: what they name is read before a file counts as unneeded.
 */
export async function unneededFiles(store: ObjectStore, head: Head, groups: readonly FileGroup[]): Promise<readonly string[]> {
  const { state, table } = head
  const snapshots = objectsOf(table.metadata, 'snapshots')
  const lists = new Set(snapshots.map((snapshot) => textOf(snapshot, 'manifest-list')))
  const isNeeded = ({ manifestLists }: FileGroup) => manifestLists.some((list) => lists.has(list))
  const needed = new Set(groups.filter(isNeeded).flatMap(({ paths }) => paths))
  for (const { file, entries } of state.manifests)
    for (const path of [file.path, ...entries.map((entry) => entry.file.path)]) needed.add(path)
  const gone = groups.filter((group) => !isNeeded(group))
  const candidates = [...new Set(gone.flatMap(({ paths }) => paths))].filter((path) => !needed.has(path) && !lists.has(path))
  if (candidates.length === 0) return []
  const { files, manifests } = await readTrees(store, witnesses(head, gone), state, new Set())
  return candidates.filter((path) => !files.has(path) && !manifests.has(path))
}

/**
 * The snapshots besides the current one that together name whatever is needed of groups whose snapshots are not there: a file is live for an unbroken run of a
 * straight history, so where only the oldest part of `main` has gone, the oldest that is left is enough; else all of them.
 */
function witnesses({ table: { metadata } }: Head, gone: readonly FileGroup[]) {
  const snapshots = objectsOf(metadata, 'snapshots')
  const main = ancestors(metadata, refSnapshotId(metadata, 'main'))
  const isStraight = main.length === snapshots.length && main.length === objectsOf(metadata, 'snapshot-log').length
  return isStraight && gone.every(({ manifestLists }) => manifestLists.length > 0) ? main.slice(-1) : snapshots
}
