import type { Clock } from '@moonlink/core'

/** Work that is done again and again, an interval after it has ended, until it is stopped. */
export class Repeating {
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #work: () => Promise<unknown>
  readonly #stopped = new AbortController()
  #running: Promise<void> = Promise.resolve()

  /** `work` deals with its own errors. */
  constructor(clock: Clock, intervalMs: number, work: () => Promise<unknown>) {
    this.#clock = clock
    this.#intervalMs = intervalMs
    this.#work = work
  }

  start(): void {
    this.#running = this.#run()
  }

  /** Resolves once nothing runs. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error('stopped'))
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      await this.#clock.sleep(this.#intervalMs, signal).catch(() => undefined)
      if (!signal.aborted) await this.#work()
    }
  }
}
