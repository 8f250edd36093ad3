import { MoonlinkError } from '@moonlink/core'
import type { ReadyReport, StatusReport } from '../http/schemas.ts'
import type { Operations } from './operations.ts'
import type { SourceHandle } from './parts.ts'
import { statusReport } from './status.ts'

export interface StartingOptions {
  readonly source: Pick<SourceHandle, 'identity' | 'position' | 'waits'>
  readonly warehouse: string
}

/** What a backend answers while its source is made ready, which may have to wait for transactions there: for whom, and to everything else that it starts. */
export class StartingOperations implements Operations {
  readonly #options: StartingOptions

  constructor(options: StartingOptions) {
    this.#options = options
  }

  health() {
    return { status: 'ok', role: 'active' } as const
  }

  ready(): ReadyReport {
    const waits = this.#options.source.waits().map(({ reason }) => reason)
    return { ready: false, waitingFor: waits.length > 0 ? waits : ['the start of the mirror'] }
  }

  async status(): Promise<StatusReport> {
    const { source, warehouse } = this.#options
    const unknown = { sourceLsn: 0n, confirmedFlushLsn: null, retainedBytes: 0, slot: null }
    return statusReport({
      identity: source.identity,
      warehouse,
      trouble: 'the mirror is starting',
      position: await source.position().catch(() => unknown),
      slotLagMs: 0,
      behindMs: 0,
      freshnessMs: null,
      mirrors: [],
      copy: () => null,
      unopened: new Map(),
      locked: new Map(),
      verified: new Map(),
      waits: source.waits(),
      unfit: () => [],
      log: null,
    })
  }

  requestStop(): never {
    throw this.#isStarting('nothing is mirrored yet: Ctrl-C, or SIGTERM, ends it')
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
    throw this.#isStarting()
  }

  #refuse(): Promise<never> {
    return Promise.reject(this.#isStarting())
  }

  #isStarting(remedy = 'try again in a moment (moonlink status says what is waited for)'): MoonlinkError {
    return new MoonlinkError('retry', 'STARTING', `the mirror is starting; ${remedy}.`)
  }
}
