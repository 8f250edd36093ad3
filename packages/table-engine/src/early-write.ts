import type { StagedFile, TableSchema } from '@moonlink/core'
import type { SealedKeyIndex } from '@moonlink/pk-index'
import { livePart, writeParts, type WrittenFile } from './flush.ts'
import type { Identity } from './identity.ts'
import type { MirrorState } from './mirror-state.ts'
import { movedDeletes } from './moved-deletes.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'
import { FileSegment, type MemorySegment, type RowBits, type TransactionEnd } from './segment.ts'

/** A segment of the open transaction that is written before that ends, so that the transaction need not fit into memory. */
export interface EarlyWrite {
  readonly segment: MemorySegment
  readonly deadAtStart: RowBits
  /** Log entries below this are part of what is written. */
  readonly startSeq: number
  readonly end: TransactionEnd
  readonly schema: TableSchema
  /** What its sealed index goes by. */
  readonly identity: Identity
}

/** How large what belongs to an open transaction gets before something is done about it; bytes of rows. */
export interface EarlyWriteSizes {
  /** From here on, an open transaction gets a segment of its own. */
  readonly ownSegment: number
  /** A segment of an open transaction ends here, to become a file. */
  readonly fullSegment: number
  /** A smaller segment is not worth a file. */
  readonly leastSegment: number
}

export function earlyWriteSizes(earlyFileBytes: number): EarlyWriteSizes {
  return { ownSegment: earlyFileBytes / 2, fullSegment: earlyFileBytes, leastSegment: earlyFileBytes / 8 }
}

/** Before more of an open transaction is applied: keeps its rows apart from those before it, in segments that can become files. */
export function cutOpenSegment(state: MirrorState, sizes: EarlyWriteSizes): void {
  if (state.openChanges === 0) return
  const { buffer } = state.tail
  const openRows = buffer.rowCount - buffer.markedRowCount
  const openBytes = openRows === 0 ? 0 : (buffer.usedBytes / buffer.rowCount) * openRows
  if (openBytes >= (openRows === buffer.rowCount ? sizes.fullSegment : sizes.ownSegment)) state.startSegment()
}

/**
 * Chooses what to write; null where the open transaction, if there is one, has nothing of `leastBytes`: what comes next of it can be written in any case then. Under the mirror's
 * lock.
 */
export function beginEarlyWrite(state: MirrorState, leastBytes: number): EarlyWrite | null {
  if (state.openChanges === 0) return null
  const [segment] = state.active.segments
    // A row that waits for its row id can't be written yet.
    .filter(({ buffer, deadFrom, pendingRowIds }) => deadFrom === null && buffer.markedRowCount === 0 && pendingRowIds.size === 0)
    .filter(({ buffer, dead }) => buffer.usedBytes >= leastBytes && buffer.rowCount > dead.count)
    .sort((a, b) => b.buffer.usedBytes - a.buffer.usedBytes)
  if (segment === undefined) {
    const { markedRowCount, rowCount } = state.tail.buffer
    if (markedRowCount > 0 && rowCount > markedRowCount) state.startSegment()
    return null
  }
  if (segment === state.tail) state.startSegment()
  const { identity, schema } = state
  return { segment, deadAtStart: segment.dead.clone(), startSeq: state.log.endSeq, end: state.endOfOpenTransaction(), schema, identity }
}

/** Writes the segment's live rows as a data file and its sealed index. Runs beside applying. */
export async function writeEarly(
  state: MirrorState,
  early: EarlyWrite,
  sealedFiles: SealedFiles,
  stagedFiles: StagedFiles,
): Promise<WrittenFile> {
  return writeParts(state, early.schema, [livePart(early.segment, early.deadAtStart)], sealedFiles, stagedFiles)
}

/**
 * Puts the file in the segment's place, in no snapshot yet. Under the mirror's lock; no await in between. False where nobody needs it
 * any more: the segment is gone, or a flush takes it, or rows are identified otherwise now.
 */
export function adoptEarly(state: MirrorState, early: EarlyWrite, { staged, newRows }: WrittenFile, index: SealedKeyIndex | null): boolean {
  const { segment } = early
  if (!state.active.segments.includes(segment) || state.identity.fingerprint !== early.identity.fingerprint) return false
  const map = newRows.get(segment)!
  const moved = movedDeletes(state.log, early.startSeq, new Map([[segment.id, map]]))
  const file = new FileSegment(state.newSegmentId(), uncommitted(staged), index, null, moved)
  file.staged = staged
  file.visibleFrom = early.end
  file.deadFrom = segment.deadFrom
  state.replaceByEarlyFile(segment, file)
  return true
}

/** A data file that Iceberg has not numbered yet. */
function uncommitted({ path, recordCount, sizeBytes }: StagedFile) {
  return { path, recordCount, sizeBytes, firstRowId: -1, dataSequenceNumber: -1 }
}
