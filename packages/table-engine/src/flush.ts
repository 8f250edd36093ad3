import { NO_ROW_ID } from '@moonlink/arrow-buffer'
import { assert, BatchBuilder, selectFields, type DeletionVector, type Lsn, type StagedFile, type TableSnapshot } from '@moonlink/core'
import { MemoryKeyIndex, type KeyHashes, type SealedKeyIndex } from '@moonlink/pk-index'
import type { MirrorState } from './mirror-state.ts'
import type { SealedFiles } from './sealed-files.ts'
import { FileSegment, NOTHING_MOVED, type MemorySegment, type MovedDeletes, type RowBits } from './segment.ts'

/** Rows gathered at a time before other work gets a turn. */
const GATHER_ROWS = 32_768

/** What a flush writes: a prefix of rows and deletes, fixed when it was frozen. A retry writes the same again. */
export interface FrozenFlush {
  readonly segment: MemorySegment
  readonly deadAtFreeze: RowBits
  /** Log entries below this are part of the flush. */
  readonly endSeq: number
  readonly lsn: Lsn
  readonly vectors: readonly { readonly target: FileSegment; readonly vector: DeletionVector }[]
}

export interface WrittenFlush {
  readonly staged: StagedFile | null
  /** Row of the frozen segment → row of the file, or -1 for a row that was dead. */
  readonly newRows: Int32Array
}

/**
 * Ends the active segment at a transaction's end and starts a new one. Under the mirror's lock, no transaction open. `lsn` must
 * cover every change applied so far.
 */
export function freeze(state: MirrorState, lsn: Lsn): FrozenFlush {
  assert(state.openChanges === 0, 'a flush starts between transactions')
  assert(state.flushing === null, 'one flush at a time')
  const segment = state.active
  const vectors = [...state.files()]
    .filter((file) => file.hasUncommittedDeletes)
    .map((file) => ({
      target: file,
      vector: { dataFile: file.file.path, bitmap: file.dead.toPortable(), cardinality: file.dead.cardinality },
    }))
  state.flushing = segment
  state.flushingIndex = state.activeIndex
  state.active = state.newMemorySegment()
  state.activeIndex = new MemoryKeyIndex()
  state.firstUncommittedLsn = null
  state.fileDeletes = 0
  return { segment, deadAtFreeze: segment.dead.clone(), endSeq: state.log.endSeq, lsn, vectors }
}

/** Writes the live rows of the frozen segment as a data file and its sealed index. Runs beside applying. */
export async function writeFlush(state: MirrorState, flush: FrozenFlush, sealedFiles: SealedFiles): Promise<WrittenFlush> {
  const rows = flush.segment.buffer.rowCount
  const newRows = new Int32Array(rows).fill(-1)
  const live = new Uint32Array(rows - flush.deadAtFreeze.count)
  for (let row = 0, next = 0; row < rows; row++) {
    if (flush.deadAtFreeze.has(row)) continue
    live[next] = row
    newRows[row] = next++
  }
  if (live.length === 0) return { staged: null, newRows }
  const view = flush.segment.buffer.view()
  const builder = new BatchBuilder(state.schema.fields, live.length)
  for (let from = 0; from < live.length; from += GATHER_ROWS) {
    builder.appendGather(view, live, from, Math.min(from + GATHER_ROWS, live.length))
    await nextTurn()
  }
  const gathered = builder.view()
  const rowIds = flush.segment.buffer.hasRowIds ? keptRowIds(flush.segment, live) : null
  const hashes = state.appendOnly ? null : await hashKeys(state, selectFields(gathered, state.identity.fieldIds), live.length)
  const indexRowIds = rowIdsForIndex(rowIds)
  const staged = await state.storage.writeFile({ rows: gathered, rowIds, lastUpdated: null })
  if (hashes) await sealedFiles.write(staged.path, hashes, indexRowIds)
  return { staged, newRows }
}

/** Puts the committed file in the frozen segment's place. Under the mirror's lock; no await in between. */
export function adoptFlush(
  state: MirrorState,
  flush: FrozenFlush,
  written: WrittenFlush,
  snapshot: TableSnapshot,
  index: SealedKeyIndex | null,
): void {
  for (const { target, vector } of flush.vectors) {
    target.base = vector.bitmap
    target.baseCount = vector.cardinality
  }
  state.segments.delete(flush.segment.id)
  if (written.staged) {
    const { path } = written.staged
    const file = snapshot.files.find((candidate) => candidate.path === path)
    assert(file !== undefined, 'a committed file is in the snapshot', { path })
    const moved = movedDeletes(state, flush.endSeq, (segment, row) => (segment === flush.segment.id ? written.newRows[row] : -1))
    const segment = new FileSegment(state.newSegmentId(), file, index, null, moved)
    state.segments.set(segment.id, segment)
    resolveRowIds(state, flush, written, segment)
  }
  assert(written.staged !== null || state.pendingRowIds.size === 0, 'rows that wait for a row id wait for a written row')
  state.pendingRowIds.clear()
  state.flushing = null
  state.flushingIndex = null
  state.log.prune(flush.endSeq)
}

/** Rows that wait for the flush to know the `_row_id` of the row they replaced. */
function resolveRowIds(state: MirrorState, flush: FrozenFlush, written: WrittenFlush, segment: FileSegment): void {
  for (const [row, replaced] of state.pendingRowIds) {
    const newRow = written.newRows[replaced]
    assert(newRow >= 0, 'a row replaced during a flush was alive when it was frozen', { segment: flush.segment.id, replaced })
    state.active.buffer.setRowId(row, segment.rowIdAt(newRow))
  }
}

/** Log entries from `fromSeq` whose place moves: `newRow` gives the row in the new segment, or -1 where the entry is not of it. */
export function movedDeletes(state: MirrorState, fromSeq: number, newRow: (segment: number, row: number) => number): MovedDeletes {
  const { segments, rows } = state.log.entries(fromSeq, state.log.endSeq)
  const movedRows: number[] = []
  const movedSeqs: number[] = []
  for (let index = 0; index < segments.length; index++) {
    const row = newRow(segments[index], rows[index])
    if (row < 0) continue
    movedRows.push(row)
    movedSeqs.push(fromSeq + index)
  }
  return movedRows.length === 0 ? NOTHING_MOVED : { rows: Uint32Array.from(movedRows), seqs: Float64Array.from(movedSeqs) }
}

function keptRowIds(segment: MemorySegment, live: Uint32Array): Float64Array {
  const rowIds = new Float64Array(live.length)
  for (let index = 0; index < live.length; index++) rowIds[index] = segment.buffer.rowIdAt(live[index])
  return rowIds
}

/** The writer takes over the array it is given, so the index gets a copy; a file that stores no id needs none. */
function rowIdsForIndex(rowIds: Float64Array | null): Float64Array | null {
  return rowIds !== null && rowIds.some((id) => id !== NO_ROW_ID) ? rowIds.slice() : null
}

async function hashKeys(state: MirrorState, keys: ReturnType<typeof selectFields>, count: number): Promise<KeyHashes> {
  const low = new Uint32Array(count)
  const high = new Uint32Array(count)
  for (let from = 0; from < count; from += GATHER_ROWS) {
    const to = Math.min(from + GATHER_ROWS, count)
    const hashes = state.identity.hasher.hash(keys, from, to)
    low.set(hashes.low.subarray(0, to - from), from)
    high.set(hashes.high.subarray(0, to - from), from)
    await nextTurn()
  }
  return { low, high, length: count }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
