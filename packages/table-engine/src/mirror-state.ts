import { RowBuffer } from '@moonlink/arrow-buffer'
import { assert, type Field, type Lsn, type SegmentId, type TableName, type TableSchema, type TableStorage } from '@moonlink/core'
import { DeletionLog } from '@moonlink/deletion-log'
import { createKeyHasher, MemoryKeyIndex, type KeyHasher } from '@moonlink/pk-index'
import { FileSegment, MemorySegment, type Segment } from './segment.ts'

/** What identifies a row: the key's fields, or every field of a table without a key. */
export interface Identity {
  readonly keyless: boolean
  readonly fields: readonly Field[]
  readonly fieldIds: readonly number[]
  readonly hasher: KeyHasher
}

/**
 * The live state of one mirror: segments, indexes, deletion log. Owned by one `Mirror`, which changes it only under its lock.
 *
 * Invariants: a live row of a memory segment has exactly one entry in the generation its segment belongs to; a live row of a file
 * has one in the file's sealed index; `dead` of a segment is its committed vector plus every log entry that names it.
 */
export class MirrorState {
  readonly table: TableName
  readonly schema: TableSchema
  readonly storage: TableStorage
  readonly appendOnly: boolean
  readonly identity: Identity
  readonly log = new DeletionLog()
  readonly segments = new Map<SegmentId, Segment>()
  /** Names this life of the state; segment ids and sequence numbers mean nothing across incarnations. */
  readonly incarnation: string

  active: MemorySegment
  activeIndex = new MemoryKeyIndex()
  /** The segment a flush is writing, and its keys; null while none is. */
  flushing: MemorySegment | null = null
  flushingIndex: MemoryKeyIndex | null = null
  /** Rows of `active` whose `_row_id` is known once the flush under way has committed: row → row of `flushing`. */
  pendingRowIds = new Map<number, number>()
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

  constructor(table: TableName, schema: TableSchema, storage: TableStorage, appendOnly: boolean, incarnation: string) {
    this.table = table
    this.schema = schema
    this.storage = storage
    this.appendOnly = appendOnly
    this.incarnation = incarnation
    this.identity = identityOf(schema)
    this.active = this.newMemorySegment()
  }

  newSegmentId(): SegmentId {
    return this.nextSegmentId++
  }

  newMemorySegment(): MemorySegment {
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

  /** Bytes held in memory now: rows, indexes, log. */
  get byteSize(): number {
    let size = this.activeIndex.byteSize + (this.flushingIndex?.byteSize ?? 0) + this.log.byteSize
    for (const segment of this.segments.values()) size += segment.byteSize
    return size
  }

  get memoryRows(): number {
    return this.active.buffer.rowCount + (this.flushing?.buffer.rowCount ?? 0)
  }

  /** True where nothing applied waits for an Iceberg commit. */
  get isClean(): boolean {
    return this.firstUncommittedLsn === null && this.openChanges === 0
  }
}

function identityOf(schema: TableSchema): Identity {
  const keyless = schema.identifierFieldIds.length === 0
  const fields = keyless
    ? schema.fields
    : schema.identifierFieldIds.map((id) => {
        const field = schema.fields.find((candidate) => candidate.id === id)
        assert(field !== undefined, 'identifier fields are fields of the schema', { id })
        return field
      })
  return { keyless, fields, fieldIds: fields.map((field) => field.id), hasher: createKeyHasher(fields) }
}
