import { RowBuffer } from '@moonlink/arrow-buffer'
import { assert, type Lsn, type SegmentId, type TableName, type TableSchema, type TableShape, type TableStorage } from '@moonlink/core'
import { DeletionLog } from '@moonlink/deletion-log'
import { Generation } from './generation.ts'
import { identityOf, type Identity } from './identity.ts'
import type { IndexMender } from './index-mender.ts'
import { OldValues } from './old-values.ts'
import type { PatientReads } from './patient-reads.ts'
import { FileSegment, MemorySegment, TransactionEnd, type Segment } from './segment.ts'

/** A shape of the table, and the end of the transaction that brought it; null for the one that the state began with. */
interface ShapePeriod {
  readonly shape: TableShape
  readonly from: TransactionEnd | null
}

/**
 * The live state of one mirror: segments, indexes, deletion log. Owned by one `Mirror`, which changes it only under its lock.
 *
 * Invariants: a live row has exactly one entry in the index of its segment, whether in memory or sealed; `dead` of a segment is its
 * committed vector plus every log entry that names it; a segment with `deadFrom` has no live row, and no look-up asks it.
 */
export class MirrorState {
  readonly table: TableName
  readonly storage: TableStorage
  /** Of data files, for changes that are being applied. */
  readonly reads: PatientReads
  readonly mender: IndexMender
  readonly appendOnly: boolean
  /** Of rows of the present shape; every key index goes by it. */
  identity: Identity
  readonly log = new DeletionLog()
  readonly oldValues: OldValues
  readonly segments = new Map<SegmentId, Segment>()
  /** Names this life of the state; segment ids and sequence numbers mean nothing across incarnations. */
  readonly incarnation: string

  /** Takes the changes. */
  active: Generation
  /** What a flush is writing; null while none is. */
  flushing: Generation | null = null
  /** LSN of the oldest change that no Iceberg commit covers; null where every change is covered. */
  firstUncommittedLsn: Lsn | null = null
  lastMarkLsn: Lsn = 0n
  lastCommitTimeMs: number | null = null
  /** Changes applied since the last mark: more than 0 while a transaction is open here. */
  openChanges = 0
  /** Deletes of rows in files since the last flush. */
  fileDeletes = 0
  /** Live rows, the open transaction's included. */
  liveRows = 0
  private nextSegmentId = 1
  /** Shapes that a held LSN or the open transaction has, oldest first. */
  private shapes: ShapePeriod[]
  /** The end of the open transaction, where a segment depends on it. */
  private openEnd: TransactionEnd | null = null

  constructor(
    table: TableName,
    shape: TableShape,
    storage: TableStorage,
    reads: PatientReads,
    mender: IndexMender,
    appendOnly: boolean,
    incarnation: string,
    oldValueBytes: number,
  ) {
    this.oldValues = new OldValues(oldValueBytes)
    this.table = table
    this.shapes = [{ shape, from: null }]
    this.storage = storage
    this.reads = reads
    this.mender = mender
    this.appendOnly = appendOnly
    this.incarnation = incarnation
    this.identity = identityOf(shape.schema)
    this.active = new Generation(this.newMemorySegment())
  }

  /** The shape of the rows that come next. */
  get shape(): TableShape {
    return this.shapes[this.shapes.length - 1].shape
  }

  get schema(): TableSchema {
    return this.shape.schema
  }

  /** The shape that a read at `lsn` shows, which is held. */
  shapeAt(lsn: Lsn): TableShape {
    return this.shapes.findLast(({ from }) => from === null || from.isAtOrBefore(lsn))!.shape
  }

  /** Within the open transaction: rows that come next have this shape. The key indexes are the caller's business. */
  startShape(shape: TableShape): void {
    this.shapes.push({ shape, from: this.endOfOpenTransaction() })
    const { tail } = this
    this.startSegment()
    if (tail.buffer.rowCount === 0) this.drop(tail)
    this.openChanges++
  }

  /** Forgets shapes that no LSN from `floor` on shows. */
  pruneShapes(floor: Lsn): void {
    const first = this.shapes.findLastIndex(({ from }) => from === null || from.isAtOrBefore(floor))
    this.shapes = this.shapes.slice(first)
  }

  newSegmentId(): SegmentId {
    return this.nextSegmentId++
  }

  /** The segment that grows. */
  get tail(): MemorySegment {
    return this.active.tail
  }

  /** Ends the growing segment; later rows go to a new one. */
  startSegment(): MemorySegment {
    const segment = this.newMemorySegment()
    this.active.segments.push(segment)
    return segment
  }

  /** Freezes the active generation, between two transactions. */
  startGeneration(): Generation {
    assert(this.flushing === null, 'one flush at a time')
    this.flushing = this.active
    this.active = new Generation(this.newMemorySegment())
    return this.flushing
  }

  /** Where the open transaction will end. */
  endOfOpenTransaction(): TransactionEnd {
    this.openEnd ??= new TransactionEnd()
    return this.openEnd
  }

  /** The open transaction ends: its deaths, and what depends on its end, count from `endLsn` on. Its rows in the tail are marked apart. */
  endTransaction(endLsn: Lsn): void {
    this.log.mark(endLsn)
    // Rows of a segment that ended within the transaction wait for no other mark.
    for (const segment of this.active.segments) if (segment !== this.tail && segment.deadFrom === null) segment.buffer.mark(endLsn)
    if (this.openEnd === null) return
    this.openEnd.lsn = endLsn
    this.openEnd = null
  }

  /** TRUNCATE, within the open transaction: every row so far dies at its end. */
  truncate(): void {
    const end = this.endOfOpenTransaction()
    if (this.tail.buffer.rowCount > 0) this.startSegment()
    for (const segment of this.segments.values()) {
      if (segment.deadFrom !== null || segment === this.tail) continue
      segment.deadFrom = end
      if (segment.kind === 'file') continue
      segment.index.clear()
      segment.pendingRowIds.clear()
      // Rows of the open transaction alone: nobody ever sees them.
      if (segment.buffer.markedRowCount === 0 && this.active.segments.includes(segment)) this.drop(segment)
    }
    this.liveRows = 0
    this.openChanges++
  }

  /** The file has the rows of a segment of the active generation, of a transaction that was open when it was begun. */
  replaceByEarlyFile(segment: MemorySegment, file: FileSegment): void {
    this.drop(segment)
    this.active.earlyFiles.push(file)
    this.segments.set(file.id, file)
  }

  private drop(segment: MemorySegment): void {
    const at = this.active.segments.indexOf(segment)
    assert(at >= 0, 'only the active generation loses a segment', { segment: segment.id })
    this.segments.delete(segment.id)
    this.active.segments.splice(at, 1)
  }

  private newMemorySegment(): MemorySegment {
    const segment = new MemorySegment(this.newSegmentId(), new RowBuffer(this.schema.fields))
    this.segments.set(segment.id, segment)
    return segment
  }

  segment(id: SegmentId): Segment {
    const segment = this.segments.get(id)
    assert(segment !== undefined, 'a place names a known segment', { id })
    return segment
  }

  *files(): Iterable<FileSegment> {
    for (const segment of this.segments.values()) if (segment.kind === 'file') yield segment
  }

  *memory(): Iterable<MemorySegment> {
    for (const segment of this.segments.values()) if (segment.kind === 'memory') yield segment
  }

  /** Segments in memory where a live row may be, the newest first. */
  liveMemory(): MemorySegment[] {
    const live = [...(this.flushing?.segments ?? []), ...this.active.segments].filter((segment) => segment.deadFrom === null)
    return live.reverse()
  }

  /** Bytes held in memory now: rows, indexes, log. */
  get byteSize(): number {
    let size = this.log.byteSize + this.oldValues.byteSize
    for (const segment of this.segments.values()) size += segment.byteSize
    return size
  }

  /** Bytes of what no Iceberg commit has yet. */
  get changeBytes(): number {
    let size = this.log.byteSize
    for (const segment of this.memory()) size += segment.byteSize
    return size
  }

  get memoryRows(): number {
    return this.active.rowCount + (this.flushing?.rowCount ?? 0)
  }

  /** True where nothing applied waits for an Iceberg commit. */
  get isClean(): boolean {
    return this.firstUncommittedLsn === null && this.openChanges === 0
  }
}
