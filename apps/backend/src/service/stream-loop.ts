import {
  formatLsn,
  maxLsn,
  type ChangeLog,
  type ChangeSource,
  type ChangeStream,
  type Clock,
  type Logger,
  type Lsn,
  type Random,
  type SourceEvent,
  type Telemetry,
} from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import { toMoonlinkError } from '../http/errors.ts'
import { backOffMs } from './back-off.ts'

export interface StreamLoopOptions {
  readonly source: Pick<ChangeSource, 'open'>
  readonly engine: Pick<Engine, 'apply' | 'streamedLsn' | 'restartLsn' | 'resetOpenTransaction' | 'resumePoints'>
  /** Takes what the source sends, and gives again what the source has let go of. */
  readonly log: ChangeLog | null
  /** Every mirror is known to cover what lies before this, and nobody has it any more. */
  readonly floorLsn: () => Lsn
  /** Asked before a stream is opened, which would take the slot from a successor: throws where there is one, or may be. */
  readonly requireCurrent: () => Promise<void>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly telemetry: Telemetry
  /** Called once where the stream can't go on: not for what may pass. */
  readonly onFailure: (error: Error) => void
}

/** How long a stop waits for the transaction being read to end. */
const boundaryWaitMs = 5_000

/** Keeps a change stream open and feeds the engine from it: opens it again, with growing pauses, where it is lost. */
export class StreamLoop {
  readonly #options: StreamLoopOptions
  #stopping = false
  /** The transaction being read did not end soon enough after `stop`. */
  #late = false
  #wake: () => void = () => undefined
  /** Ends the stream, and whatever waits on the way to one. */
  #lifetime = new AbortController()
  #stream: ChangeStream | null = null
  #done: Promise<void> = Promise.resolve()
  #trouble: string | null = 'it has not been opened yet'
  #attempts = 0
  #opened = false
  #running = false

  constructor(options: StreamLoopOptions) {
    this.#options = options
  }

  /** Why no stream is open, or null where one is. */
  get trouble(): string | null {
    return this.#trouble
  }

  /** How far the source has told this stream it is; 0 before it told. */
  get sourceLsn(): Lsn {
    return this.#stream?.sourceLsn ?? 0n
  }

  /** Begins, where it has not begun yet. */
  start(): void {
    if (this.#running) return
    this.#running = true
    this.#stopping = this.#late = false
    this.#lifetime = new AbortController()
    this.#done = this.#run()
  }

  /** Stops reading, between two transactions where one ends soon. The stream stays open for `acknowledge`, until `close`. */
  async stop(): Promise<void> {
    this.#stopping = true
    if (this.#stream === null) this.#lifetime.abort(new Error('stopped'))
    this.#wake()
    const patience = new AbortController()
    const late = this.#options.clock.sleep(boundaryWaitMs, patience.signal).then(
      () => {
        this.#late = true
        this.#wake()
      },
      () => undefined,
    )
    await this.#done
    this.#running = false
    patience.abort(new Error('stopped'))
    await late
  }

  /** Ends the stream. */
  async close(): Promise<void> {
    const stream = this.#stream
    this.#stream = null
    this.#trouble ??= 'it is closed'
    await stream?.close().catch((error: unknown) => this.#options.logger.debug('the stream did not close well', { error: String(error) }))
    this.#lifetime.abort(new Error('closed'))
  }

  /** Runs `change` while no stream is open; the next goes on where the last one stood, if there was one. */
  async pausedFor<T>(change: () => Promise<T>): Promise<T> {
    const wasRunning = this.#running
    await this.stop()
    await this.close()
    try {
      return await change()
    } finally {
      if (wasRunning) this.start()
    }
  }

  acknowledge(lsn: Lsn): void {
    this.#stream?.acknowledge(lsn)
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      try {
        await this.#follow(await this.#nextLsn())
        if (this.#stopping) return
        this.#trouble = 'the source ended the stream'
      } catch (thrown) {
        if (this.#lifetime.signal.aborted) return
        if (!this.#mayPass(thrown)) return
      }
      await this.close()
      this.#lifetime = new AbortController()
      if (this.#stopping) return
      await this.#options.clock.sleep(backOffMs(this.#attempts++, this.#options.random), this.#lifetime.signal).catch(() => undefined)
    }
  }

  #mayPass(thrown: unknown): boolean {
    const { logger, onFailure } = this.#options
    const error = toMoonlinkError(thrown)
    this.#trouble = `${error.code} ${error.message}`
    this.#options.telemetry.count('moonlink_errors_total', 1, { where: 'stream', kind: error.kind, code: error.code })
    if (error.kind === 'retry') {
      logger.warn('the change stream was lost and is opened again', { code: error.code, error: error.message, attempt: this.#attempts })
      return true
    }
    logger.error('the change stream failed', { code: error.code, error: error.message, stack: (error.cause as Error | undefined)?.stack })
    onFailure(error)
    return false
  }

  async #nextLsn(): Promise<Lsn> {
    const { engine, floorLsn } = this.#options
    const goesOn = await engine.resetOpenTransaction()
    return maxLsn(floorLsn(), goesOn && this.#opened ? engine.streamedLsn : engine.restartLsn())
  }

  async #follow(after: Lsn): Promise<void> {
    const { engine, log, logger, requireCurrent, source } = this.#options
    await requireCurrent()
    const stream = await source.open(after, this.#lifetime.signal, log ?? undefined, engine.resumePoints())
    this.#stream = stream
    this.#opened = true
    this.#trouble = null
    this.#options.telemetry.count('moonlink_stream_opens_total')
    logger.info('the change stream is open', { after: formatLsn(after) })
    await this.#applyUntilStopped(stream[Symbol.asyncIterator]())
  }

  // By hand rather than by `for await`: leaving that would end the stream, which has acknowledgements to carry yet.
  async #applyUntilStopped(events: AsyncIterator<SourceEvent>): Promise<void> {
    let inTransaction = false
    let pending: Promise<IteratorResult<SourceEvent>> | null = null
    while (!this.#mustStop(inTransaction)) {
      pending ??= events.next()
      const next = await this.#orWoken(pending)
      if (next === null) continue
      pending = null
      if (next.done === true) return
      await this.#options.engine.apply(next.value)
      this.#attempts = 0
      inTransaction = next.value.kind !== 'watermark'
    }
    // What it may still give is not applied; the next stream starts before it.
    pending?.catch(() => undefined)
  }

  #mustStop(inTransaction: boolean): boolean {
    return this.#stopping && (!inTransaction || this.#late)
  }

  /** The promise's result, or null where `stop` was called or its patience ended before. */
  #orWoken<T>(pending: Promise<T>): Promise<T | null> {
    return new Promise((resolve, reject) => {
      this.#wake = () => resolve(null)
      pending.then(resolve, reject)
    })
  }
}
