import { MoonlinkError } from '@moonlink/core'
import pg from 'pg'
import type { PgSourceSettings } from './config.ts'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import { standbyError } from './errors.ts'
import { checkPublication } from './publication.ts'
import { readPublications } from './publication-state.ts'
import { atOnce } from './server-session.ts'
import { checkSlot, readSlot } from './slot.ts'

/** The server, as it presented itself. */
export interface ServerFacts {
  readonly database: string
  /** As Postgres prints it, for example `16.4`. */
  readonly version: string
  readonly versionNumber: number
  /** Tells a cluster from every other. */
  readonly systemId: string
  readonly user: string
}

const OLDEST = 140_000

interface Facts {
  readonly version: string
  readonly number: string
  readonly database: string
  readonly user: string
  readonly wal_level: string
  readonly is_standby: boolean
  readonly slots: number
  readonly max_slots: number
}

/** Checks everything that would keep a mirror from running, before anything is made. Each failure is one `MoonlinkError` with its remedy. */
export async function preflight(connector: Connector, connection: CatalogConnection, settings: PgSourceSettings): Promise<ServerFacts> {
  const [facts] = await connection.rows<Facts>(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number, current_database() AS database,
       current_user AS user, current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS is_standby,
       (SELECT count(*)::int FROM pg_replication_slots) AS slots, current_setting('max_replication_slots')::int AS max_slots`,
  )
  checkServer(facts)
  if (settings.failover && Number(facts.number) < 170_000) {
    throw invalid(
      'PG_FAILOVER',
      `the server is Postgres ${facts.version}, and slots outlive a failover from 17 on. Set source.failover to false.`,
    )
  }
  const systemId = await checkReplication(connector)
  await checkPublications(connection, settings, Number(facts.number))
  const slot = await readSlot(connection, settings.slot)
  if (slot) checkSlot(settings.slot, slot, facts.database, settings.replaceLostSlot)
  // One for the stream, and one more while tables are copied.
  const needed = slot ? 1 : 2
  if (facts.slots + needed > facts.max_slots) {
    throw invalid(
      'PG_SLOTS_EXHAUSTED',
      `the server has ${facts.slots} of at most ${facts.max_slots} replication slots, and ${needed} more are needed. Raise max_replication_slots and restart it, or drop a slot that nobody uses.`,
    )
  }
  return {
    database: facts.database,
    version: facts.version.split(' ')[0],
    versionNumber: Number(facts.number),
    systemId,
    user: facts.user,
  }
}

function checkServer(facts: Facts): void {
  if (Number(facts.number) < OLDEST) {
    throw invalid('PG_VERSION', `the server is Postgres ${facts.version}, and 14 is the oldest that can be mirrored. Upgrade it.`)
  }
  if (facts.is_standby) throw standbyError()
  // Postgres 19 can decode at wal_level=replica, and says what it effectively has in a setting of its own.
  if (facts.wal_level !== 'logical' && Number(facts.number) < 190_000) {
    throw invalid(
      'PG_WAL_LEVEL',
      `the server's wal_level is ${facts.wal_level}, and has to be logical. Run ALTER SYSTEM SET wal_level = logical and restart it (on managed services: the parameter for logical replication).`,
    )
  }
}

/** Opens a replication connection: shows whether role, pg_hba.conf and max_wal_senders let us. */
async function checkReplication(connector: Connector): Promise<string> {
  const client = await connector.connectReplication('preflight')
  try {
    const ask = () => client.query<{ systemid: string }>('IDENTIFY_SYSTEM')
    const { rows } = await atOnce(client, connector.patienceMs, 'identifying its system', ask)
    return rows[0].systemid
  } finally {
    await disconnect(client)
  }
}

async function checkPublications(connection: CatalogConnection, settings: PgSourceSettings, versionNumber: number): Promise<void> {
  const { main, append } = await readPublications(connection, versionNumber, settings.publication, appendPublication(settings))
  if (main) checkPublication({ name: main.name, publish: 'all' }, main)
  if (append) checkPublication({ name: append.name, publish: 'inserts' }, append)
  const [found] = await connection.rows<{ may: boolean; has: boolean }>(
    `SELECT has_database_privilege(current_database(), 'CREATE') AS may, EXISTS (SELECT FROM pg_publication WHERE pubname = $1) AS has`,
    [settings.publication],
  )
  if (found.may || found.has) return
  const [who] = await connection.rows<{ user: string; database: string }>('SELECT current_user AS user, current_database() AS database')
  throw invalid(
    'PG_CREATE_PRIVILEGE',
    `user "${who.user}" may not make the publication "${settings.publication}". Let the database's owner run GRANT CREATE ON DATABASE ${pg.escapeIdentifier(who.database)} TO ${pg.escapeIdentifier(who.user)}, or make the publication for it (moonlink role-sql prints how).`,
  )
}

/** Name of the publication for append-only tables. */
export function appendPublication(settings: Pick<PgSourceSettings, 'publication'>): string {
  return `${settings.publication}_append`
}

function invalid(code: string, message: string): MoonlinkError {
  return new MoonlinkError('invalid', code, message)
}
