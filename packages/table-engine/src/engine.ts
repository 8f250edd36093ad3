import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  formatLsn,
  formatTableName,
  maxLsn,
  minLsn,
  MoonlinkError,
  randomUuid,
  silentTelemetry,
  type Clock,
  type ExactRange,
  type Logger,
  type Lsn,
  type Random,
  type SourceEvent,
  type Telemetry,
  type TableName,
} from '@moonlink/core'
import { BlockCache } from '@moonlink/pk-index'
import type { AcquireRequest, Lease, LeaseSource, TablePlan } from '@moonlink/union-read'
import { batchBytes } from './held-batches.ts'
import type { EngineLimits } from './limits.ts'
import { FilterMemory } from './filter-memory.ts'
import { LsnWaiters } from './lsn-waiters.ts'
import { Mirror } from './mirror.ts'
import type { MirrorSpec, MirrorStatus } from './mirror-spec.ts'
import { SealedFiles } from './sealed-files.ts'

export interface EngineOptions {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly telemetry?: Telemetry
  /** Local directory for sealed key indexes; they can be made again from the data. */
  readonly indexDirectory: string
  readonly limits: EngineLimits
}

/** Share of the memory limit for blocks of sealed indexes read from disk. */
const INDEX_CACHE_SHARE = 0.1
/** Share of the memory limit for filters of sealed indexes. While less than `LOAD_SHARE` is in use, those let go of come back. */
const FILTER_SHARE = 0.25
const LOAD_SHARE = 0.4
/** At this share of the memory limit the largest mirror is flushed; at the next the source waits for it. */
const FLUSH_SHARE = 0.5
const WAIT_SHARE = 0.8
/** What is applied between two looks at the memory in use: rows, or this share of the limit. */
const MEMORY_CHECK_ROWS = 20_000
const MEMORY_CHECK_SHARE = 1 / 64
const POLL_MS = 5
const HOLD_POLL_MS = 100
/** Of the ranges that older snapshots show, a message names so many. */
const RANGES_SHOWN = 8

/**
 * All mirrors of one source, on one LSN line. `apply` takes the stream's events in order; readers get leases over a consistent
 * cut. Everything runs on one thread; flushes and compactions run beside applying.
 */
export class Engine implements LeaseSource {
  private readonly options: EngineOptions
  private readonly telemetry: Telemetry
  private readonly mirrors = new Map<string, Mirror>()
  private readonly leased = new Map<string, number>()
  private readonly applied: LsnWaiters
  private readonly blockCache: BlockCache
  private readonly filters: FilterMemory
  /** Called when another owner has taken a table over: this engine should stop. */
  onFenced: (error: MoonlinkError) => void = () => {}
  private appliedTo: Lsn = 0n
  /** How far the current stream has come; falls behind `appliedTo` when a lost stream had to start again earlier. */
  private streamedTo: Lsn = 0n
  private sourceTo: Lsn = 0n
  private latestFrom: Lsn = 0n
  private rowsSinceCheck = 0
  private bytesSinceCheck = 0
  private freeing: Promise<'done' | 'nothing' | 'failed'> | null = null

  constructor(options: EngineOptions) {
    this.options = options
    this.telemetry = options.telemetry ?? silentTelemetry
    this.applied = new LsnWaiters(options.clock)
    this.blockCache = new BlockCache(Math.floor(options.limits.memoryLimitBytes * INDEX_CACHE_SHARE))
    this.filters = new FilterMemory(Math.floor(options.limits.memoryLimitBytes * FILTER_SHARE))
  }

  get appliedLsn(): Lsn {
    return this.appliedTo
  }

  get sourceLsn(): Lsn {
    return maxLsn(this.sourceTo, this.appliedTo)
  }

  /** Bytes that rows, indexes and logs take in memory. */
  get memoryBytes(): number {
    let bytes = this.blockCache.byteSize
    for (const mirror of this.mirrors.values()) bytes += mirror.byteSize
    return bytes
  }

  /** Opens the mirror at its last commit. Where its `committedLsn` is null, copy it: `appendCopied`, then `finishCopy`. */
  async addMirror(spec: MirrorSpec): Promise<Mirror> {
    const { clock, logger, limits } = this.options
    const name = formatTableName(spec.table)
    if (this.mirrors.has(name)) throw new MoonlinkError('invalid', 'TABLE_EXISTS', `${name} is mirrored already`)
    const mirror = await Mirror.open(spec, {
      clock,
      logger,
      telemetry: this.telemetry,
      limits,
      sealedFiles: new SealedFiles(this.indexDirectoryOf(name), this.blockCache, this.filters),
      appliedLsn: () => this.appliedTo,
      streamedLsn: () => this.streamedTo,
      newIncarnation: () => randomUuid(this.options.random),
      leasedPaths: () => new Set(this.leased.keys()),
      fenced: (error) => this.onFenced(error),
    })
    this.mirrors.set(name, mirror)
    return mirror
  }

  /** Forgets the mirror and its local indexes; its Iceberg table stays. */
  async removeMirror(name: string): Promise<void> {
    const mirror = this.mirrors.get(name)
    if (!mirror) return
    this.mirrors.delete(name)
    await mirror.close()
    await mirror.abandonEarlyFiles()
    await rm(this.indexDirectoryOf(name), { recursive: true, force: true })
  }

  mirror(name: string): Mirror | undefined {
    return this.mirrors.get(name)
  }

  /** "Latest" answers only once `sourceLsn`, the source's position at the start, is applied: no reader sees time go back. */
  requireCatchUp(sourceLsn: Lsn): void {
    this.latestFrom = maxLsn(this.latestFrom, sourceLsn)
    this.sourceTo = maxLsn(this.sourceTo, sourceLsn)
  }

  /** Applies the stream's next event. Resolves when its memory may be reused; waits where memory nears its limit. */
  async apply(event: SourceEvent): Promise<void> {
    switch (event.kind) {
      case 'batch': {
        const mirror = this.mirrors.get(formatTableName(event.batch.table))
        await mirror?.apply(event.batch)
        if (mirror) this.telemetry.count('moonlink_changes_total', event.batch.ops.length, { table: mirror.name })
        this.rowsSinceCheck += event.batch.ops.length
        this.bytesSinceCheck += batchBytes(event.batch)
        const checkBytes = this.options.limits.memoryLimitBytes * MEMORY_CHECK_SHARE
        if (this.rowsSinceCheck >= MEMORY_CHECK_ROWS || this.bytesSinceCheck >= checkBytes) await this.holdMemory()
        return
      }
      case 'watermark':
        this.streamedTo = event.lsn
        this.appliedTo = maxLsn(this.appliedTo, event.lsn)
        this.sourceTo = maxLsn(this.sourceTo, event.sourceLsn)
        this.applied.reached(this.streamedTo)
        if (event.commitTimeMs !== null) this.noteFreshness(event.commitTimeMs)
        return
      case 'truncate':
        for (const table of event.tables) await this.mirrors.get(formatTableName(table))?.truncate(event.openLsn)
        return
      case 'schema':
        return this.mirrors.get(formatTableName(event.table))?.reshape(event.shape, event.openLsn)
      case 'recopy':
        return this.pause(event.table, event.code, `${event.reason}; drop and add the table to copy it again`)
      case 'unmirrorable':
        return this.pause(event.table, event.code, event.reason)
    }
  }

  /**
   * After a lost stream: true where the next may open at `appliedLsn`; false where an open transaction had to be rolled back, so
   * that it must open at `restartLsn()`.
   */
  async resetOpenTransaction(): Promise<boolean> {
    const open = [...this.mirrors.values()].filter((mirror) => mirror.hasOpenTransaction)
    if (open.length === 0) return true
    const kept = [...this.mirrors.values()].filter((mirror) => !open.includes(mirror))
    for (const mirror of open) await mirror.reload(this.appliedTo)
    for (const mirror of kept) mirror.skipTo(this.appliedTo)
    this.streamedTo = [...this.mirrors.values()]
      .map((mirror) => (open.includes(mirror) && mirror.currentPhase === 'streaming' ? mirror.committedLsn : mirror.durableLsn()))
      .filter((lsn) => lsn !== null)
      .reduce(minLsn, this.appliedTo)
    return false
  }

  /** Where a stream must open so that no mirror misses a change. */
  restartLsn(): Lsn {
    let lsn: Lsn | null = null
    for (const mirror of this.mirrors.values()) {
      const needed = mirror.durableLsn()
      if (needed !== null) lsn = lsn === null ? needed : minLsn(lsn, needed)
    }
    return lsn ?? this.appliedTo
  }

  /** What the source may forget. */
  acknowledgeableLsn(): Lsn {
    return minLsn(this.restartLsn(), this.streamedTo)
  }

  /** Throws `retry`/`TIMED_OUT`. */
  async waitApplied(lsn: Lsn, timeoutMs: number): Promise<void> {
    if (this.streamedTo >= lsn && this.appliedTo >= lsn) return
    await this.applied.wait(
      lsn,
      timeoutMs,
      () => `${formatLsn(lsn)} is not applied after ${timeoutMs} ms (applied: ${formatLsn(this.streamedTo)})`,
    )
  }

  /** Waits until Iceberg commits of the tables (default: all) cover `lsn`, flushing what is due to it. Throws `retry`/`TIMED_OUT`. */
  async waitCommitted(lsn: Lsn, timeoutMs: number, tables?: readonly string[]): Promise<void> {
    const { clock } = this.options
    const deadline = clock.nowMs() + timeoutMs
    await this.waitApplied(lsn, timeoutMs)
    for (const mirror of this.chosen(tables)) {
      for (;;) {
        const durable = mirror.durableLsn()
        if (durable === null || (mirror.currentPhase === 'streaming' && durable >= lsn)) break
        if (clock.nowMs() >= deadline)
          throw new MoonlinkError('retry', 'TIMED_OUT', `${mirror.name}: no Iceberg commit covers ${formatLsn(lsn)} after ${timeoutMs} ms`)
        if (mirror.currentPhase === 'streaming')
          await withDeadline(
            clock,
            deadline - clock.nowMs(),
            mirror.flush(),
            () => `${mirror.name}: no Iceberg commit covers ${formatLsn(lsn)} after ${timeoutMs} ms`,
          )
        else await clock.sleep(POLL_MS * 4)
      }
    }
  }

  /** Commits what was applied when called. */
  async flush(tables?: readonly string[]): Promise<void> {
    await Promise.all(this.chosen(tables).map((mirror) => mirror.flush()))
  }

  status(): readonly MirrorStatus[] {
    return [...this.mirrors.values()].map((mirror) => mirror.status())
  }

  /** Starts due flushes, compactions and expiries; call it every 100 ms or so. */
  async tick(): Promise<void> {
    for (const mirror of this.mirrors.values()) mirror.tick()
    await this.filters.loadOne(this.options.limits.memoryLimitBytes * LOAD_SHARE - this.memoryBytes)
  }

  readableTables(): readonly string[] {
    return [...this.mirrors.keys()]
  }

  async acquire(request: AcquireRequest): Promise<Lease> {
    const mirrors = request.tables.map((name) => this.readable(name, request.lsn))
    if (request.lsn === null) {
      const needed = [this.latestFrom, ...mirrors.flatMap((mirror) => [mirror.readableFrom, mirror.floor])].reduce(maxLsn, 0n)
      await this.waitApplied(needed, request.timeoutMs)
      return this.lease(
        this.appliedTo,
        mirrors.map((mirror) => mirror.plan(this.appliedTo)),
      )
    }
    const { lsn } = request
    await this.waitApplied(mirrors.map((mirror) => mirror.readableFrom).reduce(maxLsn, lsn), request.timeoutMs)
    const lease = await this.leasePast(mirrors, lsn)
    // A commit may have raised a floor while snapshots were loaded.
    return lease ?? this.acquire(request)
  }

  /** A lease at an LSN that may lie below floors; null where a floor rose meanwhile. */
  private async leasePast(mirrors: readonly Mirror[], lsn: Lsn): Promise<Lease | null> {
    const retained = new Map<Mirror, TablePlan>()
    const holds: (() => void)[] = []
    try {
      for (const mirror of mirrors) {
        if (lsn >= mirror.floor) continue
        holds.push(await mirror.holdSnapshots())
        const plan = await mirror.planRetained(lsn)
        if (!plan) throw notHeld(mirror, lsn, this.appliedTo)
        retained.set(mirror, plan)
      }
      if (mirrors.some((mirror) => lsn < mirror.floor && !retained.has(mirror))) return null
      return this.lease(
        lsn,
        mirrors.map((mirror) => retained.get(mirror) ?? mirror.plan(lsn)),
      )
    } finally {
      for (const release of holds) release()
    }
  }

  async close(): Promise<void> {
    for (const mirror of this.mirrors.values()) await mirror.close()
    this.mirrors.clear()
  }

  private lease(lsn: Lsn, plans: readonly TablePlan[]): Lease {
    const paths = plans.flatMap((plan) => plan.files.map((file) => file.path))
    for (const path of paths) this.leased.set(path, (this.leased.get(path) ?? 0) + 1)
    let released = false
    return {
      lsn,
      tables: new Map(plans.map((plan) => [formatTableName(plan.table), plan])),
      release: () => {
        if (released) return
        released = true
        for (const path of paths) {
          const count = this.leased.get(path)! - 1
          if (count === 0) this.leased.delete(path)
          else this.leased.set(path, count)
        }
      },
    }
  }

  private readable(name: string, lsn: Lsn | null): Mirror {
    const mirror = this.mirrors.get(name)
    if (!mirror) {
      const known = [...this.mirrors.keys()].join(', ') || 'none'
      throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `no table ${name} is mirrored (mirrored: ${known})`)
    }
    const held = mirror.readableWhileResyncing
    if (held !== null) {
      if (lsn !== null && lsn <= held) return mirror
      const until = `${name} is made equal to its source again: ${mirror.pauseReason ?? ''}. Until then it can be read at ${formatLsn(held)} (--at-lsn)`
      throw new MoonlinkError('retry', 'TABLE_RESYNCING', until)
    }
    if (mirror.currentPhase === 'copying')
      throw new MoonlinkError('retry', 'TABLE_COPYING', `${name} is still being copied; try again when it is streaming`)
    if (mirror.currentPhase !== 'streaming')
      throw new MoonlinkError('invalid', 'TABLE_PAUSED', `${name} is ${mirror.currentPhase}: ${mirror.pauseReason ?? ''}`)
    return mirror
  }

  private noteFreshness(commitTimeMs: number): void {
    const seconds = (this.options.clock.nowMs() - commitTimeMs) / 1000
    this.telemetry.observe('moonlink_freshness_seconds', Math.max(0, seconds))
  }

  /** The other tables do not wait for what the pause commits. */
  private pause(table: TableName, code: string, reason: string): void {
    const mirror = this.mirrors.get(formatTableName(table))
    mirror
      ?.pause(code, reason)
      .catch((error: unknown) => this.options.logger.error('a pause failed', { table: mirror.name, error: String(error) }))
  }

  private chosen(tables?: readonly string[]): Mirror[] {
    if (!tables) return [...this.mirrors.values()]
    return tables.map((name) => {
      const mirror = this.mirrors.get(name)
      if (!mirror) throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `no table ${name} is mirrored; moonlink tables list shows what is`)
      return mirror
    })
  }

  /**
   * Frees memory when it grows: flushes the largest mirror, or writes a part of its open transaction to a file. Near the limit the
   * source waits: until memory is free, however often that has to be tried, and until tables being copied have taken the changes held
   * for them.
   */
  private async holdMemory(): Promise<void> {
    this.rowsSinceCheck = 0
    this.bytesSinceCheck = 0
    const { memoryLimitBytes } = this.options.limits
    if (this.memoryBytes < memoryLimitBytes * FLUSH_SHARE) return
    for (const mirror of this.mirrors.values()) mirror.releaseCaches()
    const startedMs = this.options.clock.nowMs()
    let freed = this.freeLargest()
    while (this.memoryBytes >= memoryLimitBytes * WAIT_SHARE) {
      const before = this.memoryBytes
      const outcome = await freed
      const mirrors = [...this.mirrors.values()]
      const mustWait = outcome === 'failed' || mirrors.some((mirror) => mirror.isHoldingForCopy || mirror.isFlushing)
      // Filters are read from disk then, a block at a time: slower, but it goes on.
      this.filters.release(this.memoryBytes - memoryLimitBytes * WAIT_SHARE)
      if (this.memoryBytes >= before) {
        // What is left are indexes, or too little of an open transaction to write: waiting would not free it.
        if (!mustWait && outcome === 'nothing') break
        if (mustWait) await this.options.clock.sleep(HOLD_POLL_MS)
      }
      freed = this.freeLargest()
    }
    this.telemetry.count('moonlink_backpressure_seconds_total', (this.options.clock.nowMs() - startedMs) / 1000)
  }

  private freeLargest(): Promise<'done' | 'nothing' | 'failed'> {
    this.freeing ??= this.freeOne().finally(() => {
      this.freeing = null
    })
    return this.freeing
  }

  private async freeOne(): Promise<'done' | 'nothing' | 'failed'> {
    const candidates = [...this.mirrors.values()]
      .filter((mirror) => mirror.currentPhase === 'streaming' && mirror.freeableBytes > 0)
      .sort((a, b) => b.freeableBytes - a.freeableBytes)
    for (const mirror of candidates) {
      try {
        if (!mirror.hasOpenTransaction) {
          await mirror.flush()
          return 'done'
        }
        mirror.flushSoon()
        if ((await mirror.writeEarly()) === 'done') return 'done'
      } catch (error) {
        this.options.logger.error('memory could not be freed', { table: mirror.name, error: String(error) })
        return 'failed'
      }
    }
    return 'nothing'
  }

  private indexDirectoryOf(name: string): string {
    return join(this.options.indexDirectory, createHash('sha256').update(name).digest('hex').slice(0, 16))
  }
}

function notHeld(mirror: Mirror, lsn: Lsn, applied: Lsn): MoonlinkError {
  const text = ({ fromLsn, throughLsn }: ExactRange) =>
    fromLsn === throughLsn ? formatLsn(fromLsn) : `${formatLsn(fromLsn)} to ${formatLsn(throughLsn)}`
  const retained = mirror.retainedRanges().map(text)
  const also =
    retained.length > 0
      ? `, and in older snapshots ${retained.slice(0, RANGES_SHOWN).join(', ')}${retained.length > RANGES_SHOWN ? ', …' : ''}`
      : ''
  return new MoonlinkError(
    'invalid',
    'LSN_NOT_HELD',
    `${mirror.name} can't be read at ${formatLsn(lsn)} any more: held are ${formatLsn(mirror.floor)} to ${formatLsn(applied)}${also}`,
    { context: { table: mirror.name, lsn: formatLsn(lsn), floor: formatLsn(mirror.floor), applied: formatLsn(applied) } },
  )
}

async function withDeadline<T>(clock: Clock, timeoutMs: number, work: Promise<T>, message: () => string): Promise<T> {
  const abort = new AbortController()
  try {
    return await Promise.race([
      work,
      clock.sleep(Math.max(0, timeoutMs), abort.signal).then(() => {
        throw new MoonlinkError('retry', 'TIMED_OUT', message())
      }),
    ])
  } finally {
    work.catch(() => undefined)
    abort.abort(new Error('done'))
  }
}
