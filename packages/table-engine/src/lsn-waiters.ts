import { MoonlinkError, type Clock, type Lsn } from '@moonlink/core'

interface Waiter {
  readonly lsn: Lsn
  readonly wake: () => void
  readonly fail: (error: MoonlinkError) => void
}

/** Callers that wait for a position to be reached. */
export class LsnWaiters {
  private readonly clock: Clock
  private waiting: Waiter[] = []

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Wakes those whose position is reached. */
  reached(lsn: Lsn): void {
    if (this.waiting.length === 0) return
    const due = this.waiting.filter((waiter) => waiter.lsn <= lsn)
    if (due.length === 0) return
    this.waiting = this.waiting.filter((waiter) => waiter.lsn > lsn)
    for (const waiter of due) waiter.wake()
  }

  /** Nobody's position will be reached any more. */
  fail(error: MoonlinkError): void {
    for (const waiter of this.waiting) waiter.fail(error)
  }

  /** Resolves once `reached` has been told `lsn` or more; throws `retry`/`TIMED_OUT` with `message` after `timeoutMs`. */
  async wait(lsn: Lsn, timeoutMs: number, message: () => string): Promise<void> {
    const abort = new AbortController()
    let waiter: Waiter | undefined
    const woken = new Promise<void>((wake, fail) => this.waiting.push((waiter = { lsn, wake, fail })))
    try {
      await Promise.race([
        woken,
        this.clock.sleep(timeoutMs, abort.signal).then(() => {
          throw new MoonlinkError('retry', 'TIMED_OUT', message())
        }),
      ])
    } finally {
      this.waiting = this.waiting.filter((other) => other !== waiter)
      abort.abort(new Error('no longer waiting'))
    }
  }
}
