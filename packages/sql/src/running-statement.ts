import { MoonlinkError, type Clock } from '@moonlink/core'
import type { DuckDBDataChunk, DuckDBResult } from '@duckdb/node-api'
import type { Gate } from './gate.ts'
import type { ReadStatement } from './kept-statements.ts'
import type { Reader, Scene } from './reader.ts'
import { sqlError } from './sql-error.ts'

const INTERRUPT_EVERY_MS = 20

/** One statement under way on a reader: prepared, executed as a stream, read chunk by chunk; it can be interrupted at any time. */
export class RunningStatement {
  private readonly reader: Reader
  private readonly gate: Gate
  private readonly clock: Clock
  private readonly signal: AbortSignal | undefined
  private statement: ReadStatement | null = null
  private result: DuckDBResult | null = null
  private call: Promise<unknown> = Promise.resolve()
  private drained = false
  private stopped = false

  constructor(reader: Reader, gate: Gate, clock: Clock, signal: AbortSignal | undefined) {
    this.reader = reader
    this.gate = gate
    this.clock = clock
    this.signal = signal
  }

  async execute(sql: string, scene: Scene): Promise<DuckDBResult> {
    await this.gate.run(() => this.reader.begin(scene))
    this.statement = await this.interruptible(() => this.reader.statement(sql, scene))
    const { prepared } = this.statement
    this.result = await this.interruptible(() => prepared.stream())
    return this.result
  }

  /** The next chunk with rows; null at the end. */
  async fetch(): Promise<DuckDBDataChunk | null> {
    while (!this.drained) {
      if (this.stopped) throw new MoonlinkError('retry', 'SQL_CLOSED', 'the query was ended before its last row.')
      const chunk = await this.interruptible(() => this.result!.fetchChunk())
      if (chunk === null || chunk.rowCount === 0) this.drained = true
      else return chunk
    }
    return null
  }

  /** Ends the statement, whatever it is doing, so that its reader can take the next. */
  async stop(): Promise<void> {
    this.stopped = true
    if (!this.drained) await this.interruptUntilSettled()
    const { statement, drained } = this
    this.statement = null
    if (!drained) statement?.prepared.destroySync()
    await this.gate.run(() => this.reader.end())
    this.result = null
    if (statement && drained) this.reader.keep(statement, this.clock.nowMs())
  }

  private async interruptible<T>(call: () => Promise<T>): Promise<T> {
    this.signal?.throwIfAborted()
    const onAbort = () => void this.interruptUntilSettled()
    this.signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const running = this.gate.run(() => {
        this.signal?.throwIfAborted()
        return call()
      })
      this.call = running
      return await running
    } catch (error) {
      this.signal?.throwIfAborted()
      throw sqlError(error)
    } finally {
      this.signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Again and again, since DuckDB forgets an interrupt that comes before a call has begun. */
  private async interruptUntilSettled(): Promise<void> {
    let settled = false
    const done = this.call.then(
      () => (settled = true),
      () => (settled = true),
    )
    await Promise.resolve()
    while (!settled) {
      this.reader.connection.interrupt()
      await Promise.race([done, this.clock.sleep(INTERRUPT_EVERY_MS)])
    }
  }
}
