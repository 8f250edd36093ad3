import type { Lsn, SourceEvent } from '@moonlink/core'

/** Says that every transaction which ends at `lsn` or before was given; the source is at `sourceLsn`. */
export const watermark = (lsn: Lsn, sourceLsn = lsn): SourceEvent => ({ kind: 'watermark', lsn, sourceLsn, commitTimeMs: null })
