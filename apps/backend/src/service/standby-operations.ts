import { MoonlinkError } from '@moonlink/core'
import type { Operations } from './operations.ts'

/** What a standby answers: for whom it waits, and to everything else that it is one. */
export class StandbyOperations implements Operations {
  readonly #stop: () => void
  /** Who runs the mirror, for people. */
  holder: string

  constructor(holder: string, stop: () => void) {
    this.holder = holder
    this.#stop = stop
  }

  health() {
    return { status: 'ok', role: 'standby' } as const
  }

  ready() {
    return { ready: false, waitingFor: [`the end of ${this.holder}, which runs this mirror`] }
  }

  requestStop(): void {
    this.#stop()
  }

  status = () => this.#refuse()
  query = () => this.#refuse()
  wait = () => this.#refuse()
  flush = () => this.#refuse()
  listTables = () => this.#refuse()
  addTables = () => this.#refuse()
  pauseTable = () => this.#refuse()
  resyncTable = () => this.#refuse()
  dropTable = () => this.#refuse()
  uninstall = () => this.#refuse()

  verify(): never {
    throw this.#isStandby()
  }

  #refuse(): Promise<never> {
    return Promise.reject(this.#isStandby())
  }

  #isStandby(): MoonlinkError {
    const message = `this is a standby: ${this.holder} runs the mirror, and this backend takes over when it ends. Ask that one.`
    return new MoonlinkError('retry', 'STANDBY', message, { context: { holder: this.holder } })
  }
}
