/** Time as a port, so that a node runs in simulated time too. */
export interface Clock {
  /**
   * Wall-clock milliseconds since 1970, whole ones. It never goes back, and at no less than half the speed of time, so that what is due is due in time where somebody sets
   * the clock back.
   */
  nowMs(): number
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** Node takes a longer time for a millisecond. */
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * A wall clock as `Clock.nowMs` shows it: it follows one that is set forward, and goes on at half the speed of time while one that was set back is behind it.
 * `monotonicMs` is nobody's to set.
 */
export function steadyTime(wallMs: () => number, monotonicMs: () => number): () => number {
  let shownMs = Number.NEGATIVE_INFINITY
  let shownAtMs = 0
  return () => {
    const atMs = monotonicMs()
    shownMs = Math.max(wallMs(), shownMs + (atMs - shownAtMs) / 2)
    shownAtMs = atMs
    return Math.floor(shownMs)
  }
}

/** The clock of this machine. It never goes back, whatever is done to the wall clock. */
export const systemClock: Clock = {
  nowMs: steadyTime(
    () => Date.now(),
    () => performance.now(),
  ),
  async sleep(ms, signal) {
    for (let left = ms; ; left -= MAX_TIMER_MS) {
      await timer(Math.min(left, MAX_TIMER_MS), signal)
      if (left <= MAX_TIMER_MS) return
    }
  },
}

function timer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error)
    const onAbort = () => {
      clearTimeout(running)
      reject(signal!.reason as Error)
    }
    const running = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
