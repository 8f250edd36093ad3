import { assert, BatchBuilder, type Lsn, type StagedFile, type TableSchema, type TableSnapshot } from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import type { SealedKeyIndex } from '@moonlink/pk-index'
import { keysOf } from './identity.ts'
import type { CompactionLimits } from './limits.ts'
import type { MirrorState } from './mirror-state.ts'
import { movedDeletes, type MovedDeletes } from './moved-deletes.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'
import { FileSegment } from './segment.ts'

/** The files worth rewriting now: many small ones, or ones mostly dead. Empty where nothing is due. */
export function chooseCompaction(state: MirrorState, limits: CompactionLimits): FileSegment[] {
  if (!limits.enabled) return []
  // What a TRUNCATE emptied goes away by itself.
  const files = [...state.files()].filter((file) => file.deadFrom === null && file.staged === null)
  const dead = files.filter((file) => file.baseCount >= limits.maxDeadRatio * file.file.recordCount && file.baseCount > 0)
  const small = files.filter((file) => file.file.sizeBytes < limits.smallFileBytes && !dead.includes(file))
  const chosen = small.length + dead.length >= limits.minFiles ? [...dead, ...small] : dead
  return withinBytes(chosen, limits.maxBytes)
}

function withinBytes(files: readonly FileSegment[], maxBytes: number): FileSegment[] {
  const chosen: FileSegment[] = []
  let bytes = 0
  for (const file of files) {
    if (chosen.length > 0 && bytes + file.file.sizeBytes > maxBytes) break
    chosen.push(file)
    bytes += file.file.sizeBytes
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
 * Rewrites the live rows of `sources` into one file of `schema`, which has to be that of the snapshot it replaces, lineage kept. Only rows dead in the committed vectors are left out: later
 * deaths belong to LSNs that the snapshot of this commit does not cover, and move along (`adoptCompaction`).
 */
export async function writeCompaction(
  state: MirrorState,
  schema: TableSchema,
  sources: readonly FileSegment[],
  sealedFiles: SealedFiles,
  stagedFiles: StagedFiles,
): Promise<WrittenCompaction> {
  const builder = new BatchBuilder(schema.fields)
  const rowIds: number[] = []
  const lastUpdated: number[] = []
  const newRows = new Map<number, Int32Array>()
  for (const source of sources) {
    const map = new Int32Array(source.file.recordCount).fill(-1)
    const base = source.base ? PositionSet.fromPortable(source.base) : null
    for await (const scanned of state.storage.scanFile(source.file, schema.fields, { lineage: true })) {
      const live: number[] = []
      for (let row = 0; row < scanned.rows.length; row++) {
        const place = scanned.firstRow + row
        if (base?.has(place)) continue
        map[place] = builder.length + live.length
        live.push(row)
        rowIds.push(scanned.rowIds![row])
        lastUpdated.push(scanned.lastUpdated![row])
      }
      builder.appendGather(scanned.rows, Uint32Array.from(live))
    }
    base?.dispose()
    newRows.set(source.id, map)
  }
  if (rowIds.length === 0) return { sources, staged: null, newRows }
  const rows = builder.view()
  const { identity } = state
  const hashes = state.appendOnly ? null : identity.hasher.hash(keysOf(identity, rows), 0, rows.length)
  const indexRowIds = Float64Array.from(rowIds)
  const lineage = { rowIds: Float64Array.from(rowIds), lastUpdated: Float64Array.from(lastUpdated) }
  const staged = await stagedFiles.write((onPath) => state.storage.writeFile({ rows, ...lineage }, onPath))
  if (hashes) await sealedFiles.write(staged.path, identity, hashes, indexRowIds)
  return { sources, staged, newRows }
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
