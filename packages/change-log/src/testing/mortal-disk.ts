import { MoonlinkError } from '@moonlink/core'
import type { LogDisk, LogFile } from '../log-disk.ts'

/** Another disk as one process sees it: once that is dead, nothing it asks for happens any more. */
export class MortalDisk implements LogDisk {
  readonly canAppend: boolean
  readonly readsAtOnce: number
  private readonly inner: LogDisk
  private readonly underWay = new Set<Promise<unknown>>()
  private readonly files = new Set<LogFile>()
  private isDead = false

  constructor(inner: LogDisk) {
    this.inner = inner
    this.canAppend = inner.canAppend
    this.readsAtOnce = inner.readsAtOnce
  }

  get roomBytes(): number | null {
    return this.inner.roomBytes
  }

  /** Resolves when what was under way has happened. */
  async die(): Promise<void> {
    this.isDead = true
    await Promise.allSettled(this.underWay)
    for (const file of this.files) await file.close()
  }

  list() {
    return this.alive(() => this.inner.list())
  }

  read(name: string, again?: boolean): Promise<Buffer> {
    return this.alive(() => this.inner.read(name, again))
  }

  async create(name: string): Promise<LogFile> {
    const file = await this.alive(() => this.inner.create(name))
    this.files.add(file)
    return {
      write: (bytes) => this.alive(() => file.write(bytes)),
      sync: () => this.alive(() => file.sync()),
      close: async () => {
        if (this.files.delete(file)) await file.close()
      },
    }
  }

  sync(name: string): Promise<void> {
    return this.alive(() => this.inner.sync(name))
  }

  remove(name: string): Promise<void> {
    return this.alive(() => this.inner.remove(name))
  }

  locate(name: string): string {
    return this.inner.locate(name)
  }

  private async alive<T>(operation: () => Promise<T>): Promise<T> {
    if (this.isDead) throw new MoonlinkError('retry', 'LOG_DISK_FAILED', 'the process is dead')
    const running = operation()
    this.underWay.add(running)
    return running.finally(() => this.underWay.delete(running))
  }
}
