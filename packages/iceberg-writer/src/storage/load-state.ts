import { MoonlinkError, type DeletionVector, type JsonObject, type ObjectStore } from '@moonlink/core'
import { decodeManifest, EntryStatus, type ManifestEntry } from '../avro/manifest.ts'
import { decodeManifestList, type ManifestFile } from '../avro/manifest-list.ts'
import { longOf, objectsOf, textOf } from '../metadata/fields.ts'
import { decodeDeletionVector } from '../puffin/deletion-vector.ts'
import { mapConcurrent } from './map-concurrent.ts'
import { namingFile } from './naming-file.ts'
import { EMPTY_STATE, referencedFile, stateOf, type LiveManifest, type TableState } from './table-state.ts'

const CONCURRENT_READS = 16

/** Reads a snapshot of the table, taking from `known` whatever it shares with it. */
export async function loadState(
  store: ObjectStore,
  metadata: JsonObject,
  snapshotId: bigint | null,
  known: TableState,
): Promise<TableState> {
  if (snapshotId === null) return EMPTY_STATE
  const list = await readManifestList(store, findSnapshot(metadata, snapshotId))
  const manifests = await readManifests(store, list, known)
  const vectors = await readVectors(store, manifests, known)
  return stateOf(snapshotId, manifests, known, (entry) => vectors.get(blobKey(entry))!)
}

export function findSnapshot(metadata: JsonObject, snapshotId: bigint): JsonObject {
  const snapshot = objectsOf(metadata, 'snapshots').find((candidate) => longOf(candidate, 'snapshot-id') === snapshotId)
  if (!snapshot) {
    throw new MoonlinkError('invalid', 'SNAPSHOT_NOT_FOUND', `snapshot ${snapshotId} is not retained any more.`, {
      context: { snapshotId },
    })
  }
  return snapshot
}

export async function readManifestList(store: ObjectStore, snapshot: JsonObject): Promise<readonly ManifestFile[]> {
  const path = textOf(snapshot, 'manifest-list')
  const bytes = await store.get(path)
  return decodeManifestList(bytes).catch((error: unknown) => {
    throw namingFile(path, error)
  })
}

/** The live entries of each manifest, read only where `known` does not have it. */
export async function readManifests(store: ObjectStore, list: readonly ManifestFile[], known: TableState): Promise<LiveManifest[]> {
  const knownByPath = new Map(known.manifests.map((manifest) => [manifest.file.path, manifest]))
  return mapConcurrent(list, CONCURRENT_READS, async (file) => {
    const shared = knownByPath.get(file.path)
    if (shared) return shared
    const bytes = await store.get(file.path)
    const { entries } = await decodeManifest(bytes).catch((error: unknown) => {
      throw namingFile(file.path, error)
    })
    return { file, entries: resolveEntries(file, entries) }
  })
}

/** Fills in what entries inherit from their manifest (Iceberg spec, "Sequence Number Inheritance", "First Row ID Inheritance"). */
export function resolveEntries(manifest: ManifestFile, entries: readonly ManifestEntry[]): ManifestEntry[] {
  const live: ManifestEntry[] = []
  let nextRowId = manifest.content === 'data' ? manifest.firstRowId : null
  for (const entry of entries) {
    if (entry.status === EntryStatus.deleted) continue
    let { firstRowId } = entry.file
    if (firstRowId === null && nextRowId !== null) {
      firstRowId = nextRowId
      nextRowId += entry.file.recordCount
    }
    live.push({
      status: entry.status,
      snapshotId: entry.snapshotId ?? manifest.addedSnapshotId,
      sequenceNumber: entry.sequenceNumber ?? manifest.sequenceNumber,
      fileSequenceNumber: entry.fileSequenceNumber ?? manifest.sequenceNumber,
      file: firstRowId === entry.file.firstRowId ? entry.file : { ...entry.file, firstRowId },
    })
  }
  return live
}

/** Every deletion vector of the manifests by `blobKey`. Vectors of one Puffin file are read in one range. */
async function readVectors(
  store: ObjectStore,
  manifests: readonly LiveManifest[],
  known: TableState,
): Promise<Map<string, DeletionVector>> {
  const vectors = new Map<string, DeletionVector>()
  for (const { entry, vector } of known.vectors.values()) vectors.set(blobKey(entry), vector)
  const missing = new Map<string, ManifestEntry[]>()
  for (const manifest of manifests) {
    if (manifest.file.content === 'data') continue
    for (const entry of manifest.entries) {
      referencedFile(entry)
      if (vectors.has(blobKey(entry))) continue
      const sameFile = missing.get(entry.file.path)
      if (sameFile) sameFile.push(entry)
      else missing.set(entry.file.path, [entry])
    }
  }
  await mapConcurrent([...missing.values()], CONCURRENT_READS, async (entries) => {
    for (const vector of await readBlobs(store, entries)) vectors.set(vector.key, vector.vector)
  })
  return vectors
}

async function readBlobs(store: ObjectStore, entries: readonly ManifestEntry[]): Promise<{ key: string; vector: DeletionVector }[]> {
  const start = Math.min(...entries.map((entry) => entry.file.contentOffset!))
  const end = Math.max(...entries.map((entry) => entry.file.contentOffset! + (entry.file.contentSizeBytes ?? 0)))
  const { path } = entries[0].file
  const bytes = await store.get(path, { offset: start, length: end - start })
  return entries.map((entry) => {
    const at = entry.file.contentOffset! - start
    const blob = bytes.subarray(at, at + (entry.file.contentSizeBytes ?? 0))
    const dataFile = referencedFile(entry)
    const cardinality = entry.file.recordCount
    const bitmap = decodeDeletionVector(blob, cardinality, `${path}: deletion vector of ${dataFile}`)
    return { key: blobKey(entry), vector: { dataFile, bitmap, cardinality } }
  })
}

/** Names one blob of one Puffin file. */
export function blobKey(entry: ManifestEntry): string {
  return `${entry.file.path}#${entry.file.contentOffset}`
}
