import type { DuckDBInstance } from '@duckdb/node-api'
import { Reader } from './reader.ts'

/** Readers, made as needed up to a number, then handed on in the order they were asked for. */
export class ReaderPool {
  private readonly instance: DuckDBInstance
  private readonly maxReaders: number
  private readonly idle: Reader[] = []
  private readonly waiting: { readonly resolve: (reader: Reader) => void; readonly reject: (error: unknown) => void }[] = []
  private readerCount = 0
  private namedCount = 0
  private closedBy: Error | null = null

  constructor(instance: DuckDBInstance, maxReaders: number) {
    this.instance = instance
    this.maxReaders = maxReaders
  }

  async take(signal?: AbortSignal): Promise<Reader> {
    signal?.throwIfAborted()
    if (this.closedBy !== null) throw this.closedBy
    const reader = this.idle.pop()
    if (reader) return reader
    if (this.readerCount < this.maxReaders) return this.open()
    return new Promise<Reader>((resolve, reject) => {
      const waiter = { resolve, reject }
      this.waiting.push(waiter)
      signal?.addEventListener(
        'abort',
        () => {
          const at = this.waiting.indexOf(waiter)
          if (at < 0) return
          this.waiting.splice(at, 1)
          reject(signal.reason as Error)
        },
        { once: true },
      )
    })
  }

  give(reader: Reader): void {
    if (this.closedBy !== null) return this.discard(reader)
    const waiter = this.waiting.shift()
    if (waiter) waiter.resolve(reader)
    else this.idle.push(reader)
  }

  /** Closes a reader that must not be used again. */
  discard(reader: Reader): void {
    reader.close()
    this.readerCount--
    const waiter = this.closedBy !== null ? undefined : this.waiting.shift()
    if (waiter) this.open().then(waiter.resolve, waiter.reject)
  }

  /** Drops the statements that idle readers kept before then. */
  sweep(keptBeforeMs: number): void {
    for (const reader of this.idle) reader.sweep(keptBeforeMs)
  }

  close(reason: Error): void {
    this.closedBy = reason
    for (const waiter of this.waiting.splice(0)) waiter.reject(reason)
    for (const reader of this.idle.splice(0)) this.discard(reader)
  }

  private async open(): Promise<Reader> {
    this.readerCount++
    try {
      return await Reader.open(this.instance, `$query ${++this.namedCount}`)
    } catch (error) {
      this.readerCount--
      throw error
    }
  }
}
