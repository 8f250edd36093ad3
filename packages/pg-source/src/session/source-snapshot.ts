import type { Logger, Lsn } from '@moonlink/core'
import pg from 'pg'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import { lostConnection } from './errors.ts'
import { exportSnapshot } from './slot.ts'

/**
 * The database exactly as it was at `lsn`: statements see the transactions that end at or before it, and no others.
 *
 * It holds back vacuum until `close`, as any long transaction does.
 */
export class SourceSnapshot {
  readonly lsn: Lsn
  private readonly client: pg.Client

  private constructor(lsn: Lsn, client: pg.Client) {
    this.lsn = lsn
    this.client = client
  }

  /** Waits until transactions that are running have ended, as a new slot does; the slot is gone when this resolves. */
  static async open(connector: Connector, connection: CatalogConnection, slotPrefix: string, logger: Logger): Promise<SourceSnapshot> {
    const opened: pg.Client[] = []
    try {
      const client = await connector.connect('verify', false)
      opened.push(client)
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      const exporter = await connector.connectReplication('verify snapshot')
      opened.push(exporter)
      const snapshot = await exportSnapshot(exporter, connection, `${slotPrefix}_verify_${rows[0].pid.toString(36)}`, logger)
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
      await client.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot.name)}`)
      await disconnect(exporter)
      return new SourceSnapshot(snapshot.lsn, client)
    } catch (error) {
      await Promise.all(opened.map(disconnect))
      throw error
    }
  }

  /** Rows of one statement, a text or null a column. Statements run one after the other. Throws `retry`/`PG_CONNECTION_LOST`, or Postgres' own error. */
  async rows(sql: string): Promise<readonly (readonly (string | null)[])[]> {
    try {
      const { rows } = await this.client.query<(string | null)[]>({ text: sql, rowMode: 'array', types: { getTypeParser: () => asText } })
      return rows
    } catch (error) {
      throw error instanceof pg.DatabaseError ? error : lostConnection('reading a snapshot', error)
    }
  }

  async close(): Promise<void> {
    await disconnect(this.client)
  }
}

const asText = (value: string) => value
