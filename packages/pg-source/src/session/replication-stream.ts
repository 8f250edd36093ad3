import {
  maxLsn,
  MoonlinkError,
  systemClock,
  type ChangeLog,
  type ChangeStream,
  type Clock,
  type Lsn,
  type SourceEvent,
} from '@moonlink/core'
import { KEEPALIVE, type ShapeQuestion, type StreamDecoder, type TableAlteration } from '../decode/index.ts'
import { isRecovering, lostConnection, messageOf, sqlState, standbyError } from './errors.ts'
import { LogTap } from './log-tap.ts'
import { COPY_BOTH, COPY_DONE, READY, type RawConnection } from './raw-connection.ts'
import { statusUpdate } from './status-update.ts'

export interface ReplicationOptions {
  readonly slot: string
  /** The START_REPLICATION command. */
  readonly command: string
  readonly decoder: StreamDecoder
  /** Answers what the decoder asks; what comes meanwhile waits. */
  readonly answer: (question: ShapeQuestion, signal: AbortSignal) => Promise<readonly TableAlteration[]>
  /** Takes what arrives, before anybody sees what was decoded from it. */
  readonly log?: ChangeLog
  /** Bytes of changes held while nobody takes them, beyond which the socket is not read. */
  readonly bufferBytes: number
  /** Longest time until the server hears of an acknowledgement. */
  readonly statusIntervalMs: number
  /** A status is sent at least this often, or the server gives us up. */
  readonly keepaliveMs: number
  readonly clock?: Clock
  /** Told once why the stream can't go on. */
  readonly onFailure?: (error: MoonlinkError) => void
}

const CLOSE_MS = 1000
const GATHER_MS = 1
/** A connection on which nothing comes for so long, not even an answer, is given up. */
const SILENCE_MS = 60_000

/**
 * A running START_REPLICATION. What the socket brings is decoded at once into column buffers; the consumer takes what has gathered. The more it
 * lags behind, the larger its batches, until the bound is reached and the socket is left unread.
 */
export class ReplicationStream implements ChangeStream {
  private readonly connection: RawConnection
  private readonly options: ReplicationOptions
  private readonly decoder: StreamDecoder
  private readonly tap: LogTap | null
  private readonly clock: Clock
  private readonly stopped = new AbortController()
  private acknowledged: Lsn = 0n
  private reported = { written: 0n, acknowledged: 0n }
  private failure: MoonlinkError | null = null
  private isStarted = false
  private isClosing = false
  private isAsking = false
  private wake: (() => void) | null = null
  /** A wake-up runs in this turn of the event loop, or after `GATHER_MS`. */
  private isWakeDue = false
  private wokenAtMs = 0
  private unheardMs = 0
  private onReady: () => void = () => {}
  private closing: Promise<void> | null = null

  private constructor(connection: RawConnection, options: ReplicationOptions) {
    this.connection = connection
    this.options = options
    this.clock = options.clock ?? systemClock
    this.decoder = options.decoder
    this.tap = options.log ? new LogTap(options.log, this.decoder) : null
  }

  /** Starts the stream on a connection of its own, which it closes at its end. */
  static async start(connection: RawConnection, options: ReplicationOptions, signal: AbortSignal): Promise<ReplicationStream> {
    const stream = new ReplicationStream(connection, options)
    const started = new Promise<void>((resolve) => {
      stream.onReady = resolve
    })
    connection.start(options.command, {
      copyData: (bytes, start, end, isLasting) => stream.receive(bytes, start, end, isLasting),
      control: (type) => stream.control(type),
      chunkEnd: () => stream.chunkEnd(),
      failed: (error) => stream.fail(error),
    })
    await started
    if (stream.failure) {
      await connection.close()
      throw stream.failure
    }
    const onAbort = () => void stream.close()
    signal.addEventListener('abort', onAbort, { once: true })
    stream.stopped.signal.addEventListener('abort', () => signal.removeEventListener('abort', onAbort))
    if (signal.aborted) onAbort()
    void stream.keepReporting()
    return stream
  }

  get sourceLsn(): Lsn {
    return this.decoder.sourceLsn
  }

  /** Bytes of changes that wait for the consumer. */
  get bufferedBytes(): number {
    return this.decoder.bytesBuffered
  }

  acknowledge(durable: Lsn): void {
    this.acknowledged = maxLsn(this.acknowledged, durable)
  }

  /** Asks the server to say where it is: the answer becomes a watermark. */
  requestReply(): void {
    this.report(true)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SourceEvent, void, undefined> {
    while (!this.isClosing) {
      // What a decoder holds that met garbage is not to be trusted; what came before a lost connection is.
      if (this.failure?.kind === 'corrupt') throw this.failure
      const events = this.decoder.take()
      this.tap?.settled()
      this.ask()
      this.resumeReading()
      for (const event of events) {
        if (this.isClosing) return
        yield event
      }
      if (this.decoder.isReplaying) {
        // Nothing in a replay waits for anything outside: whatever else runs here needs its turn.
        await nextTurn()
        // What was asked may have been answered in that turn, when nobody was there to be woken.
        if (this.decoder.question === null) continue
      }
      if (events.length > 0) continue
      if (this.failure) throw this.failure
      if (this.isClosing) return
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
  }

  /** Tells the server the last acknowledgement and leaves. Ends the iteration. */
  close(): Promise<void> {
    this.closing ??= this.leave()
    return this.closing
  }

  private async leave(): Promise<void> {
    this.isClosing = true
    this.stopped.abort()
    this.wake?.()
    if (this.failure === null) {
      this.report(false)
      const ended = new Promise<void>((resolve) => {
        this.onReady = resolve
      })
      this.connection.sendCopyDone()
      // The server may have much to send before it reads that; its answer matters less than our time.
      this.connection.resume()
      const patience = new AbortController()
      await Promise.race([ended, this.clock.sleep(CLOSE_MS, patience.signal).catch(() => {})])
      patience.abort()
    }
    await this.connection.close()
    this.decoder.close()
  }

  private receive(bytes: Buffer, start: number, end: number, isLasting: boolean): void {
    // After close, what still arrives is drained without a look.
    if (this.isClosing || this.failure) return
    this.unheardMs = 0
    this.decoder.feed(bytes.subarray(start, end))
    this.tap?.fed(bytes, start, end, isLasting)
    if (bytes[start] === KEEPALIVE && this.decoder.lastKeepalive?.replyRequested) this.report(false)
  }

  private control(type: number): void {
    if (type === COPY_BOTH) {
      this.isStarted = true
      this.onReady()
    } else if (type === READY) {
      if (!this.isClosing) this.fail(new Error('the server ended the stream'))
      this.onReady()
    } else if (type === COPY_DONE && !this.isClosing) this.connection.sendCopyDone()
  }

  private chunkEnd(): void {
    this.tap?.flush()
    if (this.isClosing) return
    this.ask()
    const isLogBehind = this.options.log?.isBehind === true
    if (isLogBehind || this.decoder.bytesBuffered > this.options.bufferBytes) this.connection.pause()
    // Nobody may be about to take anything; then the log alone decides.
    if (isLogBehind) this.resumeReading()
    if (this.wake !== null && !this.isWakeDue && this.decoder.hasNews) this.scheduleWake()
  }

  private ask(): void {
    const { question } = this.decoder
    if (question === null || this.isAsking || this.failure) return
    this.isAsking = true
    this.options.answer(question, this.stopped.signal).then(
      (alterations) => {
        this.isAsking = false
        if (this.isClosing || this.failure) return
        this.takeAnswer(alterations)
        this.wakeConsumer()
      },
      (error: unknown) => this.fail(error),
    )
  }

  private takeAnswer(alterations: readonly TableAlteration[]): void {
    try {
      this.decoder.answer(alterations)
    } catch (error) {
      this.fail(error)
    }
  }

  /** A source that was quiet is answered at once; a busy one in steps of `GATHER_MS`, since a batch a chunk would cost more than its rows. */
  private scheduleWake(): void {
    this.isWakeDue = true
    const sinceMs = this.clock.nowMs() - this.wokenAtMs
    // After the event loop has read all that the socket holds now.
    if (sinceMs < 0 || sinceMs >= GATHER_MS) setImmediate(() => this.wakeConsumer())
    else void this.clock.sleep(GATHER_MS).then(() => this.wakeConsumer())
  }

  /** Reads on, once the log can take more. */
  private resumeReading(): void {
    const { log } = this.options
    // The rest of it is more than enough to hold.
    if (this.decoder.isReplaying) return
    if (!log?.isBehind) return this.connection.resume()
    void log.drained().then(() => {
      if (this.decoder.bytesBuffered <= this.options.bufferBytes) this.connection.resume()
    })
  }

  private wakeConsumer(): void {
    this.isWakeDue = false
    this.wokenAtMs = this.clock.nowMs()
    const { wake } = this
    this.wake = null
    wake?.()
  }

  private fail(error: unknown): void {
    if (!this.failure) {
      this.failure = explain(error, this.options.slot, this.isStarted)
      this.options.onFailure?.(this.failure)
      this.stopped.abort()
    }
    this.onReady()
    this.wakeConsumer()
  }

  private report(wantsReply: boolean): void {
    const written = maxLsn(this.decoder.sourceLsn, this.acknowledged)
    this.reported = { written, acknowledged: this.acknowledged }
    const acknowledged = this.decoder.acknowledgeable(this.acknowledged)
    this.connection.sendCopyData(statusUpdate(written, acknowledged, this.clock.nowMs(), wantsReply))
  }

  private async keepReporting(): Promise<void> {
    const stepMs = Math.min(this.options.statusIntervalMs, this.options.keepaliveMs)
    let sinceReportMs = 0
    for (;;) {
      await this.clock.sleep(stepMs, this.stopped.signal).catch(() => {})
      if (this.stopped.signal.aborted) return
      sinceReportMs += stepMs
      // While we do not read, the server's silence means nothing.
      this.unheardMs = this.connection.isReading ? this.unheardMs + stepMs : 0
      if (this.unheardMs > SILENCE_MS) return this.fail(new Error(`the server has not been heard of for ${SILENCE_MS / 1000} s`))
      const isNews = this.acknowledged !== this.reported.acknowledged || this.decoder.sourceLsn > this.reported.written
      if (!isNews && sinceReportMs < this.options.keepaliveMs) continue
      // A server that has nothing to say is asked to say so, or a connection that died unnoticed would look like an idle one.
      this.report(this.unheardMs >= this.options.keepaliveMs)
      sinceReportMs = 0
    }
  }
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function explain(error: unknown, slot: string, isStarted: boolean): MoonlinkError {
  if (error instanceof MoonlinkError) return error
  const state = sqlState(error)
  const text = messageOf(error)
  const made = (kind: 'retry' | 'invalid', code: string, message: string) =>
    new MoonlinkError(kind, code, message, { context: { slot }, cause: error })
  if (state === '55006') return made('retry', 'PG_SLOT_IN_USE', `${text}. Stop that mirror, or give this one another slot (source.slot).`)
  if (state === '55000' && isRecovering(text)) return standbyError(error)
  if (state === '55000' || /can no longer/.test(text)) {
    return made(
      'invalid',
      'PG_SLOT_LOST',
      `slot "${slot}" can't be read any more: ${text}. A new one has to take its place, and the tables have to be made equal to the source.`,
    )
  }
  if (state === '42704' && /publication/.test(text)) {
    return made('invalid', 'PG_PUBLICATION_MISSING', `${text}: it was dropped while the slot still needs it, so changes are missing.`)
  }
  if (state === '42704') {
    return made(
      'invalid',
      'PG_SLOT_MISSING',
      `${text}. Changes since it was dropped are missing: a new one has to take its place, and the tables have to be made equal to the source.`,
    )
  }
  return lostConnection(isStarted ? 'streaming its changes' : 'starting the stream', error)
}
