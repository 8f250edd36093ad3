import {
  assert,
  formatLsn,
  randomUuid,
  type Clock,
  type DeletionVector,
  type FileLedger,
  type JsonObject,
  type JsonValue,
  type LoadedTable,
  type Lsn,
  type ObjectStore,
  type Random,
  type TimelineLsn,
} from '@moonlink/core'
import type { CommitRequest } from './storage-parts.ts'
import { encodeManifest, EntryStatus, type ManifestEntry } from '../avro/manifest.ts'
import { encodeManifestList, type ManifestFile } from '../avro/manifest-list.ts'
import {
  SUMMARY_EPOCH,
  SUMMARY_FIRST_CHANGE,
  SUMMARY_LAST_CHANGE,
  SUMMARY_LSN,
  SUMMARY_TIMELINE,
  SUMMARY_TIMELINE_LSN,
  SUMMARY_WRITER,
} from '../metadata/committed-lsn.ts'
import { countOf, longToJson, numberOf } from '../metadata/fields.ts'
import { resolveEntries } from './load-state.ts'
import type { CommitPlan, NewManifest, StagedVector } from './plan-commit.ts'
import type { StagedVectors } from './stage-vectors.ts'
import { summarize } from './summary.ts'
import { directoriesOf, referencedFile, stateOf, type LiveManifest, type TableState } from './table-state.ts'

export interface SnapshotContext {
  readonly store: ObjectStore
  readonly clock: Clock
  readonly random: Random
  readonly ledger: FileLedger | null
  /** Names this open storage in snapshot summaries. */
  readonly writerId: string
  /** Its number among the table's owners; 0 where it never took the table over. */
  readonly epoch: number
}

export interface SnapshotRequest {
  readonly table: LoadedTable
  readonly before: TableState
  readonly commit: CommitRequest
  readonly vectors: readonly StagedVector[]
  readonly plan: CommitPlan
  readonly snapshotId: bigint
  /** Files of the commit that are not written yet: its first attempt does. */
  readonly unwritten: StagedVectors['files']
  /** Paths of files that every attempt of the commit shares. */
  readonly shared: readonly string[]
  /** The schema that the table will have with this snapshot. */
  readonly schema: JsonObject
}

export interface WrittenSnapshot {
  /** For `add-snapshot`. */
  readonly snapshot: JsonObject
  /** The table's state once the snapshot is current. */
  readonly after: TableState
  /** Files written for this attempt alone: manifests and their list. */
  readonly written: readonly string[]
}

/** Writes the manifests and the list of a planned commit, and gives the snapshot to commit. Nothing is visible yet. */
export async function writeSnapshot(context: SnapshotContext, request: SnapshotRequest): Promise<WrittenSnapshot> {
  const { metadata } = request.table
  const sequenceNumber = numberOf(metadata, 'last-sequence-number') + 1
  const directory = directoriesOf(request.table).metadata
  const attemptId = randomUuid(context.random)
  const written: string[] = []
  const manifests: LiveManifest[] = []
  const manifestPath = (index: number) => `${directory}/${attemptId}-m${index}.avro`
  const listPath = `${directory}/snap-${request.snapshotId}-1-${attemptId}.avro`
  const paths = [...request.shared, ...request.plan.added.map((_, index) => manifestPath(index)), listPath]
  await context.ledger?.list({ paths, manifestLists: [listPath] })
  for (const { path, bytes } of request.unwritten) await context.store.put(path, bytes)
  for (const [index, manifest] of request.plan.added.entries()) {
    const path = manifestPath(index)
    const file = await writeManifest(context, request, manifest, path, sequenceNumber)
    written.push(path)
    manifests.push({ file, entries: manifest.entries })
  }
  const firstRowId = countOf(metadata, 'next-row-id')
  const ordered = [...manifests, ...request.plan.kept]
  const assigned = assignRowIds(ordered, firstRowId)
  const listed = ordered.map((manifest, index) => liveManifest(assigned.files[index], manifest, request.plan.kept))
  const after = stateOf(request.snapshotId, listed, request.before, vectorLookup(request))
  const header = { snapshotId: request.snapshotId, parentSnapshotId: request.before.snapshotId, sequenceNumber, firstRowId }
  await context.store.put(listPath, await encodeManifestList(header, assigned.files, context.random.bytes(16)))
  written.push(listPath)
  const summary = {
    ...summarize(request.before, after, request.commit, request.vectors, request.plan),
    ...lsnMarks(request.commit),
    [SUMMARY_WRITER]: context.writerId,
    ...(context.epoch > 0 ? { [SUMMARY_EPOCH]: String(context.epoch) } : {}),
  }
  const snapshot: Record<string, JsonValue> = {
    'snapshot-id': longToJson(request.snapshotId),
    ...(request.before.snapshotId === null ? {} : { 'parent-snapshot-id': longToJson(request.before.snapshotId) }),
    'sequence-number': sequenceNumber,
    // Never before the table's last change, whatever the clock says: readers refuse time that runs backwards.
    'timestamp-ms': Math.max(context.clock.nowMs(), numberOf(metadata, 'last-updated-ms')),
    'manifest-list': listPath,
    summary,
    'schema-id': numberOf(request.schema, 'schema-id'),
    'first-row-id': firstRowId,
    'added-rows': assigned.nextRowId - firstRowId,
  }
  return { snapshot, after, written }
}

function lsnMarks({ lsn, firstChangeLsn, lastChangeLsn, sourceTimeline }: CommitRequest): Record<string, string> {
  return {
    ...(lsn === null ? {} : { [SUMMARY_LSN]: formatLsn(lsn) }),
    ...(firstChangeLsn === undefined ? {} : { [SUMMARY_FIRST_CHANGE]: formatLsn(firstChangeLsn) }),
    ...(lastChangeLsn === undefined ? {} : { [SUMMARY_LAST_CHANGE]: formatLsn(lastChangeLsn) }),
    ...(sourceTimeline === null ? {} : timelineMarks(sourceTimeline, lsn)),
  }
}

function timelineMarks({ lsn, timeline }: TimelineLsn, committed: Lsn | null): Record<string, string> {
  return { [SUMMARY_TIMELINE]: String(timeline), ...(lsn === committed ? {} : { [SUMMARY_TIMELINE_LSN]: formatLsn(lsn) }) }
}

async function writeManifest(
  context: SnapshotContext,
  request: SnapshotRequest,
  manifest: NewManifest,
  path: string,
  sequenceNumber: number,
): Promise<ManifestFile> {
  const partitionSpecId = numberOf(request.table.metadata, 'default-spec-id')
  const header = { content: manifest.content, schema: request.schema, partitionSpecId }
  const bytes = await encodeManifest(header, manifest.entries, context.random.bytes(16))
  await context.store.put(path, bytes)
  return describeManifest(manifest, { path, length: bytes.length, partitionSpecId, sequenceNumber, snapshotId: request.snapshotId })
}

interface ManifestFacts {
  readonly path: string
  readonly length: number
  readonly partitionSpecId: number
  readonly sequenceNumber: number
  readonly snapshotId: bigint
}

function describeManifest(manifest: NewManifest, facts: ManifestFacts): ManifestFile {
  const files = [0, 0, 0]
  const rows = [0, 0, 0]
  let minSequenceNumber = facts.sequenceNumber
  for (const entry of manifest.entries) {
    files[entry.status]++
    rows[entry.status] += entry.file.recordCount
    checkExplicit(entry)
    if (entry.status !== EntryStatus.deleted) minSequenceNumber = Math.min(minSequenceNumber, entry.sequenceNumber ?? facts.sequenceNumber)
  }
  return {
    path: facts.path,
    length: facts.length,
    partitionSpecId: facts.partitionSpecId,
    content: manifest.content,
    sequenceNumber: facts.sequenceNumber,
    minSequenceNumber,
    addedSnapshotId: facts.snapshotId,
    addedFilesCount: files[EntryStatus.added],
    existingFilesCount: files[EntryStatus.existing],
    deletedFilesCount: files[EntryStatus.deleted],
    addedRowsCount: rows[EntryStatus.added],
    existingRowsCount: rows[EntryStatus.existing],
    deletedRowsCount: rows[EntryStatus.deleted],
    firstRowId: null,
  }
}

/** Only ADDED entries may inherit; readers diverge on what the others would. */
function checkExplicit(entry: ManifestEntry): void {
  if (entry.status === EntryStatus.added) return
  const isExplicit = entry.sequenceNumber !== null && entry.fileSequenceNumber !== null && entry.snapshotId !== null
  assert(isExplicit && (entry.file.firstRowId !== null || entry.file.content !== 0), 'EXISTING and DELETED entries are explicit', {
    path: entry.file.path,
  })
}

/** Row lineage per the Iceberg spec ("First Row ID Assignment"): in list order, every data manifest without an id takes its rows' range. */
function assignRowIds(
  manifests: readonly LiveManifest[],
  firstRowId: number,
): { readonly files: readonly ManifestFile[]; readonly nextRowId: number } {
  let nextRowId = firstRowId
  const files = manifests.map(({ file }) => {
    if (file.content === 'deletes' || file.firstRowId !== null) return file
    const assigned = { ...file, firstRowId: nextRowId }
    nextRowId += file.addedRowsCount + file.existingRowsCount
    return assigned
  })
  assert(Number.isSafeInteger(nextRowId), 'row ids stay below 2^53', { nextRowId })
  return { files, nextRowId }
}

function liveManifest(file: ManifestFile, manifest: LiveManifest, kept: readonly LiveManifest[]): LiveManifest {
  return kept.includes(manifest) && file === manifest.file ? manifest : { file, entries: resolveEntries(file, manifest.entries) }
}

/** Vectors of the commit come from the caller, the others are in the state before. */
function vectorLookup(request: SnapshotRequest): (entry: ManifestEntry) => DeletionVector {
  const staged = new Map(request.commit.vectors.map((vector) => [vector.dataFile, vector]))
  return (entry) => {
    const path = referencedFile(entry)
    const vector = staged.get(path) ?? request.before.vectors.get(path)?.vector
    assert(vector !== undefined, 'every vector of a commit is known', { path })
    return vector
  }
}
