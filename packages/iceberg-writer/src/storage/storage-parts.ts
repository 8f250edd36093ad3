import type {
  Catalog,
  Clock,
  FileLedger,
  LocalFiles,
  Logger,
  Lsn,
  ObjectStore,
  Random,
  TableCommit,
  TableIdentifier,
  TableName,
  TimelineLsn,
} from '@moonlink/core'
import type { ParquetPort } from './parquet-port.ts'
import type { ManifestLimits } from './manifest-limits.ts'

/** What an open table's storage is made of. */
export interface StorageParts {
  readonly table: TableName
  readonly identifier: TableIdentifier
  /** The source's key where Iceberg does not allow it as an identifier; null: Iceberg's own identifier holds. */
  readonly identifierFieldIds: readonly number[] | null
  readonly catalog: Catalog
  readonly store: ObjectStore
  readonly parquet: ParquetPort
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly localFiles: LocalFiles | null
  /** Told of files before they are written; null: what does not get into a snapshot may stay behind. */
  readonly ledger: FileLedger | null
  readonly manifestLimits: ManifestLimits
  /** The source's timeline of which the LSNs of commits are; null where that is not known. */
  readonly sourceTimeline: () => number | null
  /** Properties that a table gets by being taken over where others have changed its rows, told what they did. */
  readonly whenChanged: (what: string) => Readonly<Record<string, string>>
}

/** A commit; one without an LSN only says whose the table is. */
export type CommitRequest = Omit<TableCommit, 'lsn'> & { readonly lsn: Lsn | null; readonly sourceTimeline: TimelineLsn | null }

/** What changing the table needs besides its head. */
export interface Committer extends StorageParts {
  /** Names this open storage in snapshot summaries. */
  readonly writerId: string
  /** Its number among the table's owners; 0 where it never took the table over. */
  readonly epoch: number
  /** `namespace.table`, for messages. */
  readonly name: string
}
