import { MoonlinkError, type DataFile, type DeletionVector, type JsonObject, type LoadedTable } from '@moonlink/core'
import { FileContent, type ManifestEntry } from '../avro/manifest.ts'
import type { ManifestFile } from '../avro/manifest-list.ts'
import { longOf, numberOf, objectsOf, textMapOf, textOf } from '../metadata/fields.ts'

/** A manifest of a snapshot: its live entries, every inherited number filled in. */
export interface LiveManifest {
  readonly file: ManifestFile
  readonly entries: readonly ManifestEntry[]
}

export interface LiveVector {
  readonly entry: ManifestEntry
  readonly vector: DeletionVector
}

/** One snapshot of the table, whole, in memory. Immutable; later states share what did not change. */
export interface TableState {
  readonly snapshotId: bigint | null
  /** In the order of the manifest list. */
  readonly manifests: readonly LiveManifest[]
  /** By path. */
  readonly files: ReadonlyMap<string, DataFile>
  /** By the data file's path. */
  readonly vectors: ReadonlyMap<string, LiveVector>
}

export const EMPTY_STATE: TableState = { snapshotId: null, manifests: [], files: new Map(), vectors: new Map() }

/** Builds a state from its manifests; `bitmapOf` gives each deletion vector. Throws `corrupt`/`VECTORS_TWICE`. */
export function stateOf(
  snapshotId: bigint | null,
  manifests: readonly LiveManifest[],
  previous: TableState,
  vectorOf: (entry: ManifestEntry) => DeletionVector,
): TableState {
  const files = new Map<string, DataFile>()
  const vectors = new Map<string, LiveVector>()
  for (const { file, entries } of manifests) {
    if (file.content !== 'data') continue
    for (const entry of entries) files.set(entry.file.path, previous.files.get(entry.file.path) ?? dataFileOf(entry))
  }
  for (const { file, entries } of manifests) {
    if (file.content === 'data') continue
    // Some engines remove a data file and leave its vector; it means nothing then.
    for (const entry of entries) if (files.has(referencedFile(entry))) addVector(vectors, entry, vectorOf)
  }
  return { snapshotId, manifests, files, vectors }
}

function addVector(vectors: Map<string, LiveVector>, entry: ManifestEntry, vectorOf: (entry: ManifestEntry) => DeletionVector): void {
  const path = referencedFile(entry)
  if (vectors.has(path)) throw corrupt('VECTORS_TWICE', `two deletion vectors name ${path}`)
  vectors.set(path, { entry, vector: vectorOf(entry) })
}

/** The data file of a deletion vector's entry. Throws `invalid`/`DELETES_UNSUPPORTED` for any other kind of delete file. */
export function referencedFile(entry: ManifestEntry): string {
  const { file } = entry
  const isVector = file.content === FileContent.positionDeletes && file.format.toLowerCase() === 'puffin' && file.contentOffset !== null
  if (!isVector || file.referencedDataFile === null) {
    throw new MoonlinkError(
      'invalid',
      'DELETES_UNSUPPORTED',
      `delete file ${file.path} is not a deletion vector; have the engine that wrote it rewrite the table's data files.`,
      { context: { path: file.path, content: file.content } },
    )
  }
  return file.referencedDataFile
}

function dataFileOf(entry: ManifestEntry): DataFile {
  const { file } = entry
  if (file.firstRowId === null) {
    throw new MoonlinkError('invalid', 'ROW_LINEAGE_MISSING', `data file ${file.path} has no first row id; rewrite it with another engine.`)
  }
  return {
    path: file.path,
    recordCount: file.recordCount,
    sizeBytes: file.sizeBytes,
    firstRowId: file.firstRowId,
    dataSequenceNumber: entry.sequenceNumber ?? 0,
  }
}

/** The table's facts that a writer relies on. Throws `invalid` for a table that a mirror cannot write. */
export function checkWritable(metadata: JsonObject): void {
  textOf(metadata, 'location')
  const version = numberOf(metadata, 'format-version')
  if (version !== 3) {
    throw new MoonlinkError(
      'invalid',
      'FORMAT_VERSION',
      `the Iceberg table has format version ${version}; a mirror needs version 3. Upgrade it.`,
    )
  }
  for (const spec of objectsOf(metadata, 'partition-specs')) {
    if (objectsOf(spec, 'fields').some((field) => field['transform'] !== 'void')) {
      throw new MoonlinkError(
        'invalid',
        'TABLE_PARTITIONED',
        'the Iceberg table is partitioned; a mirror writes unpartitioned tables only.',
      )
    }
  }
}

export function currentSchemaJson(metadata: JsonObject): JsonObject {
  return schemaJson(metadata, numberOf(metadata, 'current-schema-id'))
}

/** The schema that a retained snapshot was made with. */
export function snapshotSchemaJson(metadata: JsonObject, snapshotId: bigint): JsonObject {
  const snapshot = objectsOf(metadata, 'snapshots').find((known) => longOf(known, 'snapshot-id') === snapshotId)
  // The format lets writers leave it out.
  if (snapshot?.['schema-id'] == null) return currentSchemaJson(metadata)
  return schemaJson(metadata, numberOf(snapshot, 'schema-id'))
}

function schemaJson(metadata: JsonObject, id: number): JsonObject {
  const schema = objectsOf(metadata, 'schemas').find((known) => known['schema-id'] === id)
  if (!schema) throw corrupt('METADATA_MALFORMED', `table metadata names schema ${id}, which is not there`)
  return schema
}

/** Where the table's files go, without a slash at the end. */
export function directoriesOf(table: LoadedTable): { readonly data: string; readonly metadata: string } {
  const location = textOf(table.metadata, 'location').replace(/\/+$/, '')
  const properties = textMapOf(table.metadata, 'properties')
  const directory = (key: string, name: string) => (properties[key] ?? `${location}/${name}`).replace(/\/+$/, '')
  return { data: directory('write.data.path', 'data'), metadata: directory('write.metadata.path', 'metadata') }
}

function corrupt(code: string, what: string): MoonlinkError {
  return new MoonlinkError('corrupt', code, `${what}.`)
}
