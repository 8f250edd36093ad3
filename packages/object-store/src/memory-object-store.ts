import { joinBytes, systemClock, type ByteRange, type Clock, type ObjectBytes, type ObjectMeta, type ObjectStore } from '@moonlink/core'
import { resolveRange } from './byte-range.ts'
import { objectNotFound } from './errors.ts'
import { schemeOf } from './uri.ts'

export interface MemoryObjectStoreOptions {
  /** Gives `modifiedMs`. Default: the system's. */
  readonly clock?: Clock
}

/**
 * Objects in this process's memory, under URIs of any scheme; for tests and simulations. Bytes are copied in and out.
 *
 * Not promised: any limit of memory; durability beyond the object's own life.
 */
export class MemoryObjectStore implements ObjectStore {
  readonly #clock: Clock
  readonly #objects = new Map<string, { readonly bytes: Uint8Array; readonly modifiedMs: number }>()

  constructor(options: MemoryObjectStoreOptions = {}) {
    this.#clock = options.clock ?? systemClock
  }

  async get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted()
    const object = this.#objects.get(uri)
    if (!object) throw objectNotFound(uri)
    const { start, end } = resolveRange(range, object.bytes.length)
    return object.bytes.slice(start, end)
  }

  async head(uri: string): Promise<ObjectMeta | null> {
    const object = this.#objects.get(uri)
    return object ? { uri, size: object.bytes.length, modifiedMs: object.modifiedMs } : null
  }

  async put(uri: string, bytes: ObjectBytes): Promise<void> {
    schemeOf(uri)
    this.#objects.set(uri, { bytes: Uint8Array.from(joinBytes(bytes)), modifiedMs: this.#clock.nowMs() })
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    if (this.#objects.has(uri)) return 'exists'
    await this.put(uri, bytes)
    return 'created'
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    const uris = [...this.#objects.keys()].filter((uri) => uri.startsWith(prefix)).sort()
    for (const uri of uris) {
      const meta = await this.head(uri)
      if (meta) yield meta
    }
  }

  async delete(uri: string): Promise<void> {
    this.#objects.delete(uri)
  }
}
