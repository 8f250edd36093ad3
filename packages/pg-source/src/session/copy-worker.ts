import { MoonlinkError } from '@moonlink/core'
import pg from 'pg'
import type { CopyBinaryDecoder } from '../decode/index.ts'
import { lostConnection } from './errors.ts'
import type { CopyThrottle } from './copy-throttle.ts'
import { READY, type RawConnection } from './raw-connection.ts'

export interface BatchLimits {
  readonly copyBatchRows: number
  readonly copyBatchBytes: number
}

/** One connection within the copy's snapshot. Runs one COPY at a time; its socket is read only as far as batches are taken. */
export class CopyWorker {
  private readonly connection: RawConnection
  private readonly limits: BatchLimits
  private readonly throttle: CopyThrottle | null
  private readonly closing = new AbortController()
  private decoder: CopyBinaryDecoder | null = null
  private failure: Error | null = null
  private isBusy = false
  private wake: (() => void) | null = null
  /** The connection or its transaction is gone: no further COPY can run here. */
  isBroken = false

  /** `throttle`: shared with the copy's other connections; null where they may read as fast as they can. */
  constructor(connection: RawConnection, limits: BatchLimits, throttle: CopyThrottle | null = null) {
    this.connection = connection
    this.limits = limits
    this.throttle = throttle
  }

  /** True where the server is to send something. */
  get isWaiting(): boolean {
    return this.isBusy && this.connection.isReading
  }

  /** Starts a COPY whose rows the decoder takes. */
  start(sql: string, decoder: CopyBinaryDecoder): void {
    this.decoder = decoder
    this.failure = null
    this.isBusy = true
    this.connection.start(sql, {
      copyData: (bytes, start, end, isLasting) => {
        this.throttle?.spend(end - start)
        if (this.failure === null) decoder.feed(bytes, start, end, isLasting)
      },
      control: (type) => {
        if (type === READY) this.finish()
      },
      chunkEnd: () => this.chunkEnd(decoder),
      failed: (error) => this.fail(error),
    })
    this.connection.resume()
  }

  /** Reads until the decoder has a full batch: true; or until the COPY is over: false. */
  async fill(): Promise<boolean> {
    const decoder = this.decoder!
    while (this.isBusy && this.failure === null && !this.isFull(decoder)) {
      await this.throttle?.ready(this.closing.signal)
      // What was on its way when reading was paused came meanwhile: nothing else may come then.
      if (!this.isBusy || this.failure !== null || this.isFull(decoder)) break
      this.connection.resume()
      await this.progress()
    }
    if (this.failure) throw this.failure
    if (this.isFull(decoder)) return true
    decoder.finish()
    return false
  }

  /** Runs a COPY that nobody wants any more to its end, so that the connection can serve again. */
  async drain(): Promise<void> {
    this.failure ??= new MoonlinkError('retry', 'PG_COPY_STOPPED', 'the copy was not read to its end')
    this.connection.resume()
    while (this.isBusy && !this.isBroken) await this.progress()
  }

  /** Breaks off. */
  async close(reason: Error): Promise<void> {
    this.failure ??= reason
    this.isBroken = true
    this.isBusy = false
    this.closing.abort(reason)
    this.wakeUp()
    await this.connection.close()
  }

  private isFull(decoder: CopyBinaryDecoder): boolean {
    return decoder.rowsBuffered >= this.limits.copyBatchRows || decoder.bytesBuffered >= this.limits.copyBatchBytes
  }

  private chunkEnd(decoder: CopyBinaryDecoder): void {
    if (this.failure !== null) return
    try {
      decoder.flush()
    } catch (error) {
      return this.fail(error)
    }
    if (!this.isFull(decoder) && !this.throttle?.isInDebt) return
    this.connection.pause()
    this.wakeUp()
  }

  private finish(): void {
    this.isBusy = false
    this.wakeUp()
  }

  private fail(error: unknown): void {
    const isOurs = error instanceof MoonlinkError
    this.failure ??= isOurs ? error : lostConnection('copying its tables', error)
    // After a value that can't be mirrored the connection is as good as before; a server error ended the transaction.
    if (!isOurs) this.isBroken = true
    if (!isOurs && !(error instanceof pg.DatabaseError)) this.isBusy = false
    this.connection.resume()
    this.wakeUp()
  }

  private progress(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve
    })
  }

  private wakeUp(): void {
    const { wake } = this
    this.wake = null
    wake?.()
  }
}
