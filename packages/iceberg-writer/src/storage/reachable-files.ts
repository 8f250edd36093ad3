import type { JsonObject, LoadedTable, ObjectStore } from '@moonlink/core'
import { objectsOf, textOf } from '../metadata/fields.ts'
import { readManifestList, readManifests } from './load-state.ts'
import { mapConcurrent } from './map-concurrent.ts'
import { EMPTY_STATE, type TableState } from './table-state.ts'

const CONCURRENT_CALLS = 8

interface FileTree {
  readonly manifests: Set<string>
  readonly files: Set<string>
}

/** Every manifest of the snapshots, and every live file of those not in `skip`. `known` spares reading what it has. */
export async function readTrees(
  store: ObjectStore,
  snapshots: readonly JsonObject[],
  known: TableState,
  skip: ReadonlySet<string>,
): Promise<FileTree> {
  const lists = await mapConcurrent(snapshots, CONCURRENT_CALLS, (snapshot) => readManifestList(store, snapshot))
  const byPath = new Map(lists.flat().map((file) => [file.path, file]))
  const wanted = [...byPath.values()].filter((file) => !skip.has(file.path))
  const files = new Set<string>()
  for (const manifest of await readManifests(store, wanted, known)) {
    for (const entry of manifest.entries) files.add(entry.file.path)
  }
  return { manifests: new Set(byPath.keys()), files }
}

/** Every file that a table needs: its metadata and what that logs, manifest lists, manifests, data and Puffin files of every snapshot. */
export async function reachableFiles(store: ObjectStore, { metadata, metadataLocation }: LoadedTable): Promise<ReadonlySet<string>> {
  const snapshots = objectsOf(metadata, 'snapshots')
  const { files, manifests } = await readTrees(store, snapshots, EMPTY_STATE, new Set())
  const logged = objectsOf(metadata, 'metadata-log').map((entry) => textOf(entry, 'metadata-file'))
  const lists = snapshots.map((snapshot) => textOf(snapshot, 'manifest-list'))
  return new Set([metadataLocation, ...logged, ...lists, ...manifests, ...files])
}
