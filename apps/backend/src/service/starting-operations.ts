import { MoonlinkError } from '@moonlink/core'
import type { ReadyReport, StatusReport } from '../http/schemas.ts'
import type { SourceHandle } from './parts.ts'
import { RefusingOperations } from './refusing-operations.ts'
import { statusReport } from './status.ts'

export interface StartingOptions {
  readonly warehouse: string
  /** Ends the start, or the mirror where that runs by now. */
  readonly stop: () => void
}

/** What a backend answers while its source is opened and made ready, which may have to wait for transactions there: for whom, and to everything else that it starts. */
export class StartingOperations extends RefusingOperations {
  readonly #options: StartingOptions
  /** Null until it is open. */
  source: Pick<SourceHandle, 'identity' | 'notes' | 'position' | 'waits'> | null = null
  /** Why the source is not open yet, where that is waited out. */
  trouble: MoonlinkError | null = null

  constructor(options: StartingOptions) {
    super()
    this.#options = options
  }

  health() {
    return { status: 'ok', role: 'active' } as const
  }

  ready(): ReadyReport {
    const waits = this.source === null ? this.#sourceTrouble() : this.source.waits().map(({ reason }) => reason)
    return { ready: false, waitingFor: waits.length > 0 ? waits : ['the start of the mirror'] }
  }

  override async status(): Promise<StatusReport> {
    const { source } = this
    if (source === null) throw this.refusal()
    const { warehouse } = this.#options
    const unknown = { sourceLsn: 0n, confirmedFlushLsn: null, retainedBytes: 0, slot: null }
    return statusReport({
      identity: source.identity,
      sourceNotes: source.notes,
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
      waitingFor: () => null,
      notes: () => [],
      unfit: () => [],
      log: null,
    })
  }

  requestStop(): void {
    this.#options.stop()
  }

  protected refusal(): MoonlinkError {
    const [trouble] = this.#sourceTrouble()
    const why = this.source === null && trouble !== undefined ? trouble : 'try again in a moment (moonlink status says what is waited for).'
    return new MoonlinkError('retry', 'STARTING', `the mirror is starting; ${why}`)
  }

  #sourceTrouble(): string[] {
    return this.trouble === null ? [] : [`the source: ${this.trouble.code} ${this.trouble.message}`]
  }
}
