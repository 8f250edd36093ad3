import { MoonlinkError, silentLogger, type ByteRange, type Clock, type Logger, type ObjectBytes, type ObjectStore } from '@moonlink/core'
import { MemoryObjectStore } from '@moonlink/object-store'

/** The store of a world: it may be full, or refuse what is below a prefix, and says what is done to it, as that happens. */
export class SimStore implements ObjectStore {
  private readonly inner: MemoryObjectStore
  private readonly logger: Logger
  private readonly onRefused: () => void
  /** Takes nothing new. */
  isFull = false
  /** Below these nothing may be written or removed. */
  readonly denied = new Set<string>()

  constructor(clock: Clock, logger: Logger, onRefused: () => void) {
    this.onRefused = onRefused
    this.inner = new MemoryObjectStore({ clock })
    this.logger = logger
  }

  get(uri: string, range?: ByteRange): Promise<Uint8Array> {
    return this.inner.get(uri, range)
  }

  head(uri: string): ReturnType<ObjectStore['head']> {
    return this.inner.head(uri)
  }

  list(prefix: string): ReturnType<ObjectStore['list']> {
    return this.inner.list(prefix)
  }

  async put(uri: string, bytes: ObjectBytes): Promise<void> {
    this.requirePermission(uri)
    this.requireRoom(uri)
    this.say('put', uri)
    await this.inner.put(uri, bytes)
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    this.requirePermission(uri)
    this.requireRoom(uri)
    const outcome = await this.inner.putIfAbsent(uri, bytes)
    this.say(`putIfAbsent (${outcome})`, uri)
    return outcome
  }

  async delete(uri: string): Promise<void> {
    this.requirePermission(uri)
    this.say('delete', uri)
    await this.inner.delete(uri)
  }

  private requirePermission(uri: string): void {
    if (![...this.denied].some((prefix) => uri.startsWith(prefix))) return
    this.onRefused()
    throw new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', `${uri} may not be written or removed: allow it.`)
  }

  private requireRoom(uri: string): void {
    if (!this.isFull) return
    this.onRefused()
    throw new MoonlinkError('invalid', 'STORE_FULL', `no room to write ${uri}: free space, then the mirror goes on.`)
  }

  private say(operation: string, uri: string): void {
    if (this.logger !== silentLogger) this.logger.debug(`${operation} ${uri}`)
  }
}
