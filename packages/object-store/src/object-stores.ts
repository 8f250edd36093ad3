import { MoonlinkError, type ByteRange, type ObjectBytes, type ObjectMeta, type ObjectStore } from '@moonlink/core'
import { schemeOf } from './uri.ts'

/** Hands each URI to the store of its scheme. Throws `invalid`/`SCHEME_UNKNOWN` for one that has none. */
export class ObjectStores implements ObjectStore {
  readonly #byScheme: ReadonlyMap<string, ObjectStore>

  /** `byScheme`: keys are schemes in lower case without the colon, such as `file`, `s3`, `s3a`. */
  constructor(byScheme: Readonly<Record<string, ObjectStore>>) {
    this.#byScheme = new Map(Object.entries(byScheme))
  }

  async get(uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#of(uri).get(uri, range, signal)
  }

  async head(uri: string): Promise<ObjectMeta | null> {
    return this.#of(uri).head(uri)
  }

  async put(uri: string, bytes: ObjectBytes): Promise<void> {
    await this.#of(uri).put(uri, bytes)
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    return this.#of(uri).putIfAbsent(uri, bytes)
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    yield* this.#of(prefix).list(prefix)
  }

  async delete(uri: string): Promise<void> {
    await this.#of(uri).delete(uri)
  }

  #of(uri: string): ObjectStore {
    const scheme = schemeOf(uri)
    const store = this.#byScheme.get(scheme)
    if (store) return store
    const known = [...this.#byScheme.keys()].map((name) => `${name}:`).join(', ')
    throw new MoonlinkError(
      'invalid',
      'SCHEME_UNKNOWN',
      `no object store is set up for ${scheme}: URIs such as ${uri}; use one of ${known}.`,
      {
        context: { uri, scheme },
      },
    )
  }
}
