import { dirname, join } from 'node:path'
import { MoonlinkError, systemDisk, type LocalDisk } from '@moonlink/core'
import { encodeState, parseState, type BackendState, type StateStore } from './state.ts'

/** The state file of a state directory. */
export class StateFile implements StateStore {
  readonly #disk: LocalDisk
  readonly #path: string

  constructor(stateDir: string, disk: LocalDisk = systemDisk) {
    this.#disk = disk
    this.#path = join(stateDir, 'state.json')
  }

  async read(): Promise<BackendState | null> {
    let text: string
    try {
      text = (await this.#disk.readFile(this.#path)).toString()
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return null
      const message = `${this.#path} could not be read (${code ?? String(error)}): check its disk and its permissions.`
      throw new MoonlinkError('retry', 'STATE_NOT_READ', message, { context: { path: this.#path }, cause: error })
    }
    return parseState(text, this.#path)
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
    const file = await this.#disk.open(`${this.#path}.new`, 'create')
    try {
      await file.write(Buffer.from(encodeState(state)), 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await this.#disk.rename(`${this.#path}.new`, this.#path)
    // So that the rename survives a power cut.
    await this.#disk.syncDirectory(dirname(this.#path))
  }
}
