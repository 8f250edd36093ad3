import { MoonlinkError, type ObjectStore } from '@moonlink/core'
import type { LogDisk, LogFile } from './log-disk.ts'

/** Segments as objects under one prefix: each sync puts one, under a name that only one writer can win. */
export class ObjectLogDisk implements LogDisk {
  readonly canAppend = false
  private readonly store: ObjectStore
  private readonly prefix: string

  /** `prefix` is a URI; directories below it are left to others. */
  constructor(store: ObjectStore, prefix: string) {
    this.store = store
    this.prefix = prefix.endsWith('/') ? prefix : `${prefix}/`
  }

  async list(): Promise<readonly string[]> {
    const names: string[] = []
    for await (const { uri } of this.store.list(this.prefix)) {
      const name = uri.slice(this.prefix.length)
      if (!name.includes('/')) names.push(name)
    }
    return names
  }

  async read(name: string): Promise<Buffer> {
    const bytes = await this.store.get(this.locate(name))
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  async create(name: string): Promise<LogFile> {
    return new ObjectLogFile(this.store, this.locate(name))
  }

  async sync(): Promise<void> {}

  async remove(name: string): Promise<void> {
    await this.store.delete(this.locate(name))
  }

  locate(name: string): string {
    return this.prefix + name
  }
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
