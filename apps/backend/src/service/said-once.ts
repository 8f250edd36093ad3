import type { Logger } from '@moonlink/core'
import { toMoonlinkError } from '../http/errors.ts'

/** Says what keeps work that is repeated from being done: once a kind of trouble as a warning, then for those who debug, and when it works again. */
export class SaidOnce {
  readonly #logger: Logger
  readonly #what: string
  /** The code of the trouble that was said. */
  #said: string | null = null

  /** `what`: what the work is, as in "the publication can't be looked at". */
  constructor(logger: Logger, what: string) {
    this.#logger = logger
    this.#what = what
  }

  /** What the work gives; null where it could not be done. */
  async attempt<T>(work: () => Promise<T>): Promise<T | null> {
    try {
      const done = await work()
      if (this.#said !== null) this.#logger.info('works again', { what: this.#what })
      this.#said = null
      return done
    } catch (thrown) {
      const { code, message } = toMoonlinkError(thrown)
      const fields = { code, error: message }
      if (this.#said === code) this.#logger.debug(this.#what, fields)
      else this.#logger.warn(this.#what, fields)
      this.#said = code
      return null
    }
  }
}
