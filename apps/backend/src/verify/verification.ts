import { formatTableName, type Clock, type MoonlinkError, type Logger, type Telemetry } from '@moonlink/core'
import { toMoonlinkError } from '../http/errors.ts'
import type { TableVerdict, Verifier, VerifyProgress, VerifyTarget } from './verifier.ts'

/** What is known of one table's last comparison. */
export type VerifyOutcome =
  | { readonly kind: 'verdict'; readonly verdict: TableVerdict; readonly atMs: number }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly atMs: number }

export interface VerificationOptions {
  readonly verifier: Pick<Verifier, 'verify' | 'waitedMs'>
  readonly clock: Clock
  /** Time that nobody can set: what a comparison costs is told by it. Default: of this process. */
  readonly monotonicMs?: () => number
  readonly logger: Logger
  readonly telemetry: Pick<Telemetry, 'span' | 'observe' | 'count'>
  /** Tables that can be compared now. */
  readonly targets: () => readonly VerifyTarget[]
  /** Share of the time that the continuous mode spends comparing, 0 … 1; 0: it is off. */
  readonly share: number
  /** In the continuous mode, the shortest time between two comparisons, in ms. */
  readonly minPauseMs: number
}

export type VerifyEvent =
  | { readonly kind: 'progress'; readonly progress: VerifyProgress }
  | { readonly kind: 'outcome'; readonly table: string; readonly outcome: VerifyOutcome }

/** Comparisons on request and, where a share of the time is set for it, one table after the other for ever. One comparison at a time. */
export class Verification {
  readonly outcomes = new Map<string, VerifyOutcome>()
  readonly #options: VerificationOptions
  readonly #stopped = new AbortController()
  #turn: Promise<unknown> = Promise.resolve()
  #running: VerifyProgress | null = null
  #loop: Promise<void> = Promise.resolve()

  constructor(options: VerificationOptions) {
    this.#options = options
  }

  /** What is being compared now. */
  get running(): VerifyProgress | null {
    return this.#running
  }

  start(): void {
    if (this.#options.share > 0) this.#loop = this.#forEver()
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('stopped'))
    await this.#loop
    await this.#turn
  }

  /**
   * Compares tables one after the other. A table that can't be compared gives a `failed` outcome, and the next goes on; `others`, by name, are not even
   * tried, for these reasons.
   */
  async *run(targets: readonly VerifyTarget[], others: ReadonlyMap<string, MoonlinkError> = new Map()): AsyncGenerator<VerifyEvent> {
    const atMs = this.#options.clock.nowMs()
    for (const [table, { code, message }] of others) yield { kind: 'outcome', table, outcome: { kind: 'failed', code, message, atMs } }
    for (const target of targets) {
      let wake: () => void = () => undefined
      let last: VerifyProgress | null = null
      let shown: VerifyProgress | null = null
      let done = false
      const outcome = this.#compare(target, (progress) => {
        last = progress
        wake()
      }).finally(() => {
        done = true
        wake()
      })
      while (!done) {
        if (last !== null && last !== shown) yield { kind: 'progress', progress: (shown = last) }
        else await new Promise<void>((resolve) => (wake = resolve))
      }
      yield { kind: 'outcome', table: formatTableName(target.table), outcome: await outcome }
    }
  }

  #compare(target: VerifyTarget, onProgress: (progress: VerifyProgress) => void): Promise<VerifyOutcome> {
    const mine = this.#turn.then(() => this.#compareNow(target, onProgress))
    this.#turn = mine
    return mine
  }

  async #compareNow(target: VerifyTarget, onProgress: (progress: VerifyProgress) => void): Promise<VerifyOutcome> {
    const { clock, logger, telemetry, verifier } = this.#options
    const startedMs = clock.nowMs()
    const table = formatTableName(target.table)
    let outcome: VerifyOutcome
    try {
      const progressed = (progress: VerifyProgress) => {
        this.#running = progress
        onProgress(progress)
      }
      const verdict = await telemetry.span('verify', { table }, () => verifier.verify(target, progressed, this.#stopped.signal))
      telemetry.observe('moonlink_verify_seconds', (clock.nowMs() - startedMs) / 1000, { table })
      outcome = { kind: 'verdict', verdict, atMs: clock.nowMs() }
      if (!verdict.equal) logger.error('the mirror differs from its source', { table, differences: verdict.differences.slice(0, 5) })
    } catch (thrown) {
      const { code, kind, message } = toMoonlinkError(thrown)
      outcome = { kind: 'failed', code, message, atMs: clock.nowMs() }
      if (!this.#stopped.signal.aborted) {
        telemetry.count('moonlink_errors_total', 1, { where: 'verify', kind, code })
        logger.warn('a table could not be verified', { table, code, error: message })
      }
    } finally {
      this.#running = null
    }
    this.outcomes.set(table, outcome)
    return outcome
  }

  /** Always the table that was compared longest ago, then a pause in proportion to how long that took, without what it waited for. */
  async #forEver(): Promise<void> {
    const { clock, monotonicMs = () => performance.now(), share, minPauseMs, targets, verifier } = this.#options
    const workedMs = () => monotonicMs() - verifier.waitedMs
    while (!this.#stopped.signal.aborted) {
      const age = (target: VerifyTarget) => this.outcomes.get(formatTableName(target.table))?.atMs ?? 0
      const [next] = [...targets()].sort((a, b) => age(a) - age(b))
      // What others asked for is no work of this one.
      await this.#turn
      const startedMs = workedMs()
      if (next !== undefined) await this.#compare(next, () => undefined)
      const tookMs = workedMs() - startedMs
      const pauseMs = Math.max(minPauseMs, (tookMs * (1 - share)) / share)
      await clock.sleep(pauseMs, this.#stopped.signal).catch(() => undefined)
    }
  }
}
