import { silentLogger, systemClock, type Clock, type Lease, type Logger, type Lsn } from '@moonlink/core'
import type { LogDisk } from './log-disk.ts'

export interface ChangeLogOptions {
  readonly disk: LogDisk
  /** Names what is logged, such as the source and its slot. Segments of another name are not read. */
  readonly log: string
  /** The source can stream from here, or any later place: a log that ends before is of no use. */
  readonly sourceFromLsn: Lsn
  /**
   * Who else may write to the disk is kept out by it: what was synced counts once the lease was still ours after it. Default: none, where something else,
   * such as a lock, keeps others away.
   */
  readonly lease?: Pick<Lease, 'epoch' | 'check'> | null
  readonly clock?: Clock
  readonly logger?: Logger
  /** Longest time from append to sync. Default 200 ms. */
  readonly syncIntervalMs?: number
  /** Bytes at which a sync does not wait for the interval. Default 8 MiB. */
  readonly syncBytes?: number
  /** A segment ends at the first cut beyond this size, or at four times the size. Default 64 MiB. */
  readonly segmentBytes?: number
  /** The log stops rather than grow beyond this. Default 4 GiB. */
  readonly maxBytes?: number
  /** More than this may not wait to be written. Default 32 MiB. */
  readonly maxPendingBytes?: number
}

export type ResolvedOptions = Required<ChangeLogOptions>

export function resolveOptions(options: ChangeLogOptions): ResolvedOptions {
  const { clock = systemClock, lease = null, logger = silentLogger } = options
  const { syncIntervalMs = 200, syncBytes = 8 * 2 ** 20, segmentBytes = 64 * 2 ** 20 } = options
  const { maxBytes = 4 * 2 ** 30, maxPendingBytes = 32 * 2 ** 20 } = options
  return { ...options, clock, lease, logger, syncIntervalMs, syncBytes, segmentBytes, maxBytes, maxPendingBytes }
}
