import type { Clock } from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'

const INTERRUPT_EVERY_MS = 20

/** Interrupts the call again and again, since DuckDB forgets an interrupt that comes before a call has begun. */
export async function interruptUntilSettled(connection: DuckDBConnection, call: Promise<unknown>, clock: Clock): Promise<void> {
  let settled = false
  const done = call.then(
    () => (settled = true),
    () => (settled = true),
  )
  await Promise.resolve()
  while (!settled) {
    connection.interrupt()
    await Promise.race([done, clock.sleep(INTERRUPT_EVERY_MS)])
  }
}
