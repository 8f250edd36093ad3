import type { Clock, Logger, Lsn, MoonlinkError, TableName, TableSchema, TableShape, TableStorage, Telemetry } from '@moonlink/core'
import type { EngineLimits } from './limits.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'

export interface MirrorSpec {
  readonly table: TableName
  readonly schema: TableSchema
  /** What the source kept with the last commit (see `TableShape`); absent or null where it has to look at the table itself. */
  readonly sourceState?: string | null
  readonly storage: TableStorage
  /** True for a table whose source only ever inserts: no key index is kept. */
  readonly appendOnly: boolean
  /** The stream can bring every change after this; a copy that began before begins anew. Default: every change there was. */
  readonly changesFromLsn?: Lsn
  /** From where to where the table is mirrored: what a copy of others has left on this machine counts for nothing. */
  readonly origin?: string
  /** Of a table that is to be copied: the schema is the source's of this LSN or later, and no change from before is wanted. */
  readonly asOfLsn?: Lsn
  /** Why it misses changes: until `beginResync`, which follows, it takes nothing, and shows no more than its last commit. */
  readonly resyncReason?: string
  /** A stream may be open already, and further than the last commit: one that goes on from there takes and shows nothing before the next begins (`Engine.resetOpenTransaction`). */
  readonly joinsStream?: boolean
}

/** How the source's table is while a mirror begins to be made equal to it. */
export interface ResyncSource {
  readonly shape: TableShape
  /** The shape is the source's of this LSN or later, and so is the copy: the mirror wants no change from before. */
  readonly asOfLsn: Lsn
  /** The table is another one under the same name: no row of the one before is left. */
  readonly isAnew: boolean
  /** The mirror was opened just now: it shows no more than its last commit, wherever the stream is. */
  readonly isJustOpened: boolean
}

/** `copying`: being made equal to its source, by a copy or by comparing. `paused`: takes no changes until it is resumed. `failed`: can't go on; `MirrorStatus.reason` says why. */
export type MirrorPhase = 'copying' | 'streaming' | 'paused' | 'failed'

/** A mirror as it is now. */
export interface MirrorStatus {
  readonly table: TableName
  readonly state: MirrorPhase
  readonly reason: string | null
  readonly rows: number
  readonly copiedRows: number
  readonly appliedLsn: Lsn
  /** Every change up to here survives a crash of ours; null before the initial copy is committed. */
  readonly durableLsn: Lsn | null
  readonly committedLsn: Lsn | null
  /** Commit time in the source of the last change applied, ms since 1970. */
  readonly lastCommitTimeMs: number | null
  readonly metadataLocation: string
  readonly snapshotId: bigint | null
  readonly dataFiles: number
  readonly deletionVectors: number
  readonly memoryRows: number
  readonly memoryBytes: number
  /** Bytes of changes that wait on local disk for a copy, or for those before them. */
  readonly spooledBytes: number
}

/** What a mirror needs of its engine. */
export interface MirrorHost {
  readonly clock: Clock
  readonly logger: Logger
  readonly telemetry: Telemetry
  readonly limits: EngineLimits
  readonly sealedFiles: SealedFiles
  readonly stagedFiles: StagedFiles
  appliedLsn(): Lsn
  /** How far the present stream has come: every change up to here has been given to the mirrors. Less than what was applied before it. */
  streamedLsn(): Lsn
  newIncarnation(): string
  /** Changes were applied that are not of the stream's present event; waits where memory nears its limit. */
  appliedBeside(changes: number, bytes: number): Promise<void>
  /** Data files that running reads hold. */
  leasedPaths(): ReadonlySet<string>
  /** True once the engine is about to be closed: nothing is waited for that fails. */
  isEnding(): boolean
  /** Waited for before rows of the table are committed; they are not where it throws. */
  beforeCommit(table: string): Promise<void>
  /** Another owner has taken the table over. */
  fenced(error: MoonlinkError): void
}

/** Table property that says why a mirror is paused; empty or absent while it is not. */
export const PAUSED_PROPERTY = 'moonlink.paused-reason'

/** What a table is paused for whose waiting changes found no room. */
export const COPY_SPOOL_FULL = 'COPY_SPOOL_FULL'

/** Table property that keeps the source's own state of the table at the last commit (see `TableShape`). */
export const SOURCE_STATE_PROPERTY = 'moonlink.source-state'

/** Table property that says why a mirror has to be made equal to its source again; empty or absent where it need not. */
export const RESYNC_PROPERTY = 'moonlink.resync-reason'
