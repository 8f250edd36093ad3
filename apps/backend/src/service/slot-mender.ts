import { isMoonlinkError, MoonlinkError } from '@moonlink/core'
import type { Acknowledger } from './acknowledger.ts'
import type { BackendParts } from './backend.ts'
import type { MirrorSet } from './mirror-set.ts'
import type { OneAtATime } from './one-at-a-time.ts'
import type { SlotWatch } from './slot-watch.ts'
import type { StreamLoop } from './stream-loop.ts'

export interface SlotMenderOptions extends Pick<BackendParts, 'clock' | 'config' | 'logger' | 'source'> {
  readonly mirrors: MirrorSet
  readonly loop: StreamLoop
  readonly acknowledger: Acknowledger
  readonly slotWatch: () => SlotWatch
  /** What changes the set of tables takes its turn. */
  readonly changes: OneAtATime
  readonly isClosing: () => boolean
  /** The backend can't go on. */
  readonly onFailure: (error: Error) => void
}

const slotLossCodes: ReadonlySet<string> = new Set(['PG_SLOT_LOST', 'PG_SLOT_MISSING', 'PG_CHANGES_LOST'])
const pauseMs = 1000

/** Whether changes are missing, since the slot does not have them any more. */
export function isSlotLoss(error: Error): boolean {
  return isMoonlinkError(error) && slotLossCodes.has(error.code)
}

/** A new slot takes the place of a lost one, and every table is made equal to its source again. */
export class SlotMender {
  readonly #options: SlotMenderOptions
  #isMending = false

  constructor(options: SlotMenderOptions) {
    this.#options = options
  }

  /** Changes are missing from here on. */
  lost(reason: string): void {
    const { changes, config, isClosing, logger, onFailure, source } = this.#options
    const { slot } = source.identity
    if (isClosing() || this.#isMending) return
    if (config.source.onSlotLoss === 'stop') {
      const message = `slot "${slot}" is lost: ${reason}. Changes are missing; start again with source.onSlotLoss: resync.`
      return onFailure(new MoonlinkError('invalid', 'PG_SLOT_LOST', message, { context: { slot } }))
    }
    logger.error('the slot is lost; a new one is made, and every table is made equal to the source again', { slot, reason })
    this.#isMending = true
    void changes
      .run(() => this.#mend(reason))
      .catch(onFailure)
      .finally(() => {
        this.#isMending = false
      })
  }

  async #mend(reason: string): Promise<void> {
    const { acknowledger, clock, isClosing, logger, loop, mirrors, slotWatch } = this.#options
    if (isClosing()) return
    await loop.stop()
    await loop.close()
    await mirrors.stopCopies()
    for (;;) {
      try {
        const names = mirrors.live()
        const slotLsn = await mirrors.beginResync(names, `the slot was lost: ${reason}`)
        await acknowledger.beginAt(slotLsn)
        slotWatch().reset()
        loop.start()
        void mirrors.copyOrPause(names)
        return
      } catch (error) {
        // The server may be away just now; the tables stay as they are.
        if (!isMoonlinkError(error, 'retry') || isClosing()) throw error
        logger.warn('a new slot could not be made yet', { code: error.code, error: error.message })
        await clock.sleep(pauseMs)
      }
    }
  }
}
