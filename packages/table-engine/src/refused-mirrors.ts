import type { Clock } from '@moonlink/core'
import { patienceFor, type Refusal } from './outcomes.ts'
import type { Mirror } from './mirror.ts'
import { RetryDelay } from './retry-delay.ts'

/** Finds the tables that alone are refused what they need: their commits, their copy, or what changes are applied by. What is refused to all may be the whole store, and is waited for. */
export class RefusedMirrors {
  private readonly mirrors: ReadonlyMap<string, Mirror>
  private readonly clock: Clock
  private readonly retry = new RetryDelay()
  /** By table that is refused, when another was first seen not to be since. */
  private readonly othersAllowedMs = new Map<string, number>()
  private isTrying = false
  private tries = 0

  /** `mirrors` may change. */
  constructor(mirrors: ReadonlyMap<string, Mirror>, clock: Clock) {
    this.mirrors = mirrors
    this.clock = clock
  }

  /**
   * Those that have been refused for `patienceMs`, and again after another table could be written; the one with most in memory comes first. Where none was committed since, another is
   * tried beside this, which tells it the next time.
   */
  alone(patienceMs: number): readonly Mirror[] {
    const all = [...this.mirrors.values()]
    const refused = all.flatMap((mirror) => (mirror.refusal === null ? [] : [{ mirror, refusal: mirror.refusal }]))
    for (const name of this.othersAllowedMs.keys())
      if (!refused.some(({ mirror }) => mirror.name === name)) this.othersAllowedMs.delete(name)
    if (refused.length === 0) return []
    const allowedAtMs = Math.max(...all.map((mirror) => mirror.allowedAtMs ?? -Infinity))
    for (const { mirror, refusal } of refused)
      if (refusal.sinceMs < allowedAtMs && !this.othersAllowedMs.has(mirror.name)) this.othersAllowedMs.set(mirror.name, allowedAtMs)
    const due = refused.filter(({ refusal }) => this.isDue(refusal, patienceMs))
    if (due.some(({ mirror }) => !this.othersAllowedMs.has(mirror.name))) this.tryOther(all)
    // What was refused to all is over for one after the other.
    const alone = due.filter(({ mirror, refusal }) => refusal.lastMs > (this.othersAllowedMs.get(mirror.name) ?? Infinity))
    return alone.map(({ mirror }) => mirror).sort((a, b) => b.memory.freeableBytes - a.memory.freeableBytes)
  }

  private isDue(refusal: Refusal, patienceMs: number): boolean {
    return refusal.sinceMs <= this.clock.nowMs() - patienceFor(refusal, patienceMs)
  }

  private tryOther(all: readonly Mirror[]): void {
    const { clock, retry } = this
    const others = all.filter(({ currentPhase, refusal }) => currentPhase === 'streaming' && refusal === null)
    if (others.length === 0 || this.isTrying || !retry.isOver(clock.nowMs())) return
    this.isTrying = true
    void others[this.tries++ % others.length]
      .tryStorage()
      .then(() => retry.succeeded())
      .catch(() => retry.failed(clock.nowMs()))
      .finally(() => (this.isTrying = false))
  }
}
