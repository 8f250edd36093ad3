import type { ColumnBatch, Lsn, SegmentId, TableName, TableSchema } from '@moonlink/core'

/** A data file to read. */
export interface FileScan {
  readonly segment: SegmentId
  /** Absolute URI. */
  readonly path: string
  readonly sizeBytes: number
  readonly recordCount: number
  /** False only where no row of the file is dead at the plan's LSN; true means some may be. */
  readonly hasDeletes: boolean
}

/** Rows in memory to read: the first `rowCount` rows of `rows`. */
export interface MemoryScan {
  readonly segment: SegmentId
  readonly rows: ColumnBatch
  readonly rowCount: number
  readonly hasDeletes: boolean
}

/** Places that died, as parallel arrays that must not be written to. */
export interface DeathChunk {
  readonly firstSeq: number
  readonly segments: Uint32Array
  readonly rows: Uint32Array
}

/**
 * The dead rows of a plan: `base` of each segment, `moved` of each segment below `endSeq`, and the deletion log's entries up to
 * `endSeq`. Sequence numbers only grow, and an entry never changes, so a reader that keeps what it read before needs only what was
 * appended since, and `base` and `moved` of segments it has not seen, or only in plans with a higher `firstSeq`. A reader whose last
 * sequence number lies below `firstSeq` has missed entries and starts again from `base` and `moved` of every segment.
 */
export interface DeletesView {
  /** Entries with a sequence number below this are folded into `base`. */
  readonly firstSeq: number
  /** Entries below this belong to the plan; later ones do not. */
  readonly endSeq: number
  /**
   * Entries `[fromSeq, toSeq)`, both within `[firstSeq, endSeq]` and the end of some plan of this incarnation, a part at a time, in the order of sequence
   * numbers: those of a part are `firstSeq`, `firstSeq + 1`, …
   */
  chunks(fromSeq: number, toSeq: number): Iterable<DeathChunk>
  /** Rows of the segment that were dead before `firstSeq`, ascending. */
  base(segment: SegmentId): Uint32Array
  /**
   * Rows of the segment whose death the log recorded at a place they had before they moved here (a flush or a compaction), with
   * the sequence numbers of those entries. Those at or after `endSeq` do not count; those before `firstSeq` are in `base`, and may be left out.
   */
  moved(segment: SegmentId): { readonly rows: Uint32Array; readonly seqs: Float64Array }
}

/** Everything needed to read one table exactly at `lsn`. Valid while its lease is held. */
export interface TablePlan {
  readonly table: TableName
  readonly schema: TableSchema
  readonly lsn: Lsn
  /** Plans with the same incarnation share segment ids and sequence numbers; a cache may carry over from one to the next. */
  readonly incarnation: string
  readonly files: readonly FileScan[]
  readonly memory: readonly MemoryScan[]
  readonly deletes: DeletesView
}

/** One consistent cut over several tables. What it names stays readable until `release`. */
export interface ReadLease {
  readonly lsn: Lsn
  readonly tables: ReadonlyMap<string, TablePlan>
  /** What only this lease needs may go. Fine to call again. */
  release(): void
}

/** Tables by `schema.name`; `lsn` null means everything applied by now. */
export interface AcquireRequest {
  readonly tables: readonly string[]
  readonly lsn: Lsn | null
  /** How long to wait for an LSN that is not applied yet, in ms. */
  readonly timeoutMs: number
}

/** Hands out leases. Implemented by the table engine. */
export interface ReadLeaseSource {
  /** Names of the tables that can be read, as `schema.name`. */
  readableTables(): readonly string[]
  /**
   * Waits for the LSN, and while a table goes back to its last commit. Throws `retry`/`TIMED_OUT`, `TABLE_COPYING` or `TABLE_RESYNCING`, and `invalid`/`TABLE_UNKNOWN`, `TABLE_PAUSED`
   * (also of one that failed) or `LSN_NOT_HELD`.
   */
  acquire(request: AcquireRequest): Promise<ReadLease>
}
