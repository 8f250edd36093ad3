import { assert, type DataFile, type Lsn, type ScannedBatch, type StagedFile, type TableSchema, type TableSnapshot } from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import type { SealedKeyIndex } from '@moonlink/pk-index'
import type { CompactedFile } from './compacted-file.ts'
import type { CompactionLimits, EngineLimits } from './limits.ts'
import type { MirrorState } from './mirror-state.ts'
import { movedDeletes, type MovedDeletes } from './moved-deletes.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'
import { FileSegment } from './segment.ts'

/** What a compaction takes at most, as a share of the memory limit: encoded bytes, and what is kept of each row beside them. */
const MEMORY_SHARE = 1 / 8
/** Hash, `_row_id`, old and new place of a row. */
const ROW_BYTES = 32
/** A file with this share of the rows or bytes that are rewritten at once is not small. */
const SMALL_SHARE = 1 / 4
/** A row group is encoded once its rows take this share of the memory limit. */
const GROUP_SHARE = 1 / 32

/** What is rewritten at once. */
export interface CompactionBounds {
  readonly maxBytes: number
  readonly maxRows: number
  readonly groupBytes: number
}

export function compactionBounds({ compaction, memoryLimitBytes }: EngineLimits): CompactionBounds {
  return {
    maxBytes: Math.min(compaction.maxBytes, memoryLimitBytes * MEMORY_SHARE),
    maxRows: (memoryLimitBytes * MEMORY_SHARE) / ROW_BYTES,
    groupBytes: memoryLimitBytes * GROUP_SHARE,
  }
}

/** The files worth rewriting now: many small ones, or ones mostly dead. Empty where nothing is due. */
export function chooseCompaction(state: MirrorState, limits: CompactionLimits, bounds: CompactionBounds): FileSegment[] {
  if (!limits.enabled) return []
  // What a TRUNCATE emptied goes away by itself.
  const files = [...state.files()].filter((file) => file.deadFrom === null && file.staged === null)
  const dead = files.filter((file) => file.baseCount >= limits.maxDeadRatio * file.file.recordCount && file.baseCount > 0)
  const smallBytes = Math.min(limits.smallFileBytes, bounds.maxBytes * SMALL_SHARE)
  const isSmall = ({ recordCount, sizeBytes }: DataFile) => sizeBytes < smallBytes && recordCount < bounds.maxRows * SMALL_SHARE
  const small = files.filter((file) => isSmall(file.file) && !dead.includes(file))
  const chosen = small.length + dead.length >= limits.minFiles ? [...dead, ...small] : dead
  return withinBounds(chosen, bounds)
}

function withinBounds(files: readonly FileSegment[], { maxBytes, maxRows }: CompactionBounds): FileSegment[] {
  const chosen: FileSegment[] = []
  let bytes = 0
  let rows = 0
  for (const segment of files) {
    const { recordCount, sizeBytes } = segment.file
    if (chosen.length > 0 && (bytes + sizeBytes > maxBytes || rows + recordCount > maxRows)) break
    chosen.push(segment)
    bytes += sizeBytes
    rows += recordCount
  }
  return chosen
}

export interface WrittenCompaction {
  readonly sources: readonly FileSegment[]
  /** Null where every row was dead. */
  readonly staged: StagedFile | null
  /** For each source: its row → row of the new file, or -1. */
  readonly newRows: ReadonlyMap<number, Int32Array>
}

/**
 * Rewrites the live rows of `sources` into `target`, a file of the schema of the snapshot it replaces. Only rows dead in the committed vectors are left out: later
 * deaths belong to LSNs that the snapshot of this commit does not cover, and move along (`adoptCompaction`).
 */
export async function writeCompaction(
  state: MirrorState,
  target: CompactedFile,
  schema: TableSchema,
  sources: readonly FileSegment[],
  sealedFiles: SealedFiles,
  stagedFiles: StagedFiles,
): Promise<WrittenCompaction> {
  const newRows = new Map<number, Int32Array>()
  for (const source of sources) {
    const map = new Int32Array(source.file.recordCount).fill(-1)
    const base = source.base ? PositionSet.fromPortable(source.base) : null
    for await (const scanned of state.storage.scanFile(source.file, schema.fields, { lineage: true })) {
      const live = liveOf(scanned, base)
      for (let index = 0; index < live.length; index++) map[scanned.firstRow + live[index]] = target.recordCount + index
      await target.append(scanned, live)
    }
    base?.dispose()
    newRows.set(source.id, map)
  }
  return { sources, staged: await target.finish(sealedFiles, stagedFiles), newRows }
}

function liveOf({ firstRow, rows }: ScannedBatch, dead: PositionSet | null): Uint32Array {
  const live = new Uint32Array(rows.length)
  let count = 0
  for (let row = 0; row < rows.length; row++) if (!dead?.has(firstRow + row)) live[count++] = row
  return live.subarray(0, count)
}

/** Puts the new file in the place of its sources. Under the mirror's lock; no await in between. */
export function adoptCompaction(
  state: MirrorState,
  written: WrittenCompaction,
  snapshot: TableSnapshot,
  index: SealedKeyIndex | null,
): void {
  if (written.staged) {
    const { path } = written.staged
    const file = snapshot.files.find((candidate) => candidate.path === path)
    assert(file !== undefined, 'a committed file is in the snapshot', { path })
    const segment = new FileSegment(state.newSegmentId(), file, index, null, movedTo(state, written))
    // A TRUNCATE meanwhile emptied all of the sources, or none.
    segment.deadFrom = written.sources[0].deadFrom
    state.segments.set(segment.id, segment)
  }
  for (const source of written.sources) state.segments.delete(source.id)
}

/** Deaths since the last commit: in the log under the sources' ids, or moved to the sources before. */
function movedTo({ log }: MirrorState, { newRows, sources }: WrittenCompaction): MovedDeletes {
  return movedDeletes(log, log.firstSeq, newRows, new Map(sources.map((source) => [source.id, source.moved])))
}

/** LSN that a rewrite's snapshot covers: the same as the snapshot it replaces. */
export function compactionLsn(committedLsn: Lsn | null): Lsn {
  assert(committedLsn !== null, 'only a committed table is compacted')
  return committedLsn
}
