import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { encodeState, parseState, type BackendState, type StateStore } from './state.ts'

/** The state file of a state directory. */
export class StateFile implements StateStore {
  readonly #path: string

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'state.json')
  }

  async read(): Promise<BackendState | null> {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    return parseState(text, this.#path)
  }

  async write(state: BackendState): Promise<void> {
    writeFileSync(`${this.#path}.new`, encodeState(state), { flush: true })
    renameSync(`${this.#path}.new`, this.#path)
    syncDirectory(dirname(this.#path))
  }
}

/** Makes a rename survive a power cut. */
function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
