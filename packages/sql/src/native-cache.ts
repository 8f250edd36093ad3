import type { Clock } from '@moonlink/core'
import type { DuckDBInstance } from '@duckdb/node-api'
import type { FileScan, TablePlan } from '@moonlink/union-read'
import { IncarnationCache, type CacheUse } from './incarnation-cache.ts'
import { LiveMasks, MaskBudget } from './live-masks.ts'
import { NATIVE_DATABASE } from './open-duckdb.ts'

const SWEEP_EVERY_MS = 1_000

export interface NativeCacheOptions {
  /** Tables that no query used for this long are dropped. */
  readonly keepUnusedMs: number
  /** What all live masks together may take. */
  readonly maskLimitBytes: number
  /** Threads of a query. */
  readonly threads: number
  /** From so many facts on, statements that look at few rows use bits. */
  readonly minBitFacts: number
}

/** The native tables of all incarnations, each fed through a connection of its own. */
export class NativeCache {
  readonly database = NATIVE_DATABASE
  private readonly instance: DuckDBInstance
  private readonly clock: Clock
  private readonly options: NativeCacheOptions
  private readonly budget: MaskBudget
  private readonly caches = new Map<string, IncarnationCache>()
  private tableCount = 0
  private sweptMs: number

  constructor(instance: DuckDBInstance, clock: Clock, options: NativeCacheOptions) {
    this.instance = instance
    this.clock = clock
    this.options = options
    this.budget = new MaskBudget(options.maskLimitBytes)
    this.sweptMs = clock.nowMs()
  }

  use(plan: TablePlan, masked: readonly FileScan[]): Promise<CacheUse> {
    if (plan.memory.length === 0 && !plan.files.some((file) => file.hasDeletes)) {
      return Promise.resolve({ tails: new Map(), masks: new Map(), deletes: null, bits: null, release: () => undefined })
    }
    let cache = this.caches.get(plan.incarnation)
    if (cache === undefined) {
      cache = new IncarnationCache(
        this.instance,
        (kind) => `${kind}${++this.tableCount}`,
        () => this.clock.nowMs(),
        new LiveMasks(this.budget, this.options.threads),
        this.options.minBitFacts,
      )
      this.caches.set(plan.incarnation, cache)
    }
    return cache.use(plan, masked)
  }

  async sweepIfDue(): Promise<void> {
    if (this.clock.nowMs() - this.sweptMs >= SWEEP_EVERY_MS) await this.sweep()
  }

  async sweep(): Promise<void> {
    this.sweptMs = this.clock.nowMs()
    const usedBeforeMs = this.sweptMs - this.options.keepUnusedMs
    for (const incarnation of this.caches.keys()) await this.sweepOne(incarnation, usedBeforeMs)
  }

  async release(incarnation: string): Promise<void> {
    await this.sweepOne(incarnation, Number.POSITIVE_INFINITY)
  }

  async close(): Promise<void> {
    for (const cache of this.caches.values()) await cache.close()
    this.caches.clear()
  }

  private async sweepOne(incarnation: string, usedBeforeMs: number): Promise<void> {
    const cache = this.caches.get(incarnation)
    await cache?.sweep(usedBeforeMs)
    if (cache?.isIdle === true) this.caches.delete(incarnation)
  }
}
