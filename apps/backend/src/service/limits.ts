import { defaultEngineLimits, type EngineLimits } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'

const EARLY_FILE_BYTES = 64 * 1024 * 1024
const COPY_FILE_BYTES = 64 * 1024 * 1024

/** The engine's thresholds from the configuration. */
export function engineLimits({ compaction, copy, expiry, flush, memory }: Config): EngineLimits {
  return {
    flushRows: flush.rows,
    flushBytes: flush.bytes,
    flushIntervalMs: flush.intervalMs,
    flushDeletes: flush.deletes,
    earlyFileBytes: Math.min(EARLY_FILE_BYTES, memory.limitBytes / 8),
    copyFileBytes: COPY_FILE_BYTES,
    memoryLimitBytes: memory.limitBytes,
    pausesOnFullSpool: copy.onFullSpool !== 'wait',
    compaction: {
      enabled: compaction.enabled,
      minFiles: compaction.minFiles,
      smallFileBytes: compaction.smallFileBytes,
      maxDeadRatio: compaction.maxDeadRatio,
      maxBytes: compaction.maxBytes,
    },
    expiry: { minSnapshots: expiry.minSnapshots, maxAgeMs: expiry.maxAgeMs, intervalMs: expiry.intervalMs },
    lateWriteMs: defaultEngineLimits.lateWriteMs,
  }
}
