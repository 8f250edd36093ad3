import { isMoonlinkError, type ObjectStore } from '@moonlink/core'
import { encodeState, parseState, type BackendState, type StateStore } from './state.ts'

/**
 * The state in an object store, beside the change log: one object for each holder of the lease, named after its epoch. The highest counts, so that what a
 * stale holder still writes does not.
 */
export class StateObject implements StateStore {
  readonly #store: ObjectStore
  readonly #prefix: string
  readonly #epoch: number
  #isFirst = true

  /** `prefix` is a URI that ends with `/`; only states are below it. */
  constructor(store: ObjectStore, prefix: string, epoch: number) {
    this.#store = store
    this.#prefix = prefix
    this.#epoch = epoch
  }

  async read(): Promise<BackendState | null> {
    for (;;) {
      const newest = (await this.#epochs()).at(-1)
      if (newest === undefined) return null
      const uri = this.#locate(newest)
      try {
        return parseState(new TextDecoder().decode(await this.#store.get(uri)), uri)
      } catch (error) {
        // A holder that wrote a higher one has removed it.
        if (!isMoonlinkError(error) || error.code !== 'OBJECT_NOT_FOUND') throw error
      }
    }
  }

  async write(state: BackendState): Promise<void> {
    await this.#store.put(this.#locate(this.#epoch), new TextEncoder().encode(encodeState(state)))
    if (!this.#isFirst) return
    for (const epoch of await this.#epochs()) if (epoch < this.#epoch) await this.#store.delete(this.#locate(epoch))
    this.#isFirst = false
  }

  /** Ascending. */
  async #epochs(): Promise<number[]> {
    const epochs: number[] = []
    for await (const { uri } of this.#store.list(this.#prefix)) {
      const match = /^(\d{9})\.json$/.exec(uri.slice(this.#prefix.length))
      if (match !== null) epochs.push(Number(match[1]))
    }
    return epochs.sort((a, b) => a - b)
  }

  #locate(epoch: number): string {
    return `${this.#prefix}${epoch.toString().padStart(9, '0')}.json`
  }
}
