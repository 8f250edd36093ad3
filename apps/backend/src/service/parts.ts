import type {
  Catalog,
  ChangeSource,
  FileLedger,
  LoadedTable,
  Lsn,
  TableName,
  TableSchema,
  TableShape,
  TableStorage,
  TimelineLsn,
} from '@moonlink/core'
import type { RemovedTable } from '@moonlink/iceberg-writer'
import type {
  EvolvedTable,
  FieldSource,
  PublicationChange,
  SourcePosition,
  SourceWait,
  UnfitValues,
  Uninstalled,
} from '@moonlink/pg-source'
import type { RunningQuery } from './running-query.ts'

export type { PublicationChange, SourcePosition, SourceWait, UnfitValues }

export interface SourceIdentity {
  readonly systemIdentifier: string
  readonly database: string
  readonly serverVersion: string
  readonly slot: string
  readonly publication: string
}

/** A table of the source: with a schema where it can be mirrored, with the reason where not. */
export interface ListedSourceTable {
  readonly table: TableName
  readonly schema: TableSchema | null
  /** What a mirror keeps to come back to that shape. */
  readonly sourceState: string | null
  readonly appendOnly: boolean
  readonly refusal: { readonly code: string; readonly reason: string } | null
  /** What its mirror lacks, one line each: columns left out. */
  readonly notes: readonly string[]
}

/** The source as it was at one LSN. */
export interface SourceSnapshot {
  readonly lsn: Lsn
  /** Rows of one statement, a text or null a column. */
  rows(sql: string): Promise<readonly (readonly (string | null)[])[]>
  close(): Promise<void>
}

/** Which of the server's histories it is that was read. */
export interface SourceHistory {
  /** The timeline on which lies what was read; null where that is not known. */
  readonly timeline: number | null
  /** Where that timeline began; null where that is not known. */
  readonly sinceLsn: Lsn | null
  /** The timeline on which all lies that was read; null while that is not certain. */
  readonly certainTimeline: number | null
  /** Something was read, or looked at, that is so up to here, as far as was known when a stream or a copy began last. */
  readonly reachedLsn: Lsn
  /** An earlier process read that timeline, which began there. `remember` writes down another one before anything of it is read. */
  resume(timeline: number | null, sinceLsn: Lsn | null, remember: () => Promise<void>): void
  /** A table that goes on from its last commit, at `throughLsn`, has what that timeline brought up to there. To be called between `resume` and the first stream. */
  committed(upTo: TimelineLsn, throughLsn: Lsn): void
  /** What was read is compared with whatever the server has: the next stream may be of any timeline. */
  acceptAny(): void
  /** Tables are about to be looked at anew (`SourceHandle.asOfLsn`) that were looked at before. */
  forgetLooks(): void
}

/** The source, as the backend needs it beyond the port of core. */
export interface SourceHandle extends ChangeSource {
  readonly identity: SourceIdentity
  readonly history: SourceHistory
  /** What is worth knowing of the server and how it is mirrored, a line each. */
  readonly notes: readonly string[]
  /** Every table; or those named in `only`, which may be refused or unknown. */
  listTables(only?: readonly TableName[]): Promise<readonly ListedSourceTable[]>
  /**
   * Publishes exactly these tables, for copies and the next `open`; makes the slot where there is none. Returns where the slot is, and the tables that are left out since
   * they stay locked for `lockTimeoutMs`.
   */
  prepare(tables: readonly TableName[], lockTimeoutMs: number): Promise<{ readonly slotLsn: Lsn; readonly locked: readonly TableName[] }>
  /** Publishes one table more, for a later `prepare`. Returns null, or who locks it and what ends that: no lock is waited for that somebody is known to have. */
  publish(table: TableName): Promise<string | null>
  /** Whether a table that `prepare` was to publish no more still is, since somebody locked it. */
  readonly publishesTooMuch: boolean
  /** Publishes such tables no more, save those that somebody still locks. Not while `prepare` runs. */
  unpublish(): Promise<void>
  /** Waits a moment for the slot to be free, and for as long as who uses it waits for a lock. Throws `retry`/`PG_SLOT_IN_USE`, naming who uses it. */
  waitUntilUnused(): Promise<void>
  /** What of a published table did not fit the columns that mirror it, where the policy lets the table go on. */
  unfitValues(table: TableName): readonly UnfitValues[]
  /** The condition that rows of a published table fulfil to be published; null where all are. Read in the snapshot. */
  rowFilter(table: TableName, snapshot: SourceSnapshot): Promise<string | null>
  /** Where each field of a published table comes from, by its id. */
  fieldSources(table: TableName, shape?: TableShape): ReadonlyMap<number, FieldSource>
  /** The shape that a mirror had, from what it kept; null where that leads nowhere. */
  restore(table: TableName, sourceState: string): Promise<TableShape | null>
  /** The shape that a mirror has to take on to be like its table now, and whether that is another table under the same name. */
  evolved(table: TableName, known: TableShape): Promise<EvolvedTable>
  /** What the source calls the table of that shape now; null where it is gone, or its mirror kept nothing of it. */
  nameNow(known: TableShape): Promise<TableName | null>
  /** What became of published tables' publication since, of which the stream says nothing. */
  publicationChanges(): Promise<readonly PublicationChange[]>
  /** A text that is another once a published table's rows are filtered otherwise or lie in other partitions, or its publication was altered or is another. */
  publicationMark(table: TableName): string
  /** The marks that tables had when an earlier process mirrored them. To be called before they are prepared. */
  resumeMarks(marks: Readonly<Record<string, string>>): void
  /** Whether a prepared table may have missed changes since it was last mirrored, as its publication tells. */
  isRepublished(table: TableName): boolean
  /** The database at one LSN; waits for running transactions to end. */
  snapshot(): Promise<SourceSnapshot>
  /** Writes a few bytes to the log of a quiet database. False where the user may not. */
  heartbeat(): Promise<boolean>
  /** What waits for other transactions of the source now: copies, comparisons, a new slot. */
  waits(): readonly SourceWait[]
  /** Where source and slot are; disturbs nothing. */
  position(): Promise<SourcePosition>
  /** Where the source is, for tables that begin as its catalog has them now. */
  asOfLsn(): Promise<Lsn>
  /** Removes slot and publication, and returns what was there to be removed. No stream may be open. */
  uninstall(): Promise<Uninstalled>
  close(): Promise<void>
}

export interface OpenTableOptions {
  /** Creates the table where there is none. Null: an existing table's own holds. */
  readonly schema: TableSchema | null
  /** Of a created table. */
  readonly properties: Readonly<Record<string, string>>
  /** Keeps account of its files. */
  readonly ledger: FileLedger
  /** The table as the catalog has it just now; null where it has none. */
  readonly loaded: LoadedTable | null
  /** The source's timeline of which the LSNs of commits are; null where that is not known. */
  readonly sourceTimeline: () => number | null
  /** Properties that the table gets where others have changed its rows, told what they did. */
  readonly whenChanged: (what: string) => Readonly<Record<string, string>>
}

/** The Iceberg side. */
export interface Warehouse {
  readonly uri: string
  readonly catalog: Catalog
  /** Opens the table's storage, and takes it over. */
  openTable(table: TableName, options: OpenTableOptions): Promise<TableStorage>
  /** Removes what is left of the files of a table that its catalog has no more. `beforeEach` is called before each removal; what it throws ends that. */
  removeFiles(table: RemovedTable, beforeEach: () => Promise<void>): Promise<void>
  /** Removes one file; fine if it is not there. */
  removeFile(uri: string): Promise<void>
  close(): Promise<void>
}

export interface QueryEngine {
  query(sql: string, atLsn: Lsn | null, timeoutMs: number): Promise<RunningQuery>
  close(): Promise<void>
}
