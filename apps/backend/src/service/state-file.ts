import { renameSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatLsn, MoonlinkError, parseLsn, type Lsn } from '@moonlink/core'
import { z } from 'zod'

const stateSchema = z.object({
  version: z.literal(1),
  source: z.object({ systemIdentifier: z.string(), database: z.string(), slot: z.string() }),
  /** The slot was never told to forget more than this. */
  acknowledgedLsn: z.string(),
  /** Tables mirrored when this was written: up to the slot's position they miss nothing. */
  mirrored: z.array(z.string()),
  /** Tables that `tables add` and `tables drop` named, over those of the configuration. */
  added: z.array(z.string()),
  dropped: z.array(z.string()),
})

/** What a run leaves for the next, beside what the Iceberg tables say of themselves. */
export interface BackendState {
  readonly source: { readonly systemIdentifier: string; readonly database: string; readonly slot: string }
  readonly acknowledgedLsn: Lsn
  readonly mirrored: readonly string[]
  readonly added: readonly string[]
  readonly dropped: readonly string[]
}

/** The state file of a state directory. Written before what it states takes effect, so it never promises too little. */
export class StateFile {
  readonly #path: string

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'state.json')
  }

  /** The state of the last run, or null where there was none. Throws `corrupt`/`STATE_CORRUPT`. */
  read(): BackendState | null {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    try {
      const { acknowledgedLsn, source, mirrored, added, dropped } = stateSchema.parse(JSON.parse(text))
      return { acknowledgedLsn: parseLsn(acknowledgedLsn), source, mirrored, added, dropped }
    } catch (error) {
      const message = `${this.#path} is no state of ours; remove it, and tables whose changes may be missing are copied again.`
      throw new MoonlinkError('corrupt', 'STATE_CORRUPT', message, { cause: error })
    }
  }

  write(state: BackendState): void {
    const { acknowledgedLsn, ...rest } = state
    const stored: z.output<typeof stateSchema> = {
      version: 1,
      acknowledgedLsn: formatLsn(acknowledgedLsn),
      source: { ...rest.source },
      mirrored: [...rest.mirrored],
      added: [...rest.added],
      dropped: [...rest.dropped],
    }
    writeFileSync(`${this.#path}.new`, JSON.stringify(stored, null, 2), { flush: true })
    renameSync(`${this.#path}.new`, this.#path)
  }
}
