import { formatTableName, type Clock, type Logger } from '@moonlink/core'
import type { Engine, MirrorStatus } from '@moonlink/table-engine'

export interface CopyRestartsOptions {
  readonly engine: Pick<Engine, 'status'>
  readonly clock: Clock
  readonly logger: Logger
  /** Why the copy of a table that has stopped is begun again; null where it is not. */
  readonly because: (status: MirrorStatus) => string | null
  /** Before the first attempt; each time in a row twice as long, up to half an hour. */
  readonly firstPauseMs: number
  readonly resync: (table: string, reason: string) => Promise<void>
}

const maxPauseMs = 1_800_000
const lookMs = 1_000

interface Waiting {
  dueAtMs: number
  pauseMs: number
}

/** Begins copies again that were given up for what may pass: after a pause, and after twice as long each time that it happens again. */
export class CopyRestarts {
  readonly #options: CopyRestartsOptions
  /** By table, from its first pause on. */
  readonly #tables = new Map<string, Waiting>()
  readonly #underWay = new Set<string>()
  #lookedAtMs = -Infinity

  constructor(options: CopyRestartsOptions) {
    this.#options = options
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { because, clock, engine } = this.#options
    const nowMs = clock.nowMs()
    if (nowMs - this.#lookedAtMs < lookMs) return
    this.#lookedAtMs = nowMs
    for (const status of engine.status()) {
      const name = formatTableName(status.table)
      if (status.state === 'streaming') this.#tables.delete(name)
      const reason = because(status)
      if (reason !== null && !this.#underWay.has(name)) this.#restartIfDue(name, reason, nowMs)
    }
  }

  #restartIfDue(name: string, reason: string, nowMs: number): void {
    const { firstPauseMs, logger, resync } = this.#options
    const known = this.#tables.get(name)
    if (known === undefined) {
      this.#tables.set(name, { dueAtMs: nowMs + firstPauseMs, pauseMs: firstPauseMs })
      return
    }
    if (nowMs < known.dueAtMs) return
    const pauseMs = Math.min(known.pauseMs * 2, maxPauseMs)
    this.#tables.set(name, { dueAtMs: nowMs + pauseMs, pauseMs })
    this.#underWay.add(name)
    void resync(name, reason)
      .catch((error: unknown) => logger.warn('a copy could not be begun again; tried again later', { table: name, error: String(error) }))
      .finally(() => this.#underWay.delete(name))
  }
}
