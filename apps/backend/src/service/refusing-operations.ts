import type { MoonlinkError } from '@moonlink/core'
import type { HealthReport, ReadyReport, StatusReport } from '../http/schemas.ts'
import type { Operations } from './operations.ts'

/** What a backend answers that does not mirror yet: how it is, and to everything else why not. */
export abstract class RefusingOperations implements Operations {
  abstract health(): HealthReport
  abstract ready(): ReadyReport
  abstract requestStop(): void
  /** Why nothing else can be done now, and what to do instead. */
  protected abstract refusal(): MoonlinkError

  status(): Promise<StatusReport> {
    return this.#refuse()
  }

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
    throw this.refusal()
  }

  #refuse(): Promise<never> {
    return Promise.reject(this.refusal())
  }
}
