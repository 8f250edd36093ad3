import { dirname, join } from 'node:path'
import { isMoonlinkError, MoonlinkError, systemDisk, type LocalDisk, type Logger } from '@moonlink/core'
import { encodeState, parseState, type BackendState, type StateStore } from './state.ts'

/** What a copy helps with. */
const DAMAGES = new Set(['STATE_CORRUPT', 'STATE_NOT_READ'])

/** The state file of a state directory, and a copy beside it for where a part of the disk goes bad. */
export class StateFile implements StateStore {
  readonly #disk: LocalDisk
  readonly #logger: Pick<Logger, 'error'>
  readonly #path: string
  readonly #copyPath: string

  constructor(stateDir: string, logger: Pick<Logger, 'error'>, disk: LocalDisk = systemDisk) {
    this.#disk = disk
    this.#logger = logger
    this.#path = join(stateDir, 'state.json')
    this.#copyPath = `${this.#path}.copy`
  }

  /** Where the file is damaged and its copy is not, that is taken, which says the same; one that can't be read now may be whole, and is waited for. A copy without the file is none: somebody took that away to begin anew. */
  async read(): Promise<BackendState | null> {
    try {
      return await this.#read(this.#path)
    } catch (error) {
      if (!isMoonlinkError(error) || !DAMAGES.has(error.code)) throw error
      const copy = await this.#read(this.#copyPath).catch((thrown: unknown) => {
        if (isMoonlinkError(thrown) && thrown.code === 'STATE_CORRUPT') return null
        throw thrown
      })
      if (copy === null) throw error
      this.#logger.error('the state is damaged; its copy is used, and both are written anew', { code: error.code, error: error.message })
      return copy
    }
  }

  async #read(path: string): Promise<BackendState | null> {
    let text: string
    try {
      text = (await this.#disk.readFile(path)).toString()
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return null
      const message = `${path} could not be read (${code ?? String(error)}): check its disk and its permissions.`
      throw new MoonlinkError('retry', 'STATE_NOT_READ', message, { context: { path }, cause: error })
    }
    return parseState(text, path)
  }

  /** Throws `retry`/`STATE_NOT_WRITTEN`. */
  async write(state: BackendState): Promise<void> {
    try {
      await this.#write(state)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      const message = `${this.#path} could not be written (${code ?? String(error)}): free space there, or check its disk. It is tried again.`
      throw new MoonlinkError('retry', 'STATE_NOT_WRITTEN', message, { context: { path: this.#path }, cause: error })
    }
  }

  async #write(state: BackendState): Promise<void> {
    const bytes = Buffer.from(encodeState(state))
    // First, so that it is never older than the file.
    await this.#replace(this.#copyPath, bytes)
    await this.#replace(this.#path, bytes)
  }

  async #replace(path: string, bytes: Uint8Array): Promise<void> {
    const file = await this.#disk.open(`${path}.new`, 'create')
    try {
      await file.write(bytes, 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await this.#disk.rename(`${path}.new`, path)
    // So that the rename survives a power cut.
    await this.#disk.syncDirectory(dirname(path))
  }
}
