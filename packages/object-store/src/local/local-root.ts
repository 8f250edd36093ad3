import { readdir, stat } from 'node:fs/promises'
import { MoonlinkError } from '@moonlink/core'
import { isAbsent } from './local-errors.ts'

interface Identity {
  readonly dev: bigint
  readonly ino: bigint
}

/**
 * The directory that a store's objects lie below, told from the empty place that a disk leaves which is not mounted any more: nothing is absent there, and
 * nothing is to be written to it.
 */
export class LocalRoot {
  /** With a slash at its end. */
  readonly path: string
  #known: Identity | null = null

  constructor(path: string) {
    this.path = `${path.replace(/\/+$/, '')}/`
  }

  has(path: string): boolean {
    return path.startsWith(this.path)
  }

  /** Throws `STORE_UNAVAILABLE` (`retry`) where the directory was there, and is not, or another one without anything stands in its place. */
  async requirePresent(): Promise<void> {
    const found = await stat(this.path, { bigint: true }).catch((error: unknown) => {
      if (isAbsent(error)) return null
      throw error
    })
    const isKnown = found !== null && found.dev === this.#known?.dev && found.ino === this.#known.ino
    if (isKnown) return
    if (this.#known !== null && (found === null || (await readdir(this.path)).length === 0)) throw this.#away(found === null)
    if (found !== null) this.#known = { dev: found.dev, ino: found.ino }
  }

  #away(isMissing: boolean): MoonlinkError {
    const what = isMissing ? 'is not there any more' : 'is another one than before, and empty'
    return new MoonlinkError(
      'retry',
      'STORE_UNAVAILABLE',
      `the directory ${this.path} ${what}: mount its disk again, then the mirror goes on; where it was emptied on purpose, restart.`,
      { context: { path: this.path } },
    )
  }
}
