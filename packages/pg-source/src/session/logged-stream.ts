import { maxLsn, type ChangeLog, type ChangeStream, type Lsn, type SourceEvent } from '@moonlink/core'
import type { StreamDecoder } from '../decode/index.ts'
import { feedRun } from './log-tap.ts'
import { nextTurn, type ReplicationOptions, type ReplicationStream } from './replication-stream.ts'

export interface LoggedStreamOptions {
  readonly log: ChangeLog
  readonly decoder: StreamDecoder
  readonly answer: ReplicationOptions['answer']
  /** Replays what the log has after this. */
  readonly after: Lsn
  /** Bytes of changes that are decoded before they are handed out. */
  readonly batchBytes: number
  /** Opens the stream that goes on where the log ends. */
  readonly connect: () => Promise<ReplicationStream>
}

/** First what the log has, then what the source sends from there on, as one stream: both go through one decoder. */
export class LoggedStream implements ChangeStream {
  private readonly options: LoggedStreamOptions
  private live: ReplicationStream | null = null
  private connecting: Promise<unknown> = Promise.resolve()
  private acknowledged: Lsn = 0n
  private isClosed = false
  private readonly closed = new AbortController()

  constructor(options: LoggedStreamOptions) {
    this.options = options
  }

  get sourceLsn(): Lsn {
    return this.options.decoder.sourceLsn
  }

  acknowledge(durable: Lsn): void {
    this.acknowledged = maxLsn(this.acknowledged, durable)
    this.live?.acknowledge(durable)
  }

  /** Asks the server to say where it is, if it is there yet. */
  requestReply(): void {
    this.live?.requestReply()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SourceEvent, void, undefined> {
    yield* this.replayed()
    if (this.isClosed) return
    const connecting = this.options.connect()
    this.connecting = connecting.catch(() => {})
    this.live = await connecting
    this.live.acknowledge(this.acknowledged)
    yield* this.live
  }

  async close(): Promise<void> {
    this.isClosed = true
    this.closed.abort(new Error('the stream is closed'))
    await this.connecting
    if (this.live) await this.live.close()
    // Only a stream that is live lets go of what was spooled.
    else this.options.decoder.close()
  }

  private async *replayed(): AsyncGenerator<SourceEvent, void, undefined> {
    const { after, batchBytes, decoder, log } = this.options
    for await (const entry of log.replay(after)) {
      if (entry.kind === 'state') decoder.importState(entry.bytes)
      else if (entry.kind === 'session') decoder.beginSession()
      else feedRun(decoder, entry.bytes)
      if (!(await this.answered())) return
      while (decoder.bytesBuffered >= batchBytes) {
        for (const event of decoder.take()) {
          if (this.isClosed) return
          yield event
        }
        if (!(await this.answered())) return
        await nextTurn()
      }
    }
    for (let events = decoder.take(); events.length > 0 || decoder.question !== null; events = decoder.take()) {
      if (this.isClosed) return
      yield* events
      if (!(await this.answered())) return
      await nextTurn()
    }
  }

  /** Has what the decoder asks answered. False where the stream was closed meanwhile. */
  private async answered(): Promise<boolean> {
    const { answer, decoder } = this.options
    while (decoder.question !== null && !this.isClosed) {
      try {
        decoder.answer(await answer(decoder.question, this.closed.signal))
      } catch (error) {
        if (!this.isClosed) throw error
      }
    }
    return !this.isClosed
  }
}
