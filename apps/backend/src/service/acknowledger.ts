import { maxLsn, minLsn, type ChangeLog, type Lease, type Lsn } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import type { StreamLoop } from './stream-loop.ts'

export interface AcknowledgerOptions {
  readonly engine: Pick<Engine, 'acknowledgeableLsn' | 'restartLsn'>
  readonly log: ChangeLog | null
  /** Our right to the slot; null where nobody else can have it. */
  readonly lease: Pick<Lease, 'check'> | null
  /** Slot and log have everything after this, and what every table lacks lies after it. */
  readonly floorLsn: Lsn
  /** Where the slot is. */
  readonly slotLsn: Lsn
  /** Writes down that every mirrored table has everything up to there in Iceberg, and what else is to be remembered. */
  readonly remember: (coveredLsn: Lsn) => Promise<void>
  /** What comes after this is kept, whatever the engine needs; null where nothing is. */
  readonly keptFromLsn: () => Lsn | null
  /** Whether something else that is to be remembered has changed since; of one table, where it is named. */
  readonly isOutdated: (table?: string) => boolean
}

/**
 * Tells the source what it may forget: what the log has safely, or else what Iceberg has. Tells the log what Iceberg has, after that has been
 * written down: so a slot that is further than log and Iceberg was moved by somebody else, and tables may miss changes.
 *
 * What is written down counts once the lease is seen to hold after it, as what the log has does. So however late a deposed backend still tells the source something, its
 * successor has read that, and needs nothing before it; a table that the successor alone mirrors is copied at a later place.
 */
export class Acknowledger {
  readonly #options: AcknowledgerOptions
  #covered: Lsn
  #acknowledged: Lsn
  #writing: Promise<unknown> = Promise.resolve()

  constructor(options: AcknowledgerOptions) {
    this.#options = options
    this.#covered = options.floorLsn
    this.#acknowledged = options.slotLsn
  }

  /** Every table has everything up to here in Iceberg, or is copied anew; no stream has to begin before it. */
  get coveredLsn(): Lsn {
    return this.#covered
  }

  get acknowledgedLsn(): Lsn {
    return this.#acknowledged
  }

  /** All tables are open, and no stream yet. */
  async begin(): Promise<void> {
    await this.#cover(maxLsn(this.#covered, this.#uptoKept(this.#options.engine.restartLsn())))
  }

  /** The source has a new slot, which begins at `lsn`; every table is made equal to the source at a later place. */
  async beginAt(lsn: Lsn): Promise<void> {
    await this.#cover(lsn)
    this.#acknowledged = lsn
  }

  /**
   * Writes down again what is known, since something else that is remembered has changed. A successor finds it once this resolves: throws
   * `fenced`/`LEASE_LOST` where there is one already.
   */
  async remember(): Promise<void> {
    await this.#alone(() => this.#options.remember(this.#covered))
    await this.#options.lease?.check()
  }

  /** Has what is to be remembered of a table written down, where a successor finds it: a commit of the table's rows that waits for this is none that it knows too little of. */
  async rememberFirst(table: string): Promise<void> {
    if (this.#options.isOutdated(table)) await this.remember()
  }

  /** Looks at what Iceberg has by now. Call it once a second or so, and again when it has resolved. */
  async acknowledge(loop: Pick<StreamLoop, 'acknowledge'>): Promise<void> {
    const { engine, log } = this.#options
    const safe = this.#uptoKept(engine.acknowledgeableLsn())
    // The log alone says what is durable while it works; to write that down each time would be a sync for nothing.
    const isNews = log === null || log.isPrunable(safe) || safe > (log.durableLsn ?? 0n)
    if (safe > this.#covered && isNews) await this.#cover(safe)
    else if (this.#options.isOutdated()) await this.remember()
    this.acknowledgeDurable(loop)
  }

  /** Tells the source what is durable. Call it whenever the log has synced. */
  acknowledgeDurable(loop: Pick<StreamLoop, 'acknowledge'>): void {
    const durable = this.#options.log?.durableLsn ?? 0n
    this.#acknowledged = [this.#acknowledged, this.#covered, durable].reduce(maxLsn)
    loop.acknowledge(this.#acknowledged)
  }

  #uptoKept(lsn: Lsn): Lsn {
    return minLsn(lsn, this.#options.keptFromLsn() ?? lsn)
  }

  #cover(lsn: Lsn): Promise<void> {
    return this.#alone(async () => {
      const { lease, log, remember } = this.#options
      await remember(lsn)
      await lease?.check()
      this.#covered = lsn
      log?.prune(lsn)
    })
  }

  /** One after another, so that what is written last is what is known last. */
  #alone(work: () => Promise<void>): Promise<void> {
    const mine = this.#writing.then(work)
    this.#writing = mine.catch(() => undefined)
    return mine
  }
}
