import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { formatLsn, MoonlinkError, parseLsn, type Lsn } from '@moonlink/core'
import { z } from 'zod'

/** Raised whenever an older Moonlink would misread the file. */
const VERSION = 2

const common = {
  source: z.object({ systemIdentifier: z.string(), database: z.string(), slot: z.string() }),
  /** Tables mirrored when this was written. */
  mirrored: z.array(z.string()),
  /** Tables that `tables add` and `tables drop` named, over those of the configuration. */
  added: z.array(z.string()),
  dropped: z.array(z.string()),
}

const stateSchema = z.object({
  version: z.literal(VERSION),
  /** Each of `mirrored` has everything up to here in Iceberg, or is not copied yet. */
  coveredLsn: z.string(),
  ...common,
})

/** Before there was a log: the slot was told what Iceberg has. */
const firstSchema = z
  .object({ version: z.literal(1), acknowledgedLsn: z.string(), ...common })
  .transform(({ acknowledgedLsn, ...rest }) => ({ ...rest, version: VERSION, coveredLsn: acknowledgedLsn }))

const anySchema = z.union([stateSchema, firstSchema])

/** What a run leaves for the next, beside what the Iceberg tables say of themselves. */
export interface BackendState {
  readonly source: { readonly systemIdentifier: string; readonly database: string; readonly slot: string }
  readonly coveredLsn: Lsn
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

  /**
   * The state of the last run, or null where there was none. Throws `corrupt`/`STATE_CORRUPT`, or `invalid`/`STATE_VERSION` where a later Moonlink
   * wrote it.
   */
  read(): BackendState | null {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    try {
      const parsed: unknown = JSON.parse(text)
      this.#refuseLater(parsed)
      const { coveredLsn, source, mirrored, added, dropped } = anySchema.parse(parsed)
      return { coveredLsn: parseLsn(coveredLsn), source, mirrored, added, dropped }
    } catch (error) {
      if (error instanceof MoonlinkError && error.code === 'STATE_VERSION') throw error
      const message = `${this.#path} is no state of ours; remove it, and tables that may miss changes are made equal to the source again.`
      throw new MoonlinkError('corrupt', 'STATE_CORRUPT', message, { cause: error })
    }
  }

  write(state: BackendState): void {
    const { coveredLsn, ...rest } = state
    const stored: z.output<typeof stateSchema> = {
      version: VERSION,
      coveredLsn: formatLsn(coveredLsn),
      source: { ...rest.source },
      mirrored: [...rest.mirrored],
      added: [...rest.added],
      dropped: [...rest.dropped],
    }
    writeFileSync(`${this.#path}.new`, JSON.stringify(stored, null, 2), { flush: true })
    renameSync(`${this.#path}.new`, this.#path)
    syncDirectory(dirname(this.#path))
  }

  #refuseLater(parsed: unknown): void {
    const version = (parsed as { version?: unknown } | null)?.version
    if (typeof version !== 'number' || version <= VERSION) return
    const message = `${this.#path} has version ${version}, and this Moonlink reads up to ${VERSION}; start the later Moonlink that wrote it.`
    throw new MoonlinkError('invalid', 'STATE_VERSION', message, { context: { version } })
  }
}

/** Makes a rename survive a power cut. */
function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
