import type { Clock } from '@moonlink/core'
import type { DuckDBInstance } from '@duckdb/node-api'
import type { FileScan, TablePlan } from '@moonlink/union-read'
import { IncarnationCache, type CacheUse } from './incarnation-cache.ts'
import { LiveMasks, type MaskBudget } from './live-masks.ts'
import { NATIVE_DATABASE } from './open-duckdb.ts'

const SWEEP_EVERY_MS = 1_000

/** The native tables of all incarnations, each fed through a connection of its own. */
export class NativeCache {
  readonly database = NATIVE_DATABASE
  private readonly instance: DuckDBInstance
  private readonly clock: Clock
  private readonly keepUnusedMs: number
  private readonly budget: MaskBudget
  private readonly threads: number
  private readonly caches = new Map<string, IncarnationCache>()
  private tableCount = 0
  private sweptMs: number

  constructor(instance: DuckDBInstance, clock: Clock, keepUnusedMs: number, budget: MaskBudget, threads: number) {
    this.instance = instance
    this.clock = clock
    this.keepUnusedMs = keepUnusedMs
    this.budget = budget
    this.threads = threads
    this.sweptMs = clock.nowMs()
  }

  use(plan: TablePlan, masked: readonly FileScan[]): Promise<CacheUse> {
    if (plan.memory.length === 0 && !plan.files.some((file) => file.hasDeletes)) {
      return Promise.resolve({ tails: new Map(), masks: new Map(), deletes: null, release: () => undefined })
    }
    let cache = this.caches.get(plan.incarnation)
    if (cache === undefined) {
      cache = new IncarnationCache(
        this.instance,
        (kind) => `${kind}${++this.tableCount}`,
        () => this.clock.nowMs(),
        new LiveMasks(this.budget, this.threads),
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
    const usedBeforeMs = this.sweptMs - this.keepUnusedMs
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
