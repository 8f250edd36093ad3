import type { Lsn } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import type { StreamLoop } from './stream-loop.ts'

/**
 * Tells the source what it may forget, after that has been written down: so a slot that is further than what is written was moved
 * by somebody else, and tables may miss changes.
 */
export class Acknowledger {
  readonly #engine: Pick<Engine, 'acknowledgeableLsn'>
  readonly #remember: (lsn: Lsn) => void
  #acknowledged: Lsn

  constructor(engine: Pick<Engine, 'acknowledgeableLsn'>, acknowledged: Lsn, remember: (lsn: Lsn) => void) {
    this.#engine = engine
    this.#acknowledged = acknowledged
    this.#remember = remember
  }

  get acknowledgedLsn(): Lsn {
    return this.#acknowledged
  }

  /** The source has a new slot, which begins at `lsn`. */
  beginAt(lsn: Lsn): void {
    this.#acknowledged = lsn
    this.#remember(lsn)
  }

  acknowledge(loop: Pick<StreamLoop, 'acknowledge'>): void {
    const lsn = this.#engine.acknowledgeableLsn()
    if (lsn > this.#acknowledged) {
      this.#remember(lsn)
      this.#acknowledged = lsn
    }
    loop.acknowledge(this.#acknowledged)
  }
}
