import { MoonlinkError, type ObjectMeta, type ObjectStore } from '@moonlink/core'
import type { LogDisk, LogFile } from './log-disk.ts'

/** Bytes of segments that are kept from a first reading for the second. */
const KEPT_BYTES = 64 * 2 ** 20
/** Each holds what was synced at once, so that all of them together fit into some memory. */
const READS_AT_ONCE = 8

/** A segment as it was read, and as it was listed then: an object of its name may be another by now, where somebody emptied the place meanwhile. */
interface KeptSegment {
  readonly meta: ObjectMeta
  readonly bytes: Buffer
}

/** Segments as objects under one prefix: each sync puts one, under a name that only one writer can win. */
export class ObjectLogDisk implements LogDisk {
  readonly canAppend = false
  readonly readsAtOnce = READS_AT_ONCE
  readonly roomBytes = null
  private readonly store: ObjectStore
  private readonly prefix: string
  /** What was there at the last look, by name. */
  private listed = new Map<string, ObjectMeta>()
  private readonly kept = new Map<string, KeptSegment>()

  /** `prefix` is a URI; directories below it are left to others. */
  constructor(store: ObjectStore, prefix: string) {
    this.store = store
    this.prefix = prefix.endsWith('/') ? prefix : `${prefix}/`
  }

  async list(): Promise<readonly string[]> {
    const listed = new Map<string, ObjectMeta>()
    for await (const meta of this.store.list(this.prefix)) {
      const name = meta.uri.slice(this.prefix.length)
      if (!name.includes('/')) listed.set(name, meta)
    }
    this.listed = listed
    for (const [name, { meta }] of this.kept) if (!isSame(meta, listed.get(name))) this.kept.delete(name)
    return [...listed.keys()]
  }

  async read(name: string, again = false): Promise<Buffer> {
    const found = this.kept.get(name)
    if (!again) this.kept.delete(name)
    if (found !== undefined) return found.bytes
    const { buffer, byteOffset, length } = await this.store.get(this.locate(name))
    const bytes = Buffer.from(buffer, byteOffset, length)
    const meta = this.listed.get(name)
    if (again && meta?.size === length && this.keptBytes + length <= KEPT_BYTES) this.kept.set(name, { meta, bytes })
    return bytes
  }

  async create(name: string): Promise<LogFile> {
    // Whoever writes has read the log.
    this.kept.clear()
    return new ObjectLogFile(this.store, this.locate(name))
  }

  async sync(): Promise<void> {}

  async remove(name: string): Promise<void> {
    this.kept.delete(name)
    await this.store.delete(this.locate(name))
  }

  locate(name: string): string {
    return this.prefix + name
  }

  private get keptBytes(): number {
    return [...this.kept.values()].reduce((sum, { bytes }) => sum + bytes.length, 0)
  }
}

function isSame(meta: ObjectMeta, now: ObjectMeta | undefined): boolean {
  return now?.size === meta.size && now.modifiedMs === meta.modifiedMs
}

class ObjectLogFile implements LogFile {
  private readonly store: ObjectStore
  private readonly uri: string
  private readonly parts: Uint8Array[] = []
  private isPut = false

  constructor(store: ObjectStore, uri: string) {
    this.store = store
    this.uri = uri
  }

  async write(bytes: Uint8Array): Promise<void> {
    // A copy, which a buffer's own `slice` is not.
    this.parts.push(Uint8Array.from(bytes))
  }

  async sync(): Promise<void> {
    if (this.isPut) throw new MoonlinkError('bug', 'LOG_OBJECT_PUT', `${this.uri} is put already`)
    this.isPut = true
    if ((await this.store.putIfAbsent(this.uri, Buffer.concat(this.parts))) === 'exists') {
      throw new MoonlinkError('conflict', 'LOG_SEGMENT_EXISTS', `${this.uri} is there already.`, { context: { uri: this.uri } })
    }
  }

  async close(): Promise<void> {}
}
