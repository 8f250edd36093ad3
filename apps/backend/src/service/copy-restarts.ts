import { formatTableName, type Clock, type Logger } from '@moonlink/core'
import { COPY_SPOOL_FULL, type Engine } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import { COPY_ENDED } from './mirrors.ts'

export interface CopyRestartsOptions {
  readonly engine: Pick<Engine, 'status'>
  readonly clock: Clock
  readonly logger: Logger
  /** By the code of a pause that is ended, why the copy is begun again. */
  readonly reasons: ReadonlyMap<string, string>
  readonly resync: (table: string, reason: string) => Promise<void>
}

const firstPauseMs = 60_000
const maxPauseMs = 1_800_000
const lookMs = 1_000

interface Waiting {
  dueAtMs: number
  pauseMs: number
}

/** The pauses that `CopyRestarts` ends: that of a drop that failed, or was cut off by a crash, always. */
export function restartedFor({ onFullSpool }: Config['copy']): ReadonlyMap<string, string> {
  const reasons = new Map([[COPY_ENDED, 'it could not be dropped']])
  if (onFullSpool === 'restart') reasons.set(COPY_SPOOL_FULL, 'what waited for its copy found no room')
  return reasons
}

/** Begins copies again that were given up for what may pass: after a minute, and after twice as long each time that it happens again. */
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
    const { clock, engine } = this.#options
    const nowMs = clock.nowMs()
    if (nowMs - this.#lookedAtMs < lookMs) return
    this.#lookedAtMs = nowMs
    for (const { reason, state, table } of engine.status()) {
      const name = formatTableName(table)
      if (state === 'streaming') this.#tables.delete(name)
      const code = state === 'paused' ? (reason ?? '').split(' ', 1)[0] : ''
      const because = this.#options.reasons.get(code)
      if (because !== undefined && !this.#underWay.has(name)) this.#restartIfDue(name, because, nowMs)
    }
  }

  #restartIfDue(name: string, because: string, nowMs: number): void {
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
    void resync(name, because)
      .catch((error: unknown) => logger.warn('a copy could not be begun again; tried again later', { table: name, error: String(error) }))
      .finally(() => this.#underWay.delete(name))
  }
}
