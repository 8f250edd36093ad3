import { isMoonlinkError, type Clock, type Logger, type MoonlinkError, type Random } from '@moonlink/core'
import { backOffMs } from './back-off.ts'

export interface PatienceOptions<T> {
  readonly attempt: () => Promise<T>
  /** Which of the errors that may pass are waited out. */
  readonly waitsOut: (error: MoonlinkError) => boolean
  /** Told of each failure that is waited out. */
  readonly onTrouble: (error: MoonlinkError) => Promise<void>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Ends the waiting; the signal's reason is thrown then. */
  readonly signal: AbortSignal
}

/** Tries again and again, with growing pauses, where what the source keeps from success may pass. Throws everything else. */
export async function patiently<T>({ attempt, clock, logger, onTrouble, random, signal, waitsOut }: PatienceOptions<T>): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt()
    } catch (error) {
      if (!isMoonlinkError(error, 'retry') || !waitsOut(error)) throw error
      logger.warn('the source is away; the start is tried again', { code: error.code, error: error.message, attempt: failures })
      await onTrouble(error)
    }
    await clock.sleep(backOffMs(failures, random), signal)
  }
}
