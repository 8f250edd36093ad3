import type { PgSourceSettings } from './config.ts'
import type { CatalogConnection } from './connect.ts'

/** After how long the server gives a stream up, in ms; 0: never. */
export async function senderTimeoutMs(connection: CatalogConnection, settings: Pick<PgSourceSettings, 'senderTimeoutMs'>): Promise<number> {
  const [row] = await connection.rows<{ ms: string }>(`SELECT setting AS ms FROM pg_settings WHERE name = 'wal_sender_timeout'`)
  const [own, server] = [settings.senderTimeoutMs, Number(row?.ms ?? 0)]
  return own > 0 && server > 0 ? Math.min(own, server) : Math.max(own, server)
}

/** How often the server is to hear of us: a third of its time-out, at most 10 s. */
export function keepaliveMsOf(timeoutMs: number): number {
  return timeoutMs > 0 ? Math.max(10, Math.min(10_000, Math.floor(timeoutMs / 3))) : 10_000
}
