import { MoonlinkError } from '@moonlink/core'
import { RefusingOperations } from './refusing-operations.ts'

/** What a standby answers: for whom it waits, and to everything else that it is one. */
export class StandbyOperations extends RefusingOperations {
  readonly #stop: () => void
  /** Who runs the mirror, for people. */
  holder: string

  constructor(holder: string, stop: () => void) {
    super()
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

  protected refusal(): MoonlinkError {
    const message = `this is a standby: ${this.holder} runs the mirror, and this backend takes over when it ends. Ask that one.`
    return new MoonlinkError('retry', 'STANDBY', message, { context: { holder: this.holder } })
  }
}
