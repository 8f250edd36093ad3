import { dirname, join } from 'node:path'
import { systemDisk, type LocalDisk } from '@moonlink/core'
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
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    return parseState(text, this.#path)
  }

  async write(state: BackendState): Promise<void> {
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
