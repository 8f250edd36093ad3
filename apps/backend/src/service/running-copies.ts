import { MoonlinkError } from '@moonlink/core'
import type { Mirror } from '@moonlink/table-engine'
import { toMoonlinkError } from '../http/errors.ts'
import type { BackendParts } from './backend-parts.ts'
import type { CopyProgress, CopyReport } from './copy-progress.ts'
import { copyTables } from './initial-copy.ts'
import { COPY_ENDED } from './mirrors.ts'

const pollMs = 50
/** A range of pages is read in less, unless its source stands still. */
const endMs = 15_000

export interface RunningCopiesOptions extends Pick<BackendParts, 'clock' | 'config' | 'engine' | 'logger' | 'source' | 'telemetry'> {
  /** Opens a table whose copy has to begin anew. */
  readonly openAnew: (name: string) => Promise<Mirror>
  /** Whether that is under way, where a table has no mirror. */
  readonly isOpenedAnew: (name: string) => boolean
}

/** The copies of a backend's tables: begins them, ends them, and says how far they are. */
export class RunningCopies {
  readonly #options: RunningCopiesOptions
  #abort = new AbortController()
  readonly #copies = new Set<Promise<void>>()
  readonly #progress = new Map<string, CopyProgress>()
  readonly #troubles = new Map<string, string>()
  /** What copies read just now. */
  readonly #reading = new Set<Mirror>()

  constructor(options: RunningCopiesOptions) {
    this.#options = options
  }

  /** Why copies are to be tried again, by table. */
  get troubles(): ReadonlyMap<string, string> {
    return this.#troubles
  }

  /** How far a table's copy is, `rows` of it being here; null where none runs. */
  report(name: string, rows: number): CopyReport | null {
    return this.#progress.get(name)?.report(rows, this.#options.clock.nowMs()) ?? null
  }

  /** Copies tables; resolves when all are copied or paused. Throws what keeps the warehouse from taking files. */
  run(names: readonly string[], waitsForStore = false): Promise<void> {
    if (names.length === 0) return Promise.resolve()
    const { config, engine, openAnew, ...ports } = this.#options
    const mirrors = names.map((name) => engine.mirror(name)!)
    const options = {
      ...ports,
      parallelTables: config.copy.parallelTables,
      progress: this.#progress,
      reading: this.#reading,
      reset: openAnew,
      troubles: this.#troubles,
      waitsForStore,
    }
    const copy = copyTables(mirrors, options, this.#abort.signal).finally(() => this.#copies.delete(copy))
    this.#copies.add(copy)
    return copy
  }

  /** Like `run`; but a warehouse is waited for that is full or refuses credentials, and what else keeps it from taking files pauses these tables. */
  async runOrPause(names: readonly string[]): Promise<void> {
    try {
      await this.run(names, true)
    } catch (thrown) {
      const { code, message } = toMoonlinkError(thrown)
      for (const name of names) {
        await this.#options.engine
          .mirror(name)
          ?.pause(code, message)
          .catch((error: unknown) =>
            this.#options.logger.error('a failed copy could not be recorded', { table: name, error: String(error) }),
          )
      }
    }
  }

  /** Ends one table's copy, which is paused then, and none beside it. Throws `retry`/`TABLE_COPYING` where its source does not let go in time. */
  async end(name: string): Promise<void> {
    const { clock, engine, isOpenedAnew } = this.#options
    const deadlineMs = clock.nowMs() + endMs
    let isPausing = false
    for (;;) {
      const mirror = engine.mirror(name)
      if (mirror?.currentPhase === 'copying' && !isPausing) {
        isPausing = true
        // What can't be recorded of it is going to be removed.
        const paused = mirror
          .pause(COPY_ENDED, 'its copy was ended, for it is dropped; where that fails it is begun again.')
          .catch(() => undefined)
        void paused.then(() => (isPausing = false))
      }
      const isEnded = mirror === undefined ? !isOpenedAnew(name) : !this.#reading.has(mirror)
      if (isEnded && !isPausing) return
      if (clock.nowMs() >= deadlineMs) {
        const message = `the copy of ${name} has not ended yet, since the source does not answer: try again in a moment.`
        throw new MoonlinkError('retry', 'TABLE_COPYING', message, { context: { table: name } })
      }
      await clock.sleep(pollMs)
    }
  }

  /** Ends running copies; later ones may begin. */
  async stop(): Promise<void> {
    this.#abort.abort(new Error('stopped'))
    await Promise.allSettled(this.#copies)
    this.#abort = new AbortController()
  }
}
