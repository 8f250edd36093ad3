import { MoonlinkError, type Lsn } from '@moonlink/core'
import pg from 'pg'
import type { PgSourceSettings } from './config.ts'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import { isLockTimeout, lostConnection } from './errors.ts'
import { exportSnapshot, processId } from './slot.ts'
import type { SourceWaits } from './source-waits.ts'

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
  static async open(
    connector: Connector,
    connection: CatalogConnection,
    { copyLockTimeoutMs, slot }: Pick<PgSourceSettings, 'copyLockTimeoutMs' | 'slot'>,
    waits: SourceWaits,
  ): Promise<SourceSnapshot> {
    const opened: pg.Client[] = []
    try {
      const client = await connector.connect('verify', false)
      opened.push(client)
      const pid = await processId(client)
      const exporter = await connector.connectReplication('verify snapshot')
      opened.push(exporter)
      const work = { pid: await processId(exporter), what: 'a comparison', tables: [] }
      const snapshot = await exportSnapshot(exporter, connection, `${slot}_verify_${pid.toString(36)}`, waits, work)
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
      await client.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot.name)}`)
      await client.query(`SET LOCAL lock_timeout = ${copyLockTimeoutMs}`)
      await disconnect(exporter)
      return new SourceSnapshot(snapshot.lsn, client)
    } catch (error) {
      await Promise.all(opened.map(disconnect))
      throw error
    }
  }

  /**
   * Rows of one statement, a text or null a column. Statements run one after the other. Throws `retry`/`PG_CONNECTION_LOST`, `retry`/`PG_LOCK_TIMEOUT` where another
   * session locks what is read, or Postgres' own error.
   */
  async rows(sql: string): Promise<readonly (readonly (string | null)[])[]> {
    try {
      const { rows } = await this.client.query<(string | null)[]>({ text: sql, rowMode: 'array', types: { getTypeParser: () => asText } })
      return rows
    } catch (error) {
      if (isLockTimeout(error)) throw locked(error)
      throw error instanceof pg.DatabaseError ? error : lostConnection('reading a snapshot', error)
    }
  }

  async close(): Promise<void> {
    await disconnect(this.client)
  }
}

function locked(cause: unknown): MoonlinkError {
  const message =
    'another session holds an ACCESS EXCLUSIVE lock on what is read, or waits for one (ALTER TABLE, VACUUM FULL?). Try again once that has ended.'
  return new MoonlinkError('retry', 'PG_LOCK_TIMEOUT', message, { cause })
}

const asText = (value: string) => value
