import { formatTableName, isMoonlinkError, type Clock, type Logger, type TableName } from '@moonlink/core'
import type { Engine, MirrorStatus } from '@moonlink/table-engine'
import { isStoreTrouble } from './store-trouble.ts'

export interface SchemaFollowerOptions {
  readonly engine: Pick<Engine, 'status'>
  readonly clock: Clock
  readonly logger: Logger
  readonly resync: (table: string, reason: string) => Promise<void>
  /** Whether the source has a table of that name that can be mirrored. */
  readonly isThere: (table: TableName) => Promise<boolean>
}

const absentLookMs = 2000
const retryMs = 1000
/** Of tables whose shape is another, as the stream tells, or as a copy does that met rows of an altered type: altering one locks none of its tables. */
const CHANGED = ['SCHEMA_CHANGED', 'TYPE_CHANGED']
/** Of tables that are not there to be mirrored, or not in a form that can be. */
const UNAVAILABLE = ['TABLE_DROPPED', 'TABLE_UNKNOWN', 'TABLE_UNSUPPORTED']

/**
 * Takes on tables that were paused because their shape changed, each once for each reason: one that can't be stays paused, and what may pass is tried again. One that was dropped, or can't be
 * mirrored as it is, is taken on once there is one of its name that can.
 */
export class SchemaFollower {
  readonly #options: SchemaFollowerOptions
  /** Tables whose change was followed, or can't be, by the reason of their pause. */
  readonly #followed = new Map<string, string>()
  /** Tables that are being taken on just now. */
  readonly #underWay = new Set<string>()
  /** Tables for which it failed in a way that may pass, by when to try again. */
  readonly #notBeforeMs = new Map<string, number>()
  /** Tables that the source had no more, or in no form that can be mirrored, when their change was to be followed. */
  readonly #absent = new Set<string>()
  #lookedForAbsentMs = -Infinity
  #isLooking = false

  constructor(options: SchemaFollowerOptions) {
    this.#options = options
  }

  /** Whether a paused table will be taken on soon, unless that fails. */
  willTakeOn({ reason, state, table }: Pick<MirrorStatus, 'reason' | 'state' | 'table'>): boolean {
    if (state !== 'paused' || reason === null || !isFor(reason, CHANGED)) return false
    const name = formatTableName(table)
    return this.#underWay.has(name) || this.#followed.get(name) !== reason
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    const { clock, engine } = this.#options
    const paused = engine.status().filter(({ state }) => state === 'paused')
    for (const { reason, table } of paused) {
      if (reason !== null && isFor(reason, CHANGED)) this.#follow(table, reason, 'its columns or key changed')
      if (reason?.startsWith('TABLE_RENAMED ')) this.#follow(table, reason, 'it was renamed')
    }
    const nowMs = clock.nowMs()
    if (this.#isLooking || nowMs - this.#lookedForAbsentMs < absentLookMs) return
    this.#lookedForAbsentMs = nowMs
    this.#isLooking = true
    const isGone = (reason: string | null) => reason !== null && isFor(reason, UNAVAILABLE)
    void this.#lookForAbsent(paused.filter(({ reason, table }) => isGone(reason) || this.#isAbsent(table, reason)))
  }

  #isAbsent(table: TableName, reason: string | null): boolean {
    const name = formatTableName(table)
    return this.#absent.has(name) && this.#followed.get(name) === reason
  }

  async #lookForAbsent(absent: readonly { readonly table: TableName; readonly reason: string | null }[]): Promise<void> {
    const { isThere, logger } = this.#options
    try {
      for (const { reason, table } of absent) {
        if (!(await isThere(table))) continue
        const name = formatTableName(table)
        if (this.#absent.delete(name)) this.#followed.delete(name)
        this.#follow(table, reason!, 'it was made anew, or altered so that it can be mirrored')
      }
    } catch (error) {
      logger.warn('a table that was not there could not be looked for', { error: String(error) })
    } finally {
      this.#isLooking = false
    }
  }

  #follow(table: TableName, pauseReason: string, reason: string): void {
    const name = formatTableName(table)
    const { clock, logger, resync } = this.#options
    if (this.#followed.get(name) === pauseReason || clock.nowMs() < (this.#notBeforeMs.get(name) ?? 0)) return
    this.#followed.set(name, pauseReason)
    this.#underWay.add(name)
    void resync(name, reason).then(
      () => {
        this.#underWay.delete(name)
        this.#followed.delete(name)
      },
      (error: unknown) => {
        this.#underWay.delete(name)
        logger.warn('the changed table was not taken on', { table: name, error: String(error) })
        if (isMoonlinkError(error) && UNAVAILABLE.includes(error.code)) this.#absent.add(name)
        // The server may be away just now, and a warehouse gets room, or credentials.
        const mayPass = isMoonlinkError(error) && (error.kind === 'retry' || isStoreTrouble(error))
        if (!mayPass) return
        this.#followed.delete(name)
        this.#notBeforeMs.set(name, clock.nowMs() + retryMs)
      },
    )
  }
}

function isFor(reason: string, codes: readonly string[]): boolean {
  return codes.some((code) => reason.startsWith(`${code} `))
}
