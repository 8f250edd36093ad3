import { formatLsn, isMoonlinkError, maxLsn, MoonlinkError, type ChangeLog, type Lsn } from '@moonlink/core'
import type { Acknowledger } from './acknowledger.ts'
import type { BackendParts } from './backend-parts.ts'
import type { MirrorSet } from './mirror-set.ts'
import { mayPassAlone } from './open-tables.ts'
import type { OneAtATime } from './one-at-a-time.ts'
import { slotLossError } from './slot-loss.ts'
import type { SlotWatch } from './slot-watch.ts'
import { isStoreTrouble } from './store-trouble.ts'
import type { StreamLoop } from './stream-loop.ts'

export interface SlotMenderOptions extends Pick<BackendParts, 'clock' | 'config' | 'engine' | 'logger' | 'source' | 'telemetry'> {
  readonly mirrors: MirrorSet
  readonly loop: StreamLoop
  readonly log: ChangeLog | null
  readonly acknowledger: Acknowledger
  readonly slotWatch: () => SlotWatch
  /** What changes the set of tables takes its turn. */
  readonly changes: OneAtATime
  readonly isClosing: () => boolean
  /** The backend can't go on. */
  readonly onFailure: (error: Error) => void
}

const pauseMs = 1000
/** What is lost again at once was not mended: no more often than this. */
const againMs = 10_000

/** A new slot takes the place of a lost one, and every table is made equal to its source again. */
export class SlotMender {
  readonly #options: SlotMenderOptions
  #isMending = false
  #mendedAtMs = -Infinity
  /** What was read is so up to here, on whatever timeline. */
  #reachedLsn: Lsn = 0n

  constructor(options: SlotMenderOptions) {
    this.#options = options
  }

  /** Changes are missing from here on. */
  lost(reason: string): void {
    const { config, isClosing, logger, onFailure, source, telemetry } = this.#options
    const { slot } = source.identity
    if (isClosing() || this.#isMending) return
    if (config.source.onSlotLoss === 'stop') return onFailure(slotLossError(slot, reason))
    telemetry.count('moonlink_slot_losses_total')
    logger.error('changes are missing; every table is made equal to the source again, with a new slot where the old one is lost', {
      slot,
      reason,
    })
    this.#isMending = true
    void this.#mend(reason)
      .catch(onFailure)
      .finally(() => {
        this.#isMending = false
      })
  }

  async #mend(reason: string): Promise<void> {
    const { changes, clock, isClosing, logger } = this.#options
    await clock.sleep(Math.max(0, this.#mendedAtMs + againMs - clock.nowMs()))
    while (!isClosing()) {
      try {
        await changes.run(() => this.#tryToMend(reason))
        this.#mendedAtMs = clock.nowMs()
        return
      } catch (error) {
        if (await this.#leaveOut(error)) continue
        // The server may be away just now; the tables stay as they are. Whoever wants to stop, or to drop a table, has a turn meanwhile.
        if (!isMoonlinkError(error) || (error.kind !== 'retry' && !isStoreTrouble(error) && !mayPassAlone(error))) throw error
        logger.warn('what is missing can not be found out yet', { code: error.code, error: error.message })
        await clock.sleep(pauseMs)
      }
    }
  }

  /**
   * What the source has no more, or refuses, is paused alone: it is compared once somebody takes it on again. One that was to be opened anew for that is tried again by itself. False where the error is of
   * something else.
   */
  async #leaveOut(error: unknown): Promise<boolean> {
    const { engine, mirrors } = this.#options
    if (!isMoonlinkError(error, 'invalid') || isStoreTrouble(error)) return false
    const { table } = error.context
    if (typeof table !== 'string') return false
    if (mirrors.unopened.has(table)) return true
    if (!mirrors.live().includes(table)) return false
    await engine.mirror(table)?.pause(error.code, error.message)
    return true
  }

  async #tryToMend(reason: string): Promise<void> {
    const { acknowledger, engine, isClosing, log, loop, mirrors, slotWatch, source } = this.#options
    if (isClosing()) return
    const heardLsn = loop.sourceLsn
    await loop.stop()
    await loop.close()
    await mirrors.copies.stop()
    const { sourceLsn } = await source.position()
    this.#reachedLsn = [this.#reachedLsn, heardLsn, engine.appliedLsn, log?.status.range?.endLsn ?? 0n, source.history.reachedLsn].reduce(
      maxLsn,
    )
    if (sourceLsn < this.#reachedLsn) throw notThereYet(sourceLsn, this.#reachedLsn)
    const names = mirrors.live()
    mirrors.unopened.letGo(reason)
    source.history.forgetLooks()
    const { begun, slotLsn } = await mirrors.beginResync(names, `changes are missing: ${reason}`)
    // What is mirrored says by now that it has to be compared.
    source.history.acceptAny()
    await acknowledger.beginAt(slotLsn)
    slotWatch().reset()
    loop.start()
    void mirrors.copies.runOrPause(begun)
  }
}

/** A table is made equal to its source at a later place than the one where it is, and what the log has is of no use only before that. */
function notThereYet(sourceLsn: Lsn, reachedLsn: Lsn): MoonlinkError {
  return new MoonlinkError(
    'retry',
    'PG_BEHIND',
    `the server's log ends at ${formatLsn(sourceLsn)}, before ${formatLsn(reachedLsn)} that was read already: it was promoted or restored without that. Once its log has come so far, the tables are made equal to it by comparing; to begin anew instead, drop them with --purge and add them again.`,
  )
}
