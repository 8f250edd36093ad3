import { systemClock } from '@moonlink/core'

/** One Ctrl-C may come twice: from the terminal, and from the program that started us and passes it on. */
const sameSignalMs = 500
/** A terminal that is closed stops the mirror too. */
const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** The first signal asks for a graceful stop; the next one ends the process. Without anybody to ask, the first one does. */
export class StopSignals {
  readonly #note: (line: string) => void
  #stop: (() => void) | null = null
  #askedAtMs: number | null = null
  readonly #onSignal = () => this.#signalled()

  constructor(note: (line: string) => void) {
    this.#note = note
  }

  /** Whom a signal asks to stop, until `release`. */
  call(stop: () => void): void {
    if (this.#stop === null) for (const signal of stopSignals) process.on(signal, this.#onSignal)
    this.#stop = stop
  }

  release(): void {
    this.#stop = null
    for (const signal of stopSignals) process.off(signal, this.#onSignal)
  }

  #signalled(): void {
    const nowMs = systemClock.nowMs()
    if (this.#askedAtMs !== null && nowMs - this.#askedAtMs < sameSignalMs) return
    if (this.#askedAtMs !== null) {
      process.stderr.write('quit; what was not committed comes again at the next start\n')
      process.exit(1)
    }
    this.#askedAtMs = nowMs
    this.#note('')
    this.#stop?.()
  }
}
