import { formatTableName, type Clock, type Logger } from '@moonlink/core'
import { COPY_SPOOL_FULL, type Engine, type MirrorStatus } from '@moonlink/table-engine'
import type { Config } from '../config/schema.ts'
import { CopyRestarts } from './copy-restarts.ts'
import { COPY_ENDED, isOutdated } from './mirrors.ts'

export interface StoppedTablesOptions {
  readonly config: Pick<Config, 'copy' | 'flush'>
  readonly engine: Pick<Engine, 'mirror' | 'pauseRefused' | 'status'>
  readonly clock: Clock
  readonly logger: Logger
  readonly resync: (table: string, reason: string) => Promise<void>
}

/** What gave a copy up gets so long to pass: a full disk, a drop that failed. */
const copyPauseMs = 60_000
/** What was refused was tried with success just now. */
const refusalPauseMs = 1_000
/** What others did to an Iceberg table is done. */
const outdatedPauseMs = 1_000
/** An Iceberg table that somebody has dropped is made again where that is asked for. */
const goneTables = /^(TABLE_GONE|TABLE_REPLACED) /

/** Stops tables that alone can't be committed, and has those go on that were stopped for what may be over. */
export class StoppedTables {
  readonly #options: StoppedTablesOptions
  readonly #copies: CopyRestarts
  readonly #refused: CopyRestarts
  readonly #outdated: CopyRestarts

  constructor(options: StoppedTablesOptions) {
    const { config, engine } = options
    this.#options = options
    const reasons = restartedFor(config.copy)
    this.#copies = new CopyRestarts({
      ...options,
      because: ({ reason, state }) => (state === 'paused' ? (reasons.get((reason ?? '').split(' ', 1)[0]) ?? null) : null),
      firstPauseMs: copyPauseMs,
    })
    this.#refused = new CopyRestarts({
      ...options,
      because: ({ table }) => (engine.mirror(formatTableName(table))?.isAllowedAgain === true ? 'what was refused is not any more' : null),
      firstPauseMs: refusalPauseMs,
    })
    this.#outdated = new CopyRestarts({
      ...options,
      because: ({ reason, state }) =>
        isStopped(state) && isOutdated(reason) && !goneTables.test(reason!) ? 'another writer changed its Iceberg table' : null,
      firstPauseMs: outdatedPauseMs,
    })
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { config, engine } = this.#options
    engine.pauseRefused(config.flush.deniedMs)
    this.#copies.look()
    this.#refused.look()
    this.#outdated.look()
  }
}

function isStopped(state: MirrorStatus['state']): boolean {
  return state === 'paused' || state === 'failed'
}

/** The pauses that are ended, by code: that of a drop that failed, or was cut off by a crash, always. */
function restartedFor({ onFullSpool }: Config['copy']): ReadonlyMap<string, string> {
  const reasons = new Map([[COPY_ENDED, 'it could not be dropped']])
  if (onFullSpool === 'restart') reasons.set(COPY_SPOOL_FULL, 'what waited for its copy found no room')
  return reasons
}
