import type { ColumnBatch } from '../columns/column.ts'
import type { Lsn } from '../lsn.ts'
import type { FileGroup } from './file-ledger.ts'
import type { TableName } from '../table-name.ts'
import type { Field, TableSchema } from '../types.ts'

/** A data file of the current snapshot. */
export interface DataFile {
  /** Absolute URI; names the file. */
  readonly path: string
  readonly recordCount: number
  readonly sizeBytes: number
  /** `_row_id` of row i is `firstRowId + i`, except where the file stores one. */
  readonly firstRowId: number
  readonly dataSequenceNumber: number
}

/** The dead rows of one data file: all of them, not only new ones. */
export interface DeletionVector {
  readonly dataFile: string
  /** Positions in the portable 32-bit Roaring format. */
  readonly bitmap: Uint8Array
  readonly cardinality: number
}

/** An LSN with the source's timeline of which it is: after a failover an LSN alone does not say whose history it is of. */
export interface TimelineLsn {
  readonly timeline: number
  readonly lsn: Lsn
}

/** What the current Iceberg snapshot holds. */
export interface TableSnapshot {
  readonly metadataLocation: string
  /** Null for a table that never had a commit with data. */
  readonly snapshotId: bigint | null
  /** The schema that readers see the snapshot with. Its identifier is the source's key only where Iceberg allows that key. */
  readonly schema: TableSchema
  readonly files: readonly DataFile[]
  readonly vectors: readonly DeletionVector[]
  /** End LSN that the snapshot covers, from its own summary or an ancestor's; null before the initial copy was committed. */
  readonly committedLsn: Lsn | null
  /**
   * End LSN of the newest change that it holds, or `committedLsn` where that is not known: the table is exact from there on. Beyond `committedLsn` where others have changed its rows: it is exact
   * nowhere, then.
   */
  readonly exactFromLsn: Lsn | null
  /** Up to where it is known of which of the source's timelines it is: `committedLsn`, or an earlier LSN where that was not certain since. Null where no commit said so. */
  readonly sourceTimeline: TimelineLsn | null
  readonly properties: Readonly<Record<string, string>>
}

/** A retained older snapshot: what the source had at every LSN from `fromLsn` to `throughLsn`, both included. */
export interface RetainedSnapshot {
  readonly snapshotId: bigint
  /** End LSN that it covers; within the range. */
  readonly lsn: Lsn
  readonly fromLsn: Lsn
  readonly throughLsn: Lsn
  readonly timestampMs: number
}

/** Rows to write as data files, in order. */
export interface RowsToWrite {
  readonly rows: ColumnBatch
  /** `_row_id` to keep per row, or -1 for a row that shall get a new one; null where none is kept. */
  readonly rowIds: Float64Array | null
  /** `_last_updated_sequence_number` to keep per row, or -1; only a compaction keeps it. */
  readonly lastUpdated: Float64Array | null
}

/** A file written by `writeFile`, not yet part of any snapshot. Plain data: it can cross a process boundary. */
export interface StagedFile {
  readonly path: string
  readonly recordCount: number
  readonly sizeBytes: number
  /** Opaque metrics for the manifest (bounds, counts, split offsets), made by the storage that wrote the file. */
  readonly metrics: unknown
}

/** `_row_id` and `_last_updated_sequence_number` to keep per row, as in `RowsToWrite`. */
export interface KeptLineage {
  readonly rowIds: Float64Array
  readonly lastUpdated: Float64Array
}

/**
 * A data file in the making: batches are encoded as they come, so that only encoded bytes are held until the end. Each batch becomes a row group
 * (or several). Where this ends without `finish`, nothing is left behind.
 */
export interface DataFileWriter {
  /** The path that `finish` will give. */
  readonly path: string
  /** Rows appended so far: the next batch's first row has this position in the file. */
  readonly recordCount: number
  /** Encoded bytes held. */
  readonly byteSize: number
  /**
   * Appends rows behind those of earlier calls, which may still be under way. Memory that is shared between threads may be used again once this
   * resolves; other memory is taken over. `lineage`: what the rows keep, given with every batch or with none.
   */
  append(rows: ColumnBatch, lineage?: KeptLineage): Promise<void>
  /** Writes the file, once every `append` has resolved. */
  finish(): Promise<StagedFile>
}

/** One atomic commit. */
export interface TableCommit {
  /** `append`: rows and deletes of the source; `replace`: the same rows in other files. */
  readonly kind: 'append' | 'replace'
  readonly addFiles: readonly StagedFile[]
  /** Paths of data files that leave the table, their vectors with them. */
  readonly removeFiles: readonly string[]
  /** New vectors; each replaces its file's earlier one. */
  readonly vectors: readonly DeletionVector[]
  /** The snapshot covers every change up to here. */
  readonly lsn: Lsn
  /** End LSNs of the oldest and the newest change since the commit before; of a `replace`, the newest that the table holds. */
  readonly firstChangeLsn?: Lsn
  readonly lastChangeLsn?: Lsn
  /** Table properties set in the same commit. */
  readonly properties?: Readonly<Record<string, string>>
  /** The table's schema from this commit on; absent: as it is. Field ids that were used before keep their meaning. */
  readonly schema?: TableSchema
}

/**
 * One mirror's Iceberg table. One caller at a time: calls of `commit`, `setProperties` and `expire` must not overlap.
 *
 * Not promised: that a staged file is ever removed if no commit takes it and nobody discards it.
 */
export interface TableStorage {
  readonly table: TableName
  /** The current snapshot as last loaded or committed here. */
  readonly snapshot: TableSnapshot
  /**
   * Writes one data file of the batch's fields, which may be those of an earlier schema. May run beside `commit`. Nothing is visible yet.
   * Takes over the memory of `rows` (it may be transferred). `onPath` is told where the file will be, and waited for, before anything is there.
   */
  writeFile(rows: RowsToWrite, onPath?: (path: string) => Promise<void>): Promise<StagedFile>
  /** Begins a data file of these fields that is written in parts. Several may be written beside each other, and beside `commit`. */
  createFile(fields: readonly Field[]): DataFileWriter
  /**
   * Commits and returns the new snapshot. Retries conflicts that leave our files and all rows alone and unknown outcomes by itself; throws
   * `conflict` where another writer changed files or rows, `fenced` where another owner took over.
   */
  commit(commit: TableCommit): Promise<TableSnapshot>
  /**
   * Makes certain what came of a commit that threw `retry`: afterwards it is in `snapshot` (true), or can't land any more (false), as where there was none. A commit
   * of something else does so first, and throws `conflict`/`EARLIER_COMMIT_LANDED` where the one before is in the table. Throws as `commit`.
   */
  settle(): Promise<boolean>
  /**
   * Removes files that `writeFile` or a commit wrote. Only for those that no snapshot names, nor any commit still under way. Fine where one is gone
   * already.
   */
  discard(paths: readonly string[]): Promise<void>
  /**
   * Those of the groups' files that no snapshot needs, be it an older one, as the table was last loaded or committed here; certain once a commit has succeeded
   * since. Reads older snapshots where a group's own have gone; fails as reading does.
   */
  unneeded(groups: readonly FileGroup[]): Promise<readonly string[]>
  /** Sets table properties. With `schema`, for a table without rows: its schema from here on; field ids that were used before keep their meaning. */
  setProperties(properties: Readonly<Record<string, string>>, schema?: TableSchema): Promise<TableSnapshot>
  /**
   * Reads columns of whole files, in row order, in batches, whatever schema they were written with: fields are matched by id, a missing one
   * holds its initial default, a promoted one comes in its new type. `_row_id` and `_last_updated_sequence_number` come resolved if asked for.
   */
  scanFile(file: DataFile, fields: readonly Field[], options?: { readonly lineage?: boolean }): AsyncIterable<ScannedBatch>
  /** Reads the rows at `positions` (ascending, distinct) of one file; fields as in `scanFile`. */
  fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch>
  /** Drops snapshots that the policy no longer keeps, then files that nothing reachable or in `keepPaths` names. */
  expire(policy: ExpirePolicy): Promise<ExpireResult>
  /** Older snapshots, newest first, that carry an LSN. */
  retained(): readonly RetainedSnapshot[]
  /** Files and vectors of a retained snapshot. */
  loadSnapshot(snapshotId: bigint): Promise<TableSnapshot>
}

/** Rows of one data file, in its order. */
export interface ScannedBatch {
  /** Position of the batch's first row within the file. */
  readonly firstRow: number
  readonly rows: ColumnBatch
  /** Resolved lineage per row, where asked for. */
  readonly rowIds: Float64Array | null
  readonly lastUpdated: Float64Array | null
}

/** Which snapshots an expiry keeps: those that either bound keeps. */
export interface ExpirePolicy {
  /** So many of the newest. */
  readonly minSnapshots: number
  /** Those not older than this. */
  readonly maxAgeMs: number
  /** Data files that a running read still needs. */
  readonly keepPaths: ReadonlySet<string>
}

/** How many of each were removed. */
export interface ExpireResult {
  readonly snapshots: number
  readonly files: number
}
