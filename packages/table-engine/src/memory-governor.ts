import type { Clock, Logger, Telemetry } from '@moonlink/core'
import { BlockCache } from '@moonlink/pk-index'
import type { RefusedMirrors } from './refused-mirrors.ts'
import { FilterMemory } from './filter-memory.ts'
import type { Mirror } from './mirror.ts'

/** Share of the memory limit for blocks of sealed indexes read from disk. */
const INDEX_CACHE_SHARE = 0.1
/** Share of the memory limit for filters of sealed indexes. While less than `LOAD_SHARE` is in use, those let go of come back. */
const FILTER_SHARE = 0.25
const LOAD_SHARE = 0.4
/** At this share of the memory limit the largest mirror is flushed; at the next the source waits for it. */
const FLUSH_SHARE = 0.5
const WAIT_SHARE = 0.8
/** While changes that wait for a commit take this share of the limit and the source waits, parts of open transactions are written however many tables share that memory. */
const FREEABLE_SHARE = 0.25
/** Rows may take so small a share of what their segment does: the rest is index and room to grow. */
const ROWS_SHARE = 1 / 8
/** What is applied between two looks at the memory in use: rows, or this share of the limit. */
const CHECK_ROWS = 20_000
const CHECK_SHARE = 1 / 64
const HOLD_POLL_MS = 100
/** So long a disk may be full under what waits for a copy before the others wait no longer for that table. */
const FULL_SPOOL_PATIENCE_MS = 10_000
/** Memory is kept so long for a table whose commits are refused while those of others are not. */
const REFUSAL_PATIENCE_MS = 10_000

export interface MemoryGovernorParts {
  readonly limitBytes: number
  readonly pausesOnFullSpool: boolean
  /** The engine's, by name; may change. */
  readonly mirrors: ReadonlyMap<string, Mirror>
  readonly refused: RefusedMirrors
  readonly clock: Clock
  readonly logger: Logger
  readonly telemetry: Telemetry
}

/** Keeps all mirrors of an engine, and what they share, within one memory limit. */
export class MemoryGovernor {
  readonly blockCache: BlockCache
  readonly filters: FilterMemory
  private readonly parts: MemoryGovernorParts
  private rowsSinceCheck = 0
  private bytesSinceCheck = 0
  private freeing: Promise<'done' | 'nothing' | 'failed'> | null = null

  constructor(parts: MemoryGovernorParts) {
    this.parts = parts
    this.blockCache = new BlockCache(Math.floor(parts.limitBytes * INDEX_CACHE_SHARE))
    this.filters = new FilterMemory(Math.floor(parts.limitBytes * FILTER_SHARE))
  }

  /** Bytes that rows, indexes and logs take. */
  get usedBytes(): number {
    let bytes = this.blockCache.byteSize
    for (const mirror of this.parts.mirrors.values()) bytes += mirror.memory.byteSize
    return bytes
  }

  /** So much was applied: looks at the memory in use now and then, and waits where that nears the limit. */
  async applied(rows: number, bytes: number): Promise<void> {
    this.rowsSinceCheck += rows
    this.bytesSinceCheck += bytes
    if (this.rowsSinceCheck >= CHECK_ROWS || this.bytesSinceCheck >= this.parts.limitBytes * CHECK_SHARE) await this.hold()
  }

  /** Takes a filter that was let go of back, where there is room. */
  async loadFilter(): Promise<void> {
    await this.filters.loadOne(this.parts.limitBytes * LOAD_SHARE - this.usedBytes)
  }

  /**
   * Frees memory when it grows: flushes the largest mirror, or writes a part of its open transaction to a file. Near the limit the
   * source waits: until memory is free, however often that has to be tried, and until changes that wait for a copy
   * are on disk, or their table is paused. What a table that takes no more changes has not committed goes first then.
   */
  private async hold(): Promise<void> {
    this.rowsSinceCheck = 0
    this.bytesSinceCheck = 0
    const { clock, limitBytes, mirrors, refused, telemetry } = this.parts
    if (this.usedBytes < limitBytes * FLUSH_SHARE) return
    for (const mirror of mirrors.values()) mirror.memory.releaseCaches()
    const startedMs = clock.nowMs()
    let freed = this.freeLargest()
    while (this.usedBytes >= limitBytes * WAIT_SHARE) {
      const before = this.usedBytes
      const outcome = await freed
      const mustWait = outcome === 'failed' || [...mirrors.values()].some((mirror) => mirror.memory.isHolding || mirror.memory.isFlushing)
      // Filters are read from disk then, a block at a time: slower, but it goes on.
      this.filters.release(this.usedBytes - limitBytes * WAIT_SHARE)
      if (this.usedBytes >= before && !(await this.letGoOfStopped())) {
        // What is left are indexes, or too little of an open transaction to write: waiting would not free it.
        if (!mustWait && outcome === 'nothing') break
        if (mustWait) await clock.sleep(HOLD_POLL_MS)
      }
      for (const mirror of mirrors.values()) await mirror.memory.retrySpool()
      if (clock.nowMs() - startedMs >= FULL_SPOOL_PATIENCE_MS) await this.pauseLargestSpool()
      refused.alone(REFUSAL_PATIENCE_MS)[0]?.pauseForRefusal()
      freed = this.freeLargest()
    }
    telemetry.count('moonlink_backpressure_seconds_total', (clock.nowMs() - startedMs) / 1000)
  }

  /** The others go on then. */
  private async pauseLargestSpool(): Promise<void> {
    if (!this.parts.pausesOnFullSpool) return
    const holding = [...this.parts.mirrors.values()].filter((mirror) => mirror.memory.isHolding)
    const [largest] = holding.sort((a, b) => b.memory.byteSize - a.memory.byteSize)
    await largest?.memory.pauseForRoom()
  }

  /** Of the table that holds most: the others need that memory, and what it missed is found by comparing anyway. False where nothing came free. */
  private async letGoOfStopped(): Promise<boolean> {
    const [largest] = [...this.parts.mirrors.values()].sort((a, b) => b.memory.stoppedBytes - a.memory.stoppedBytes)
    const bytes = largest?.memory.stoppedBytes ?? 0
    // What a commit of it is in doubt by can't be told while the store is away.
    if (bytes === 0 || !(await largest.memory.letGoOfStopped().catch(() => false))) return false
    this.parts.logger.warn('memory is short: what a stopped table had not committed is let go of', { table: largest.name, bytes })
    return true
  }

  private freeLargest(): Promise<'done' | 'nothing' | 'failed'> {
    this.freeing ??= this.freeOne().finally(() => {
      this.freeing = null
    })
    return this.freeing
  }

  private async freeOne(): Promise<'done' | 'nothing' | 'failed'> {
    const candidates = [...this.parts.mirrors.values()]
      .filter((mirror) => mirror.currentPhase === 'streaming' && mirror.memory.freeableBytes > 0)
      .sort((a, b) => b.memory.freeableBytes - a.memory.freeableBytes)
    const leastBytes = this.leastEarlyBytes(candidates)
    for (const mirror of candidates) {
      try {
        // Never waits for a transaction's end: the stream may be waiting for us, and would not bring it.
        if (!mirror.hasOpenTransaction && (await mirror.tryFlush())) return 'done'
        mirror.memory.flushSoon()
        if ((await mirror.memory.writeEarly(leastBytes)) === 'done') return 'done'
      } catch (error) {
        this.parts.logger.error('memory could not be freed', { table: mirror.name, error: String(error) })
        return 'failed'
      }
    }
    return 'nothing'
  }

  /** Of a transaction that many tables share, no table may have much. */
  private leastEarlyBytes(candidates: readonly Mirror[]): number {
    const { limitBytes } = this.parts
    const freeable = candidates.reduce((sum, mirror) => sum + mirror.memory.freeableBytes, 0)
    if (this.usedBytes < limitBytes * WAIT_SHARE || freeable < limitBytes * FREEABLE_SHARE) return Infinity
    return (freeable / candidates.length) * ROWS_SHARE
  }
}
