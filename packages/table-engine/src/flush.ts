import { NO_ROW_ID } from '@moonlink/arrow-buffer'
import {
  assert,
  BatchBuilder,
  conformBatch,
  type ColumnBatch,
  type DataFile,
  type DeletionVector,
  type Lsn,
  type StagedFile,
  type TableSchema,
  type TableShape,
  type TableSnapshot,
} from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import type { Generation } from './generation.ts'
import { keysOf, type Identity } from './identity.ts'
import type { Indexed } from './index-mender.ts'
import type { MirrorState } from './mirror-state.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'
import { movedDeletes, movedSince } from './moved-deletes.ts'
import { FileSegment, rowIdIn, type MemorySegment, type RowBits } from './segment.ts'

/** Rows gathered at a time before other work gets a turn. */
const GATHER_ROWS = 32_768

/** What a flush writes: a prefix of rows and deletes, fixed when it was frozen. A retry writes the same again. */
export interface FrozenFlush {
  readonly generation: Generation
  /** The generation's segments that had live rows, and which of their rows were dead. */
  readonly deadAtFreeze: ReadonlyMap<MemorySegment, RowBits>
  /** Log entries below this are part of the flush. */
  readonly endSeq: number
  readonly lsn: Lsn
  /** The shape that holds at `lsn`. */
  readonly shape: TableShape
  /** End LSNs of the oldest and the newest change that no commit has yet. */
  readonly firstChangeLsn: Lsn
  readonly lastChangeLsn: Lsn
  readonly vectors: readonly { readonly target: FileSegment; readonly vector: DeletionVector }[]
  /** Files written early that have live rows. */
  readonly early: readonly FileSegment[]
  /** Files written early that have none. */
  readonly useless: readonly FileSegment[]
  /** Committed files that a TRUNCATE emptied. */
  readonly removed: readonly FileSegment[]
}

/** A data file that takes the live rows of some segments. */
export interface WrittenFile {
  readonly staged: StagedFile
  /** For each segment: its row → row of the file, or -1 for a row that was dead. */
  readonly newRows: ReadonlyMap<MemorySegment, Int32Array>
}

export interface WrittenFlush {
  readonly files: readonly WrittenFile[]
}

/**
 * Ends the active generation at a transaction's end and starts a new one. Under the mirror's lock, no transaction open. `lsn` must
 * cover every change applied so far.
 */
export function freeze(state: MirrorState, lsn: Lsn): FrozenFlush {
  assert(state.openChanges === 0, 'a flush starts between transactions')
  assert(state.firstUncommittedLsn !== null, 'there is something to flush')
  const { firstUncommittedLsn: firstChangeLsn, lastMarkLsn: lastChangeLsn } = state
  const generation = state.startGeneration()
  const files = [...state.files()]
  const useless = generation.earlyFiles.filter((file) => file.deadFrom !== null || file.deadCount === file.file.recordCount)
  const vectors = files
    .filter((file) => file.deadFrom === null && file.hasUncommittedDeletes && !useless.includes(file))
    .map((file) => ({
      target: file,
      vector: { dataFile: file.file.path, bitmap: file.dead.toPortable(), cardinality: file.dead.cardinality },
    }))
  const live = generation.segments.filter((segment) => segment.deadFrom === null)
  state.firstUncommittedLsn = null
  state.fileDeletes = 0
  return {
    generation,
    deadAtFreeze: new Map(live.map((segment) => [segment, segment.dead.clone()])),
    endSeq: state.log.endSeq,
    lsn,
    shape: state.shape,
    firstChangeLsn,
    lastChangeLsn,
    vectors,
    early: generation.earlyFiles.filter((file) => !useless.includes(file)),
    useless,
    removed: files.filter((file) => file.deadFrom !== null && file.staged === null),
  }
}

/** Writes the live rows of the frozen segments as a data file and its sealed index. Runs beside applying. */
export async function writeFlush(
  state: MirrorState,
  flush: FrozenFlush,
  sealedFiles: SealedFiles,
  stagedFiles: StagedFiles,
): Promise<WrittenFlush> {
  const parts = [...flush.deadAtFreeze].map(([segment, dead]) => livePart(segment, dead)).filter((part) => part.live.length > 0)
  return { files: parts.length === 0 ? [] : [await writeParts(state, flush.shape.schema, parts, sealedFiles, stagedFiles)] }
}

/** Writes rows of segments as one data file of `schema`, theirs or a later one, and its sealed index by the present key. */
export async function writeParts(
  state: MirrorState,
  schema: TableSchema,
  parts: readonly LivePart[],
  sealedFiles: SealedFiles,
  stagedFiles: StagedFiles,
): Promise<WrittenFile> {
  const { identity } = state
  const total = parts.reduce((sum, part) => sum + part.live.length, 0)
  const newRows = new Map<MemorySegment, Int32Array>()
  const builder = new BatchBuilder(schema.fields, total)
  for (const part of parts) {
    newRows.set(part.segment, rowMap(part, builder.length))
    const view = conformBatch(part.segment.buffer.view(), schema.fields)
    for (let from = 0; from < part.live.length; from += GATHER_ROWS) {
      builder.appendGather(view, part.live, from, Math.min(from + GATHER_ROWS, part.live.length))
      await nextTurn()
    }
  }
  const rows = builder.view()
  const rowIds = keptRowIds(parts, total)
  const hashes = state.appendOnly ? null : await hashKeys(identity, rows, total)
  const indexRowIds = rowIdsForIndex(rowIds)
  const staged = await stagedFiles.write((onPath) => state.storage.writeFile({ rows, rowIds, lastUpdated: null }, onPath))
  if (hashes) {
    await sealedFiles.write(staged.path, identity, hashes, indexRowIds).catch((error: unknown) => {
      // Another attempt writes another file.
      stagedFiles.abandon([staged.path])
      throw error
    })
  }
  return { staged, newRows }
}

/** The rows of a segment that were alive. */
export interface LivePart {
  readonly segment: MemorySegment
  readonly rowCount: number
  readonly live: Uint32Array
}

export function livePart(segment: MemorySegment, dead: RowBits): LivePart {
  const { rowCount } = segment.buffer
  const live = new Uint32Array(rowCount - dead.count)
  for (let row = 0, next = 0; row < rowCount; row++) if (!dead.has(row)) live[next++] = row
  return { segment, rowCount, live }
}

function rowMap({ rowCount, live }: LivePart, first: number): Int32Array {
  const map = new Int32Array(rowCount).fill(-1)
  for (let index = 0; index < live.length; index++) map[live[index]] = first + index
  return map
}

/**
 * Puts the committed files in the frozen segments' place. Under the mirror's lock; no await in between. `indexed`: one a file. Throws, with nothing
 * changed, `retry`/`INDEX_UNREADABLE` and `corrupt`/`INDEX_CORRUPT`.
 */
export function adoptFlush(
  state: MirrorState,
  flush: FrozenFlush,
  written: WrittenFlush,
  snapshot: TableSnapshot,
  indexed: readonly Indexed[],
): void {
  const rowIds = replacedRowIds(state, flush, written, snapshot, indexed)
  // From here on nothing is read, so that all of it happens or nothing does.
  for (const { target, vector } of flush.vectors) {
    target.base = vector.bitmap
    target.baseCount = vector.cardinality
  }
  for (const segment of [...flush.generation.segments, ...flush.removed, ...flush.useless]) state.segments.delete(segment.id)
  for (const segment of flush.early) segment.becomeCommitted(committedFile(snapshot, segment.file.path))
  written.files.forEach(({ staged, newRows }, index) => {
    const file = committedFile(snapshot, staged.path)
    const byId = new Map([...newRows].map(([segment, map]) => [segment.id, map]))
    const moved = movedDeletes(state.log, flush.endSeq, byId)
    const segment = new FileSegment(state.newSegmentId(), file, indexed[index].index, null, moved)
    // A TRUNCATE meanwhile emptied all of the sources, or none.
    for (const source of newRows.keys()) segment.deadFrom = source.deadFrom
    state.segments.set(segment.id, segment)
  })
  // What died before is in the vectors now.
  for (const file of state.files()) file.moved = movedSince(file.moved, flush.endSeq)
  for (const { segment, row, rowId } of rowIds) segment.buffer.setRowId(row, rowId)
  for (const segment of state.active.segments) segment.pendingRowIds.clear()
  state.flushing = null
  state.log.prune(flush.endSeq)
  state.pruneShapes(flush.lastChangeLsn)
}

function committedFile(snapshot: TableSnapshot, path: string): DataFile {
  const file = snapshot.files.find((candidate) => candidate.path === path)
  assert(file !== undefined, 'a committed file is in the snapshot', { path })
  return file
}

/** For rows that wait for the flush to know it: the `_row_id` of the row that each replaced. */
function replacedRowIds(
  state: MirrorState,
  { generation }: FrozenFlush,
  { files }: WrittenFlush,
  snapshot: TableSnapshot,
  indexed: readonly Indexed[],
): { readonly segment: MemorySegment; readonly row: number; readonly rowId: number }[] {
  const placed = new Map(
    files.flatMap(({ newRows, staged }, at) => [...newRows].map(([source, map]) => [source, { at, map, staged }] as const)),
  )
  const rowIdOf = ({ segment, row: old }: ReturnType<Generation['placeOf']>): number => {
    if (segment.kind === 'file') return rowIdIn(committedFile(snapshot, segment.file.path), segment.index, old)
    const place = placed.get(segment)
    const row = place?.map[old] ?? -1
    assert(place !== undefined && row >= 0, 'a row replaced during a flush was alive when it was frozen', { segment: segment.id, old })
    return rowIdIn(committedFile(snapshot, place.staged.path), indexed[place.at].index, row)
  }
  return state.active.segments.flatMap((segment) =>
    Array.from(segment.pendingRowIds, ([row, replaced]) => ({ segment, row, rowId: rowIdOf(generation.placeOf(replaced)) })),
  )
}

function keptRowIds(parts: readonly LivePart[], total: number): Float64Array | null {
  if (!parts.some(({ segment }) => segment.buffer.hasRowIds)) return null
  const rowIds = new Float64Array(total)
  let at = 0
  for (const { segment, live } of parts) for (const row of live) rowIds[at++] = segment.buffer.rowIdAt(row)
  return rowIds
}

/** The writer takes over the array it is given, so the index gets a copy; a file that stores no id needs none. */
function rowIdsForIndex(rowIds: Float64Array | null): Float64Array | null {
  return rowIds !== null && rowIds.some((id) => id !== NO_ROW_ID) ? rowIds.slice() : null
}

async function hashKeys(identity: Identity, rows: ColumnBatch, count: number): Promise<KeyHashes> {
  const keys = keysOf(identity, rows)
  const low = new Uint32Array(count)
  const high = new Uint32Array(count)
  for (let from = 0; from < count; from += GATHER_ROWS) {
    const to = Math.min(from + GATHER_ROWS, count)
    const hashes = identity.hasher.hash(keys, from, to)
    low.set(hashes.low.subarray(0, to - from), from)
    high.set(hashes.high.subarray(0, to - from), from)
    await nextTurn()
  }
  return { low, high, length: count }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
