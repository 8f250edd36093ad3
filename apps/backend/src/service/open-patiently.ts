import { isMoonlinkError, type Clock, type Logger, type MoonlinkError, type Random } from '@moonlink/core'
import { backOffMs } from './back-off.ts'

export interface OpenPatientlyOptions<T> {
  readonly open: () => Promise<T>
  /** Told of each failure that is waited out. */
  readonly onTrouble: (error: MoonlinkError) => Promise<void>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Ends the waiting; the signal's reason is thrown then. */
  readonly signal: AbortSignal
}

/** Opens a source, again and again with growing pauses where what keeps it from that may pass. Throws what has to be put right first. */
export async function openPatiently<T>({ clock, logger, onTrouble, open, random, signal }: OpenPatientlyOptions<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await open()
    } catch (error) {
      if (!isMoonlinkError(error, 'retry')) throw error
      logger.warn('the source could not be opened and is tried again', { code: error.code, error: error.message, attempt })
      await onTrouble(error)
    }
    await clock.sleep(backOffMs(attempt, random), signal)
  }
}
