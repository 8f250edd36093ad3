import { LocalLogDisk, ObjectLogDisk, SegmentedLog } from '@moonlink/change-log'
import type { ChangeLog, Clock, Lease, LocalDisk, Logger, Lsn, ObjectStore } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import type { SourceIdentity } from './parts.ts'
import type { WrapPort } from './wrap-port.ts'

export interface ChangeLogParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: ObjectStore
  /** Default: the system's. */
  readonly disk?: LocalDisk
  readonly wrap: WrapPort
  /** Of a log in the store; null for one on local disk. */
  readonly lease: Lease | null
  readonly source: SourceIdentity
  /** The source can stream from here on. */
  readonly sourceFromLsn: Lsn
}

/** The log has to be able to let go of whole segments long before it is full. */
const SEGMENT_SHARE = 1 / 8
/** Each sync puts an object, so it is not for every moment. */
const storeSyncIntervalMs = 1000

/** Opens the configured change log; null where there shall be none. */
export async function openChangeLog(config: Config, parts: ChangeLogParts): Promise<ChangeLog | null> {
  const { enabled, kind, location, maxBytes, minFreeBytes, segmentBytes, syncBytes, syncIntervalMs } = config.changeLog
  if (!enabled) return null
  const { clock, disk, lease, logger, source, sourceFromLsn, store, wrap } = parts
  return SegmentedLog.open({
    disk: wrap('logDisk', kind === 'local' ? new LocalLogDisk(location, disk, minFreeBytes) : new ObjectLogDisk(store, location)),
    log: `${source.systemIdentifier}/${source.database}/${source.slot}`,
    sourceFromLsn,
    lease,
    clock,
    logger,
    syncIntervalMs: kind === 'store' ? Math.max(syncIntervalMs, storeSyncIntervalMs) : syncIntervalMs,
    syncBytes,
    segmentBytes: Math.min(segmentBytes, maxBytes * SEGMENT_SHARE),
    maxBytes,
  })
}
