import type { Clock } from '@moonlink/core'

/** How much a turn of the event loop counts while somebody sleeps. */
const TURN_MS = 5

interface Sleeper {
  readonly untilMs: number
  wake(): void
}

/** Simulated time: it moves by `advance`, and by a little with each turn of the event loop while somebody sleeps. */
export class SimClock implements Clock {
  private ms = 1_700_000_000_000
  private readonly sleepers = new Set<Sleeper>()
  private isPumping = false

  nowMs(): number {
    return this.ms
  }

  advance(ms: number): void {
    this.ms += ms
    for (const sleeper of this.sleepers) if (sleeper.untilMs <= this.ms) sleeper.wake()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const onAbort = () => {
        this.sleepers.delete(sleeper)
        reject(signal!.reason as Error)
      }
      const sleeper: Sleeper = {
        untilMs: this.ms + ms,
        wake: () => {
          this.sleepers.delete(sleeper)
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.sleepers.add(sleeper)
      void this.pump()
    })
  }

  /** Nobody wakes any more: the simulation is over. */
  stop(): void {
    this.sleepers.clear()
  }

  private async pump(): Promise<void> {
    if (this.isPumping) return
    this.isPumping = true
    while (this.sleepers.size > 0) {
      await nextTurn()
      this.advance(TURN_MS)
    }
    this.isPumping = false
  }
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
