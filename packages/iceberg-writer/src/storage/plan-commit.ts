import { MoonlinkError, type StagedFile } from '@moonlink/core'
import { NO_STATS, type EncodedStats } from '../avro/file-stats.ts'
import { EntryStatus, FileContent, type ContentFile, type ManifestContent, type ManifestEntry } from '../avro/manifest.ts'
import { DEFAULT_MANIFEST_LIMITS, type ManifestLimits } from './manifest-limits.ts'
import type { CommitRequest } from './storage-parts.ts'
import type { LiveManifest, TableState } from './table-state.ts'

/** A deletion vector already written to a Puffin file. */
export interface StagedVector {
  readonly dataFile: string
  readonly cardinality: number
  readonly puffinPath: string
  readonly puffinSizeBytes: number
  readonly offset: number
  readonly length: number
}

/** A manifest to write. */
export interface NewManifest {
  readonly content: ManifestContent
  readonly entries: readonly ManifestEntry[]
}

/** What a commit makes of a state: which manifests stay, which are new. */
export interface CommitPlan {
  readonly added: readonly NewManifest[]
  readonly kept: readonly LiveManifest[]
  /** Manifests of the state that are not kept. */
  readonly replacedCount: number
}

/**
 * Plans one commit on a state; pure.
 *
 * Added files get a manifest of their own. A manifest that loses an entry is written again, what it keeps as EXISTING and what it
 * loses as DELETED, with explicit numbers. All touched manifests of one content are written as one, so that update-heavy tables keep
 * a single manifest of vectors. A replaced or orphaned vector leaves in the same commit, so that each data file has at most one.
 */
export function planCommit(
  state: TableState,
  commit: CommitRequest,
  vectors: readonly StagedVector[],
  snapshotId: bigint,
  limits: ManifestLimits = DEFAULT_MANIFEST_LIMITS,
): CommitPlan {
  const removedFiles = new Set(commit.removeFiles)
  checkCommit(state, commit, removedFiles)
  const droppedVectors = new Set([...removedFiles, ...vectors.map((vector) => vector.dataFile)])
  const data = rewrite(state, 'data', (entry) => removedFiles.has(entry.file.path), snapshotId, limits)
  const deletes = rewrite(state, 'deletes', (entry) => droppedVectors.has(entry.file.referencedDataFile!), snapshotId, limits)
  const newFiles = commit.addFiles.map((file) => addedEntry(dataContentFile(file), snapshotId))
  const newVectors = vectors.map((vector) => addedEntry(vectorContentFile(vector), snapshotId))
  const added: NewManifest[] = []
  if (newFiles.length > 0) added.push({ content: 'data', entries: newFiles })
  added.push(...chunk(data.rewritten, limits))
  // Never split: the vectors of one Puffin file have to stay in one manifest, in their order (see `stageVectors`).
  const vectorEntries = [...newVectors, ...deletes.rewritten]
  if (vectorEntries.length > 0) added.push({ content: 'deletes', entries: vectorEntries })
  const kept = [...data.kept, ...deletes.kept]
  return { added, kept, replacedCount: state.manifests.length - kept.length }
}

function checkCommit(state: TableState, commit: CommitRequest, removedFiles: ReadonlySet<string>): void {
  const added = new Set<string>()
  for (const { path } of commit.addFiles) {
    if (state.files.has(path) || added.has(path)) throw invalid('FILE_ALREADY_IN_TABLE', path, 'is in the table already')
    added.add(path)
  }
  for (const path of removedFiles) if (!state.files.has(path)) throw invalid('FILE_NOT_IN_TABLE', path, 'is not in the table')
  const seen = new Set<string>()
  for (const { dataFile } of commit.vectors) {
    const isThere = added.has(dataFile) || (state.files.has(dataFile) && !removedFiles.has(dataFile))
    if (!isThere) throw invalid('FILE_NOT_IN_TABLE', dataFile, 'has a deletion vector but is not in the table')
    if (seen.has(dataFile)) throw invalid('VECTORS_TWICE', dataFile, 'has two deletion vectors in one commit')
    seen.add(dataFile)
  }
}

interface Rewrite {
  readonly kept: readonly LiveManifest[]
  readonly rewritten: readonly ManifestEntry[]
}

/** Sorts a content's manifests into those kept and the entries of those written again. */
function rewrite(
  state: TableState,
  content: ManifestContent,
  leaves: (entry: ManifestEntry) => boolean,
  snapshotId: bigint,
  limits: ManifestLimits,
): Rewrite {
  const live = state.manifests.filter((manifest) => manifest.file.content === content && manifest.entries.length > 0)
  const untouched = live.filter((manifest) => !manifest.entries.some(leaves))
  const small = untouched.filter((manifest) => manifest.file.length < limits.smallBytes)
  const merged = new Set(small.length >= limits.mergeFrom ? small : [])
  const kept = untouched.filter((manifest) => !merged.has(manifest))
  const keptSet = new Set(kept)
  const rewritten: ManifestEntry[] = []
  for (const manifest of live) {
    if (keptSet.has(manifest)) continue
    for (const entry of manifest.entries) {
      rewritten.push(leaves(entry) ? { ...entry, status: EntryStatus.deleted, snapshotId } : { ...entry, status: EntryStatus.existing })
    }
  }
  return { kept, rewritten }
}

/** Manifests of data files, none much above the target size. */
function chunk(entries: readonly ManifestEntry[], limits: ManifestLimits): NewManifest[] {
  const manifests: NewManifest[] = []
  let from = 0
  let bytes = 0
  for (let index = 0; index < entries.length; index++) {
    const { file } = entries[index]
    bytes += file.stats.length + file.path.length + (file.referencedDataFile?.length ?? 0) + 32
    if (bytes >= limits.targetBytes || index === entries.length - 1) {
      manifests.push({ content: 'data', entries: entries.slice(from, index + 1) })
      from = index + 1
      bytes = 0
    }
  }
  return manifests
}

function addedEntry(file: ContentFile, snapshotId: bigint): ManifestEntry {
  return { status: EntryStatus.added, snapshotId, sequenceNumber: null, fileSequenceNumber: null, file }
}

function dataContentFile(file: StagedFile): ContentFile {
  return {
    content: FileContent.data,
    path: file.path,
    format: 'PARQUET',
    recordCount: file.recordCount,
    sizeBytes: file.sizeBytes,
    stats: file.metrics as EncodedStats,
    firstRowId: null,
    referencedDataFile: null,
    contentOffset: null,
    contentSizeBytes: null,
  }
}

function vectorContentFile(vector: StagedVector): ContentFile {
  return {
    content: FileContent.positionDeletes,
    path: vector.puffinPath,
    format: 'PUFFIN',
    recordCount: vector.cardinality,
    sizeBytes: vector.puffinSizeBytes,
    stats: NO_STATS,
    firstRowId: null,
    referencedDataFile: vector.dataFile,
    contentOffset: vector.offset,
    contentSizeBytes: vector.length,
  }
}

function invalid(code: string, path: string, why: string): MoonlinkError {
  return new MoonlinkError('invalid', code, `data file ${path} ${why}.`, { context: { path } })
}
