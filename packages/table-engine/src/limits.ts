/** Thresholds of the engine. Rows are counted, sizes are bytes, times milliseconds. */
export interface EngineLimits {
  /** A mirror flushes once it holds this many rows in memory. */
  readonly flushRows: number
  /** A mirror flushes once its rows in memory take this many bytes. */
  readonly flushBytes: number
  /** A mirror with changes flushes at least this often. */
  readonly flushIntervalMs: number
  /** A mirror flushes once this many deletes of rows in files wait for a commit. */
  readonly flushDeletes: number
  /**
   * Where memory is short, the rows of a transaction that is still open become data files of about this many bytes in memory. An eighth
   * of `memoryLimitBytes` at most, or the last one may not fit.
   */
  readonly earlyFileBytes: number
  /** A data file of an initial copy is complete at this many encoded bytes, or a sixteenth of `memoryLimitBytes`. */
  readonly copyFileBytes: number
  /** All mirrors together, indexes included, stay below this: the source waits before it is passed. */
  readonly memoryLimitBytes: number
  /** Where what waits for a table's copy finds no room on disk and memory is short: that table is paused, rather than that the source waits for all of them. */
  readonly pausesOnFullSpool: boolean
  readonly compaction: CompactionLimits
  readonly expiry: { readonly minSnapshots: number; readonly maxAgeMs: number; readonly intervalMs: number }
  /** Longer than the store may take to carry out a write that was given up: what was removed is removed once more then. */
  readonly lateWriteMs: number
}

export interface CompactionLimits {
  readonly enabled: boolean
  /** Files below this size are small; those of a 32nd of `memoryLimitBytes` are not. */
  readonly smallFileBytes: number
  /** This many small files are folded into one. */
  readonly minFiles: number
  /** A file with at least this share of dead rows is rewritten even when alone. */
  readonly maxDeadRatio: number
  /** At most this many bytes are rewritten at once, and never more than an eighth of `memoryLimitBytes`. */
  readonly maxBytes: number
}

/** Fit for a process that may take 2 GiB. */
export const defaultEngineLimits: EngineLimits = {
  flushRows: 500_000,
  flushBytes: 128 * 1024 * 1024,
  flushIntervalMs: 5_000,
  flushDeletes: 500_000,
  earlyFileBytes: 64 * 1024 * 1024,
  copyFileBytes: 64 * 1024 * 1024,
  memoryLimitBytes: 1024 * 1024 * 1024,
  pausesOnFullSpool: true,
  compaction: { enabled: true, smallFileBytes: 32 * 1024 * 1024, minFiles: 8, maxDeadRatio: 0.5, maxBytes: 256 * 1024 * 1024 },
  expiry: { minSnapshots: 5, maxAgeMs: 3_600_000, intervalMs: 60_000 },
  lateWriteMs: 600_000,
}
