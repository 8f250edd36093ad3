import type { ChangeLog, Clock, Logger, Lsn, Random } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import { toMoonlinkError } from '../http/errors.ts'
import { backOffMs } from './back-off.ts'
import { isOfSource } from './open-tables.ts'
import { Repeating } from './repeating.ts'

export interface UnopenedTablesOptions {
  readonly engine: Pick<Engine, 'streamedLsn'>
  readonly log: Pick<ChangeLog, 'status'> | null
  /** What the log may have, or the slot where there is no log. */
  readonly maxLogBytes: number
  /** Slot and log together have everything after this, until they are told to let go of it. */
  readonly floorLsn: Lsn
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Opens a table, and lets it go on. */
  readonly openAgain: (name: string) => Promise<void>
}

const lookMs = 100
/** What such tables need is kept up to this share of what the log may have: until they have caught up with it, no other goes on. */
const keptShare = 1 / 4

const NOT_KEPT =
  'changes of a table that can not be opened are not kept: unless it is paused, it is made equal to its source once it is open'

interface Unopened {
  reason: string
  code: string | null
  failures: number
  dueAtMs: number
  keepsChanges: boolean
}

/**
 * Tables that could not be opened, and why. Those that may be later are tried again by themselves, with growing pauses. Of one that has everything up to where slot and log begin,
 * these keep what comes, up to a bound; of another, or beyond that, it is to be made equal to its source once it is open, as `state.json` tells, which does not have it among the mirrored then.
 */
export class UnopenedTables {
  readonly #options: UnopenedTablesOptions
  readonly #tables = new Map<string, Unopened>()
  readonly #repeating: Repeating
  #isStopped = false

  constructor(options: UnopenedTablesOptions) {
    this.#options = options
    this.#repeating = new Repeating(options.clock, lookMs, () => this.#look())
  }

  /** By name, why. */
  get reasons(): ReadonlyMap<string, string> {
    return new Map([...this.#tables].map(([name, { reason }]) => [name, reason]))
  }

  /** Names of the tables for which slot and log keep what changes. */
  get keeping(): readonly string[] {
    return [...this.#tables].flatMap(([name, { keepsChanges }]) => (keepsChanges ? [name] : []))
  }

  /** What comes after this must be kept; null where nothing must. */
  get keptFromLsn(): Lsn | null {
    return this.keeping.length > 0 ? this.#options.floorLsn : null
  }

  has(name: string): boolean {
    return this.#tables.has(name)
  }

  keepsChanges(name: string): boolean {
    return this.#tables.get(name)?.keepsChanges === true
  }

  /** One that is not to be opened by itself. */
  refuse(name: string, reason: string): void {
    this.#tables.set(name, { reason, code: null, failures: 0, dueAtMs: Infinity, keepsChanges: false })
  }

  /** One that is tried again now and then. */
  tryAgain(name: string, error: unknown, keepsChanges: boolean): void {
    this.#failed(name, { reason: '', code: null, failures: 0, dueAtMs: 0, keepsChanges }, error)
    if (!keepsChanges) this.#options.logger.warn(NOT_KEPT, { table: name, reason: 'it is not known to have all that slot and log lack' })
  }

  delete(name: string): void {
    this.#tables.delete(name)
  }

  /** Nothing is kept any more for a table, or for all. */
  letGo(reason: string, name?: string): void {
    for (const lapsed of name === undefined ? this.keeping : this.keeping.filter((one) => one === name)) {
      this.#tables.get(lapsed)!.keepsChanges = false
      this.#options.logger.warn(NOT_KEPT, { table: lapsed, reason })
    }
  }

  start(): void {
    this.#repeating.start()
  }

  /** Resolves once none is being opened. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#repeating.stop()
  }

  async #look(): Promise<void> {
    const { clock, logger, openAgain } = this.#options
    this.#keepWithinBound()
    for (const [name, table] of this.#tables) {
      if (this.#isStopped) return
      if (clock.nowMs() < table.dueAtMs) continue
      try {
        await openAgain(name)
        if (this.#tables.get(name) === table) this.#tables.delete(name)
        logger.info('the table could be opened', { table: name, failures: table.failures })
      } catch (error) {
        if (this.#tables.get(name) === table) this.#failed(name, table, error)
      }
    }
  }

  #failed(name: string, table: Unopened, thrown: unknown): void {
    const { clock, logger, random } = this.#options
    const { code, kind, message } = toMoonlinkError(thrown)
    table.dueAtMs = clock.nowMs() + backOffMs(table.failures++, random)
    this.#tables.set(name, table)
    // That the source is away says nothing of the table.
    if (isOfSource(code) && kind === 'retry' && table.reason !== '') return
    if (table.code !== code) logger.error('the table could not be opened; it is tried again', { table: name, error: `${code} ${message}` })
    table.reason = `${code} ${message.replace(/\.$/, '')}. It is tried again by itself.`
    table.code = code
  }

  #keepWithinBound(): void {
    const from = this.keptFromLsn
    if (from === null) return
    const { engine, log, maxLogBytes } = this.#options
    const kept = { byteSize: Number(engine.streamedLsn - from), maxBytes: maxLogBytes, trouble: null }
    const { byteSize, maxBytes, trouble } = log?.status ?? kept
    if (trouble !== null) this.letGo(`the change log has stopped: ${trouble}`)
    else if (byteSize >= maxBytes * keptShare) this.letGo(`${byteSize} bytes of changes were kept`)
  }
}
