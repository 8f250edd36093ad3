import { formatTableName, MoonlinkError, type Clock, type Logger, type TableName } from '@moonlink/core'
import { toMoonlinkError } from '../http/errors.ts'
import type { SourceHandle } from './parts.ts'
import { Repeating } from './repeating.ts'
import { SaidOnce } from './said-once.ts'

export interface LockedTablesOptions {
  readonly source: Pick<SourceHandle, 'publish'>
  readonly clock: Clock
  readonly logger: Logger
  /** Begins to mirror a table that is published by now. */
  readonly takeUp: (table: TableName) => Promise<void>
  /** Publishes no more what was locked when it was to go, where that is possible by now. */
  readonly unpublish: () => Promise<void>
  /** It can't be mirrored after all. */
  readonly refuse: (name: string, error: MoonlinkError) => void
}

/** Why a table is paused that was mirrored, and waits here. */
export const TABLE_LOCKED = 'TABLE_LOCKED'

/** A look waits for nobody's lock, so it needs no growing pauses. */
const lookMs = 1000
const pollMs = 100

interface Waiting {
  readonly table: TableName
  reason: string
  /** The code of the trouble that was said. */
  said: string | null
  /** Settles with the attempt to publish it that is under way. */
  publishing: Promise<unknown>
}

/**
 * Tables to mirror that can't be published yet, since another session of the source locks them: each is taken up once it is free, and keeps no other waiting. What is
 * to be published no more, and is locked, is let go in the same way.
 */
export class LockedTables {
  readonly #options: LockedTablesOptions
  readonly #waiting = new Map<string, Waiting>()
  readonly #repeating: Repeating
  readonly #trouble: SaidOnce
  #isStopped = false

  constructor(options: LockedTablesOptions) {
    this.#options = options
    this.#trouble = new SaidOnce(options.logger, 'what is mirrored no more could not be taken out of the publication; it is tried again')
    this.#repeating = new Repeating(options.clock, lookMs, () => this.#look())
  }

  /** By name, what each waits for, and what ends that. */
  get reasons(): ReadonlyMap<string, string> {
    return new Map([...this.#waiting].map(([name, { reason }]) => [name, reason]))
  }

  has(name: string): boolean {
    return this.#waiting.has(name)
  }

  add(tables: readonly TableName[]): void {
    for (const table of tables) {
      const name = formatTableName(table)
      if (this.#waiting.has(name)) continue
      const reason = whyWaiting('a lock that another session holds')
      this.#waiting.set(name, { table, reason, said: null, publishing: Promise.resolve() })
      this.#options.logger.warn('the table is locked in the source, and is mirrored once it is free', { table: name })
    }
  }

  /** Waits for it no more. Once this resolves, nothing here publishes it. */
  async delete(name: string): Promise<void> {
    const waiting = this.#waiting.get(name)
    this.#waiting.delete(name)
    await waiting?.publishing
  }

  /** Waits until no table waits for a lock. Throws `retry`/`TIMED_OUT`. */
  async waitUnlocked(deadlineMs: number): Promise<void> {
    const { clock } = this.#options
    for (;;) {
      const [first] = this.#waiting
      if (first === undefined) return
      const [name, { reason }] = first
      if (clock.nowMs() >= deadlineMs) throw new MoonlinkError('retry', 'TIMED_OUT', `${name}: ${reason}`)
      await clock.sleep(pollMs)
    }
  }

  start(): void {
    this.#repeating.start()
  }

  /** Resolves once none is being taken up. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#repeating.stop()
  }

  async #look(): Promise<void> {
    const { logger, refuse, source, takeUp, unpublish } = this.#options
    for (const [name, waiting] of this.#waiting) {
      if (this.#isStopped) return
      try {
        const publishing = source.publish(waiting.table)
        waiting.publishing = publishing.catch(() => undefined)
        const holder = await publishing
        if (this.#waiting.get(name) !== waiting) continue
        if (holder === null) await takeUp(waiting.table)
        else this.#waitFor(name, waiting, holder)
      } catch (thrown) {
        const error = toMoonlinkError(thrown)
        const { code, kind, message } = error
        if (waiting.said !== code) logger.warn('a table that was locked could not be taken up', { table: name, code, error: message })
        waiting.said = code
        if (kind === 'retry') continue
        if (this.#waiting.delete(name)) refuse(name, error)
      }
    }
    if (!this.#isStopped) await this.#trouble.attempt(unpublish)
  }

  #waitFor(name: string, waiting: Waiting, holder: string): void {
    const reason = whyWaiting(holder)
    if (reason !== waiting.reason) this.#options.logger.warn('a table waits for a lock in the source', { table: name, reason })
    waiting.reason = reason
  }
}

function whyWaiting(holder: string): string {
  return `its publication waits for ${holder}`
}
