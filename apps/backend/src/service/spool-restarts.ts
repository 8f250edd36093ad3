import { formatTableName, type Clock, type Logger } from '@moonlink/core'
import { COPY_SPOOL_FULL, type Engine } from '@moonlink/table-engine'

export interface SpoolRestartsOptions {
  readonly engine: Pick<Engine, 'status'>
  readonly clock: Clock
  readonly logger: Logger
  readonly resync: (table: string, reason: string) => Promise<void>
}

const firstPauseMs = 60_000
const maxPauseMs = 1_800_000
const lookMs = 1_000

interface Waiting {
  dueAtMs: number
  pauseMs: number
}

/** Begins copies again that were given up since what waited for them found no room on disk: after a minute, and after twice as long each time that it happens again. */
export class SpoolRestarts {
  readonly #options: SpoolRestartsOptions
  /** By table, from its first pause on. */
  readonly #tables = new Map<string, Waiting>()
  readonly #underWay = new Set<string>()
  #lookedAtMs = -Infinity

  constructor(options: SpoolRestartsOptions) {
    this.#options = options
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { clock, engine } = this.#options
    const nowMs = clock.nowMs()
    if (nowMs - this.#lookedAtMs < lookMs) return
    this.#lookedAtMs = nowMs
    for (const { reason, state, table } of engine.status()) {
      const name = formatTableName(table)
      if (state === 'streaming') this.#tables.delete(name)
      const isFull = state === 'paused' && reason?.startsWith(`${COPY_SPOOL_FULL} `) === true
      if (isFull && !this.#underWay.has(name)) this.#restartIfDue(name, nowMs)
    }
  }

  #restartIfDue(name: string, nowMs: number): void {
    const known = this.#tables.get(name)
    if (known === undefined) {
      this.#tables.set(name, { dueAtMs: nowMs + firstPauseMs, pauseMs: firstPauseMs })
      return
    }
    if (nowMs < known.dueAtMs) return
    const pauseMs = Math.min(known.pauseMs * 2, maxPauseMs)
    this.#tables.set(name, { dueAtMs: nowMs + pauseMs, pauseMs })
    this.#underWay.add(name)
    const { logger, resync } = this.#options
    void resync(name, 'what waited for its copy found no room')
      .catch((error: unknown) => logger.warn('a copy could not be begun again; tried again later', { table: name, error: String(error) }))
      .finally(() => this.#underWay.delete(name))
  }
}
