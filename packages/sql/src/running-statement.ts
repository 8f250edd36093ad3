import { MoonlinkError, type Clock } from '@moonlink/core'
import type { DuckDBDataChunk, DuckDBResult } from '@duckdb/node-api'
import type { Gate } from './gate.ts'
import { InterruptibleCalls } from './interruptible-calls.ts'
import type { ReadStatement } from './kept-statements.ts'
import type { Reader, Scene } from './reader.ts'

/**
 * One statement under way on a reader: prepared, executed as a stream, read chunk by chunk; it can be interrupted at any time. One chunk is fetched ahead,
 * while the caller is busy with the one before, and the transaction ends as soon as there is none left.
 */
export class RunningStatement {
  private readonly reader: Reader
  private readonly gate: Gate
  private readonly clock: Clock
  private readonly signal: AbortSignal | undefined
  private readonly calls: InterruptibleCalls
  private statement: ReadStatement | null = null
  private result: DuckDBResult | null = null
  private next: Promise<DuckDBDataChunk | null> = Promise.resolve(null)
  private ended: Promise<void> | null = null
  private drained = false
  private stopped = false

  constructor(reader: Reader, gate: Gate, clock: Clock, signal: AbortSignal | undefined) {
    this.reader = reader
    this.gate = gate
    this.clock = clock
    this.signal = signal
    this.calls = new InterruptibleCalls(reader.connection, gate, clock, signal)
  }

  async execute(sql: string, scene: Scene): Promise<DuckDBResult> {
    await this.gate.run(() => this.reader.begin(sql, scene))
    this.statement = await this.calls.run(() => this.reader.statement(sql, scene))
    const { prepared } = this.statement
    this.result = await this.calls.run(() => prepared.stream())
    this.fetchAhead(this.result)
    return this.result
  }

  /** The next chunk with rows; null at the end. Not to be called again before it has settled. */
  async fetch(): Promise<DuckDBDataChunk | null> {
    if (this.stopped) throw new MoonlinkError('retry', 'SQL_CLOSED', 'the query was ended before its last row.')
    this.signal?.throwIfAborted()
    const chunk = await this.next
    if (chunk !== null && !this.stopped) this.fetchAhead(this.result!)
    return chunk
  }

  /** Ends the statement, whatever it is doing, so that its reader can take the next. */
  async stop(): Promise<void> {
    this.stopped = true
    if (!this.drained) await this.calls.interrupt()
    const { statement, drained } = this
    this.statement = null
    if (!drained) statement?.prepared.destroySync()
    await this.end()
    this.result = null
    if (statement && drained) this.reader.keep(statement, this.clock.nowMs())
  }

  private fetchAhead(result: DuckDBResult): void {
    this.next = this.chunkOf(result)
    // Whoever asks for it is told.
    this.next.catch(() => undefined)
  }

  private async chunkOf(result: DuckDBResult): Promise<DuckDBDataChunk | null> {
    const chunk = await this.calls.run(() => result.fetchChunk())
    if (chunk !== null && chunk.rowCount > 0) return chunk
    this.drained = true
    this.end().catch(() => undefined)
    return null
  }

  private end(): Promise<void> {
    this.ended ??= this.gate.run(() => this.reader.end(this.drained))
    return this.ended
  }
}
