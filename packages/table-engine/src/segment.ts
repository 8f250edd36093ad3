import { NO_ROW_ID, type RowBuffer } from '@moonlink/arrow-buffer'
import type { DataFile, Lsn, SegmentId, StagedFile } from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import { MemoryKeyIndex, type SealedKeyIndex } from '@moonlink/pk-index'
import { movedBytes, NOTHING_MOVED, type MovedDeletes } from './moved-deletes.ts'

const MAX_DEAD_FRONTS = 4096

/** The end of a transaction that was open when a segment came to depend on it. `lsn` is null until that transaction ends. */
export class TransactionEnd {
  lsn: Lsn | null = null

  isAtOrBefore(lsn: Lsn): boolean {
    return this.lsn !== null && this.lsn <= lsn
  }
}

/** Rows in memory, in commit order. Only the last segment of the active generation grows. */
export class MemorySegment {
  readonly kind = 'memory'
  readonly id: SegmentId
  readonly buffer: RowBuffer
  /** The keys of its live rows. */
  index = new MemoryKeyIndex()
  /** Every dead row, those of an open transaction included. */
  readonly dead = new RowBits()
  /** Rows whose `_row_id` is known once the flush under way has committed: row → the row replaced, as `Generation.numberOf` has it. */
  readonly pendingRowIds = new Map<number, number>()
  /** The TRUNCATE that emptied it: nobody sees the segment from that transaction's end on. */
  deadFrom: TransactionEnd | null = null

  constructor(id: SegmentId, buffer: RowBuffer) {
    this.id = id
    this.buffer = buffer
  }

  isDead(row: number): boolean {
    return this.dead.has(row)
  }

  kill(row: number): void {
    this.dead.add(row)
  }

  get deadCount(): number {
    return this.dead.count
  }

  get byteSize(): number {
    return this.buffer.byteSize + this.index.byteSize + this.dead.byteSize
  }
}

/** A data file of the Iceberg table, or one that was written before its transaction ended and that the next flush commits. */
export class FileSegment {
  readonly kind = 'file'
  readonly id: SegmentId
  file: DataFile
  /** What to commit; null once that is done. */
  staged: StagedFile | null = null
  /** Where `staged`: nobody sees the segment before this. */
  visibleFrom: TransactionEnd | null = null
  index: SealedKeyIndex | null
  /** Every dead row, those not committed yet included. */
  readonly dead: PositionSet
  /** Deaths that no committed vector has. Replaced, never written to. */
  moved: MovedDeletes
  /** The committed deletion vector, portable Roaring bytes; null where no row is dead. Replaced, never written to. */
  base: Uint8Array | null
  baseCount: number
  /** The TRUNCATE that emptied it: nobody sees the segment from that transaction's end on, and the next flush removes the file. */
  deadFrom: TransactionEnd | null = null
  /** Hash → how many of its first candidates are known to be dead, where those are many. */
  private readonly deadAtFront = new Map<string, number>()

  constructor(id: SegmentId, file: DataFile, index: SealedKeyIndex | null, base: Uint8Array | null, moved: MovedDeletes = NOTHING_MOVED) {
    this.id = id
    this.file = file
    this.index = index
    this.base = base
    this.dead = base ? PositionSet.fromPortable(base) : new PositionSet()
    this.baseCount = this.dead.cardinality
    this.moved = moved
    if (moved.rows.length > 0) this.dead.addMany(moved.rows)
  }

  isDead(row: number): boolean {
    return this.dead.has(row)
  }

  kill(row: number): void {
    this.dead.add(row)
  }

  /** How many of the index' first candidates for a hash may be passed over. */
  deadCandidates(low: number, high: number): number {
    return this.deadAtFront.size === 0 ? 0 : (this.deadAtFront.get(`${high} ${low}`) ?? 0)
  }

  noteDeadCandidates(low: number, high: number, count: number): void {
    if (this.deadAtFront.size >= MAX_DEAD_FRONTS) this.deadAtFront.clear()
    this.deadAtFront.set(`${high} ${low}`, count)
  }

  get deadCount(): number {
    return this.dead.cardinality
  }

  /** True where some rows died that the committed vector does not have. */
  get hasUncommittedDeletes(): boolean {
    return this.dead.cardinality > this.baseCount
  }

  get byteSize(): number {
    return (this.index?.byteSize ?? 0) + this.dead.byteSize + (this.base?.byteLength ?? 0) + movedBytes(this.moved)
  }

  /** Iceberg has the file now. */
  becomeCommitted(file: DataFile): void {
    this.file = file
    this.staged = null
    this.visibleFrom = null
  }

  /** `_row_id` of a row of this file; `NO_ROW_ID` where Iceberg has not given it one yet. */
  rowIdAt(row: number): number {
    if (this.staged === null) return rowIdIn(this.file, this.index, row)
    return this.index?.rowIdAt(row) ?? NO_ROW_ID
  }
}

/** `_row_id` of a row of a committed file. */
export function rowIdIn(file: DataFile, index: SealedKeyIndex | null, row: number): number {
  const stored = index?.rowIdAt(row) ?? NO_ROW_ID
  return stored >= 0 ? stored : file.firstRowId + row
}

export type Segment = MemorySegment | FileSegment

/** A growing bitmap over the rows of one memory segment. */
export class RowBits {
  private bits = new Uint8Array(128)
  count = 0

  has(row: number): boolean {
    const at = row >> 3
    return at < this.bits.length && ((this.bits[at] >> (row & 7)) & 1) === 1
  }

  add(row: number): void {
    const at = row >> 3
    if (at >= this.bits.length) this.grow(at + 1)
    if ((this.bits[at] >> (row & 7)) & 1) return
    this.bits[at] |= 1 << (row & 7)
    this.count++
  }

  /** A copy that later changes do not touch. */
  clone(): RowBits {
    const copy = new RowBits()
    copy.bits = this.bits.slice()
    copy.count = this.count
    return copy
  }

  get byteSize(): number {
    return this.bits.byteLength
  }

  private grow(needed: number): void {
    const grown = new Uint8Array(Math.max(needed, this.bits.length * 2))
    grown.set(this.bits)
    this.bits = grown
  }
}
