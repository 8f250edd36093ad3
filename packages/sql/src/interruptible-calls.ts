import type { Clock } from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'
import type { Gate } from './gate.ts'
import { sqlError } from './sql-error.ts'

const INTERRUPT_EVERY_MS = 20

/** DuckDB calls on one connection, one at a time, which can be interrupted at any time, by the signal too. */
export class InterruptibleCalls {
  private readonly connection: DuckDBConnection
  private readonly gate: Gate
  private readonly clock: Clock
  private readonly signal: AbortSignal | undefined
  private call: Promise<unknown> = Promise.resolve()

  constructor(connection: DuckDBConnection, gate: Gate, clock: Clock, signal: AbortSignal | undefined) {
    this.connection = connection
    this.gate = gate
    this.clock = clock
    this.signal = signal
  }

  /** Makes the call when the gate lets it. Throws the signal's reason once that is aborted, else what `sqlError` makes of the call's error. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    this.signal?.throwIfAborted()
    const onAbort = () => void this.interrupt()
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

  /** Interrupts the last call again and again until it has settled, since DuckDB forgets an interrupt that comes before a call has begun. */
  async interrupt(): Promise<void> {
    let settled = false
    const settle = () => (settled = true)
    const done = this.call.then(settle, settle)
    await Promise.resolve()
    while (!settled) {
      this.connection.interrupt()
      await Promise.race([done, this.clock.sleep(INTERRUPT_EVERY_MS)])
    }
  }
}
