import { MoonlinkError, type Lsn } from '@moonlink/core'
import pg from 'pg'
import type { PgSourceSettings } from './config.ts'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import { isLockTimeout, lostConnection } from './errors.ts'
import { atOnce, sessionOf, type Session } from './server-session.ts'
import { exportSnapshot } from './slot.ts'
import type { SourceWaits } from './source-waits.ts'
import { unlessGone, type SilenceOptions } from './watch-silence.ts'

/**
 * The database exactly as it was at `lsn`: statements see the transactions that end at or before it, and no others.
 *
 * It holds back vacuum until `close`, as any long transaction does.
 */
export class SourceSnapshot {
  readonly lsn: Lsn
  private readonly session: Session
  private readonly silence: SilenceOptions

  private constructor(lsn: Lsn, session: Session, silence: SilenceOptions) {
    this.lsn = lsn
    this.session = session
    this.silence = silence
  }

  /** Waits until transactions that are running have ended, as a new slot does; the slot is gone when this resolves. */
  static async open(
    connector: Connector,
    connection: CatalogConnection,
    { copyLockTimeoutMs, slot }: Pick<PgSourceSettings, 'copyLockTimeoutMs' | 'slot'>,
    waits: SourceWaits,
  ): Promise<SourceSnapshot> {
    const opened: pg.Client[] = []
    const { patienceMs } = connector
    const silence = { connection, patienceMs }
    try {
      const client = await connector.connect('verify', false)
      opened.push(client)
      const session = await sessionOf(client, patienceMs)
      const exporter = await connector.connectReplication('verify snapshot')
      opened.push(exporter)
      const exporting = await sessionOf(exporter, patienceMs)
      const work = { pid: exporting.pid, what: 'a comparison', tables: [] }
      const snapshot = await exportSnapshot(exporting, silence, `${slot}_verify_${session.pid.toString(36)}`, waits, work)
      await atOnce(client, patienceMs, 'taking on a snapshot', async () => {
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
        await client.query(`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot.name)}`)
        await client.query(`SET LOCAL lock_timeout = ${copyLockTimeoutMs}`)
      })
      await disconnect(exporter)
      return new SourceSnapshot(snapshot.lsn, session, silence)
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
      const query = { text: sql, rowMode: 'array', types: { getTypeParser: () => asText } } as const
      const { rows } = await unlessGone(this.session, this.silence, () => this.session.client.query<(string | null)[]>(query))
      return rows
    } catch (error) {
      if (isLockTimeout(error)) throw locked(error)
      throw error instanceof pg.DatabaseError ? error : lostConnection('reading a snapshot', error)
    }
  }

  async close(): Promise<void> {
    await disconnect(this.session.client)
  }
}

function locked(cause: unknown): MoonlinkError {
  const message =
    'another session holds an ACCESS EXCLUSIVE lock on what is read, or waits for one (ALTER TABLE, VACUUM FULL?). Try again once that has ended.'
  return new MoonlinkError('retry', 'PG_LOCK_TIMEOUT', message, { cause })
}

const asText = (value: string) => value
