import type { Clock } from '@moonlink/core'
import type { Mirror } from './mirror.ts'
import { RetryDelay } from './retry-delay.ts'

/** Finds the tables whose commits alone are refused for a missing permission. What is refused to all may be the whole store, and is waited for. */
export class DeniedMirrors {
  private readonly mirrors: ReadonlyMap<string, Mirror>
  private readonly clock: Clock
  private readonly retry = new RetryDelay()
  private isTrying = false
  private tries = 0

  /** `mirrors` may change. */
  constructor(mirrors: ReadonlyMap<string, Mirror>, clock: Clock) {
    this.mirrors = mirrors
    this.clock = clock
  }

  /**
   * Those whose commits have been refused for `patienceMs`, while another table may be written; the one with most in memory comes first. Where none was committed since, another is
   * tried beside this, which tells it the next time.
   */
  alone(patienceMs: number): readonly Mirror[] {
    const all = [...this.mirrors.values()]
    const denied = all.filter(({ deniedSinceMs }) => deniedSinceMs !== null && deniedSinceMs <= this.clock.nowMs() - patienceMs)
    if (denied.length === 0) return []
    const allowedAtMs = Math.max(...all.map((mirror) => mirror.allowedAtMs ?? -Infinity))
    const alone = denied.filter(({ deniedSinceMs }) => deniedSinceMs! < allowedAtMs)
    if (alone.length === 0) this.tryOther(all)
    return alone.sort((a, b) => b.memory.freeableBytes - a.memory.freeableBytes)
  }

  private tryOther(all: readonly Mirror[]): void {
    const { clock, retry } = this
    const others = all.filter(({ currentPhase, deniedSinceMs }) => currentPhase === 'streaming' && deniedSinceMs === null)
    if (others.length === 0 || this.isTrying || !retry.isOver(clock.nowMs())) return
    this.isTrying = true
    void others[this.tries++ % others.length]
      .tryStorage()
      .then(() => retry.succeeded())
      .catch(() => retry.failed(clock.nowMs()))
      .finally(() => (this.isTrying = false))
  }
}
