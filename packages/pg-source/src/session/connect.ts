import { Socket, type SocketConstructorOpts } from 'node:net'
import { isMoonlinkError, MoonlinkError } from '@moonlink/core'
import pg from 'pg'
import type { PgSourceSettings } from './config.ts'
import { parseConnectionString, placesOf, type ConnectionParts, type Place } from './connection-config.ts'
import { connectionError, lostConnection, messageOf, refusedMeanwhile, sqlState, type Target } from './errors.ts'
import { LendingSocket } from './lending-socket.ts'
import { planTls, type TlsPlan } from './tls.ts'
import { unlessSilent } from './unless-silent.ts'

/**
 * How values look wherever they travel as text, how long we wait and what we may do, whatever the server's and the role's own settings. With row_security off
 * Postgres refuses to read a table that hides rows from us; else it would leave them out without a word.
 */
const SESSION =
  '-c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=3 -c timezone=UTC -c quote_all_identifiers=off ' +
  '-c search_path=pg_catalog -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 ' +
  '-c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed -c row_security=off'

/** How a server names that a database has none: its texts may be any bytes, and it refuses to send those that are no UTF-8 where that was asked for. */
export const NO_ENCODING = 'SQL_ASCII'

/** What a server's own time-out gets on top, to be heard of. */
const GRACE_MS = 5000
/** An idle connection, or one that is only read, is probed by TCP after this time. */
const KEEPALIVE_MS = 10_000
/** How often the server looks whether we are still there while it waits for something, such as a lock: a connection of ours that was cut off would go on waiting, and keep its slot. */
const CLIENT_CHECK_MS = 2000
const GOODBYE_MS = 1000

/** `pg` passes `replication` on to the server; its types do not know it. `isRaw`: rows are read off it as the server has them. */
type ExtraConfig = pg.ClientConfig & { readonly replication?: 'database'; readonly isRaw?: true }

/** A stream that is read at our pace stops reading at the first chunk that nobody takes. Node's types lack these options of its streams. */
const STREAM_SOCKET: SocketConstructorOpts & { readonly readableHighWaterMark: number } = { readableHighWaterMark: 1 }
const STREAM_TLS: object = { highWaterMark: 1 }

/** A server that the address names, and how it is reached. */
interface Server {
  readonly target: Target
  tls: TlsPlan
}

/**
 * Opens connections to one database, all with the same encryption and session settings. Where the address names several servers, to the one that is
 * the primary: at first in the order given, then where the last connection was.
 */
export class Connector {
  private readonly parts: ConnectionParts
  private readonly settings: PgSourceSettings
  private readonly servers: readonly Server[]
  private current = 0
  private readonly clients = new Set<pg.Client>()
  private isClosed = false
  /** From the outset, what is refused has to be put right first; once everything was let in, it may pass. */
  wasLetIn = false

  constructor(settings: PgSourceSettings) {
    this.settings = settings
    this.parts = typeof settings.connection === 'string' ? parseConnectionString(settings.connection) : settings.connection
    // Not connected: `pg` completes what is missing from the PG* variables and its defaults.
    const probe = new pg.Client(baseConfig(this.parts, null))
    const places = placesOf(probe.host, this.parts.port ?? process.env['PGPORT'] ?? probe.port)
    this.servers = places.map((place) => ({
      target: { ...place, user: probe.user ?? '', database: probe.database ?? '' },
      tls: planTls(withEnvironment(this.parts), place.host),
    }))
  }

  /** How long a server that does not answer a limited statement is waited for, in ms, which is longer than the server itself lets it run; 0: however long. */
  get patienceMs(): number {
    const { statementTimeoutMs } = this.settings
    return statementTimeoutMs === 0 ? 0 : statementTimeoutMs + GRACE_MS
  }

  /** A connection for statements; a limited one has the statement time-out. */
  async connect(purpose: string, isLimited = true): Promise<pg.Client> {
    return this.open(purpose, isLimited ? this.settings.statementTimeoutMs : 0, () => ({}))
  }

  /** A connection without time-out for what is read in bulk; without TLS its socket is a `LendingSocket`. */
  async connectBulk(purpose: string): Promise<pg.Client> {
    return this.open(purpose, 0, ({ tls }) => ({ isRaw: true, ...(tls.ssl === false ? { stream: () => new LendingSocket() } : {}) }))
  }

  /** Whether connections go through the network rather than a socket of this machine. */
  get isRemote(): boolean {
    return !this.servers[this.current].target.host.startsWith('/')
  }

  /** A connection that speaks the replication protocol; without TLS its socket is a `LendingSocket`. */
  async connectReplication(purpose: string): Promise<pg.Client> {
    return this.open(purpose, 0, ({ tls }) => ({
      isRaw: true,
      replication: 'database',
      stream: () => (tls.ssl === false ? new LendingSocket() : new Socket(STREAM_SOCKET)),
    }))
  }

  /** Breaks every connection, whatever it waits for, and opens no more. */
  close(): void {
    this.isClosed = true
    for (const client of this.clients) client.connection.stream.destroy()
  }

  private async open(purpose: string, timeoutMs: number, extraOf: (server: Server) => ExtraConfig): Promise<pg.Client> {
    if (this.isClosed) throw sourceClosed()
    const { servers } = this
    const failures: MoonlinkError[] = []
    for (let step = 0; step < servers.length; step++) {
      const index = (this.current + step) % servers.length
      try {
        const client = await this.openAt(servers[index], purpose, timeoutMs, extraOf(servers[index]))
        this.current = index
        return client
      } catch (error) {
        // As libpq does: one that can't be reached, or is no primary, is passed over; one that refuses us is not.
        if (!isMoonlinkError(error, 'retry')) throw this.wasLetIn ? refusedMeanwhile(error) : error
        if (servers.length === 1) throw error
        failures.push(error)
      }
    }
    throw new MoonlinkError(
      'retry',
      'PG_NO_PRIMARY',
      `none of the source's servers is a primary that answers: ${failures.map(({ message }) => message).join(' ')}`,
      {
        cause: failures[0],
      },
    )
  }

  private async openAt(server: Server, purpose: string, timeoutMs: number, extra: ExtraConfig): Promise<pg.Client> {
    try {
      return await this.attempt(server, purpose, timeoutMs, extra)
    } catch (error) {
      if (!server.tls.mayFallBack || !messageOf(error).includes('does not support SSL')) throw connectionError(error, server.target)
    }
    // sslmode=prefer, and the server has no TLS.
    server.tls = { mode: 'disable', ssl: false, mayFallBack: false }
    return this.attempt(server, purpose, timeoutMs, extra).catch((error: unknown) => {
      throw connectionError(error, server.target)
    })
  }

  private async attempt({ target, tls }: Server, purpose: string, timeoutMs: number, extra: ExtraConfig): Promise<pg.Client> {
    const client = new pg.Client({
      ...baseConfig(this.parts, target),
      ssl: extra.stream && typeof tls.ssl === 'object' ? { ...tls.ssl, ...STREAM_TLS } : tls.ssl,
      application_name: `${this.parts.applicationName ?? 'moonlink'} ${purpose}`,
      connectionTimeoutMillis: this.settings.connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEPALIVE_MS,
      ...extra,
      options: `${this.parts.options ?? ''} ${SESSION} -c statement_timeout=${timeoutMs}`.trim(),
    })
    // Whoever uses the connection hears of its loss through the statement or stream that fails. Of a loss between two statements `pg` does not say the reason then.
    let loss: unknown = null
    client.on('error', (error) => (loss ??= error))
    this.clients.add(client)
    client.once('end', () => this.clients.delete(client))
    const told = watchParameters(client)
    try {
      await client.connect()
      if (this.isClosed) throw sourceClosed()
      if (this.servers.length > 1 && told.get('in_hot_standby') === 'on')
        throw new MoonlinkError('retry', 'PG_STANDBY', `${target.host}:${target.port} is a standby.`)
      await unlessSilent(client, this.settings.connectTimeoutMs, async () => {
        await letServerCheck(client)
        if (extra.isRaw && told.get('server_encoding') === NO_ENCODING) await client.query(`SET client_encoding = '${NO_ENCODING}'`)
        // Postgres 17 and later; an older one would refuse it as an option. A stream is in a transaction for as long as it sends one.
        await client.query(`SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'`)
      })
    } catch (error) {
      // `pg` leaves the socket open where it gives up itself, as without a password, until the server closes it a minute later.
      client.connection.stream.destroy()
      this.clients.delete(client)
      throw loss ?? error
    }
    return client
  }
}

function sourceClosed(): MoonlinkError {
  return new MoonlinkError('invalid', 'PG_SOURCE_CLOSED', 'the Postgres source has been closed.')
}

async function letServerCheck(client: pg.Client): Promise<void> {
  try {
    await client.query(`SET client_connection_check_interval = ${CLIENT_CHECK_MS}`)
  } catch (error) {
    // Not every operating system of a server tells (check_client_connection_check_interval, postgres.c).
    if (sqlState(error) !== '22023') throw error
  }
}

/** What a server says of itself at each connection: whether it is in recovery (`in_hot_standby`, Postgres 14 and later), how the database encodes texts (`server_encoding`). */
function watchParameters(client: pg.Client): ReadonlyMap<string, string> {
  const told = new Map<string, string>()
  client.connection.on('parameterStatus', ({ parameterName, parameterValue }: { parameterName: string; parameterValue: string }) => {
    told.set(parameterName, parameterValue)
  })
  return told
}

function baseConfig(parts: ConnectionParts, at: Place | null): pg.ClientConfig {
  return {
    ...(at !== null ? { host: at.host, port: at.port } : parts.host === undefined ? {} : { host: parts.host }),
    ...(parts.user === undefined ? {} : { user: parts.user }),
    ...(parts.password === undefined ? {} : { password: parts.password }),
    ...(parts.database === undefined ? {} : { database: parts.database }),
  }
}

function withEnvironment(parts: ConnectionParts): ConnectionParts {
  const mode = parts.sslmode ?? process.env['PGSSLMODE']
  const root = parts.sslrootcert ?? process.env['PGSSLROOTCERT']
  if (mode !== undefined && !['disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'allow'].includes(mode)) {
    throw new MoonlinkError('invalid', 'PG_TLS', `PGSSLMODE is "${mode}". Allowed are disable, prefer, require, verify-ca and verify-full.`)
  }
  const sslmode = mode === 'allow' ? 'prefer' : (mode as ConnectionParts['sslmode'])
  return { ...parts, ...(sslmode === undefined ? {} : { sslmode }), ...(root === undefined ? {} : { sslrootcert: root }) }
}

/** Ends a connection, broken or not: without the server's goodbye where that does not come. */
export async function disconnect(client: pg.Client | null): Promise<void> {
  if (client === null) return
  const late = setTimeout(() => client.connection.stream.destroy(), GOODBYE_MS)
  await client.end().catch(() => {})
  clearTimeout(late)
}

/**
 * One connection for statements on the catalog, opened when needed and anew after it broke. Statements run one after the other.
 */
export class CatalogConnection {
  private readonly connector: Connector
  private client: pg.Client | null = null
  private queue: Promise<unknown> = Promise.resolve()
  private isClosed = false
  /** Runs first on every connection that is opened from now on; what it throws keeps all else from running there. */
  onOpen: (client: pg.Client) => Promise<void> = () => Promise.resolve()

  constructor(connector: Connector) {
    this.connector = connector
  }

  /** Rows of one statement as objects. Throws `retry` where it may work a moment later, or Postgres' own error where the statement was refused. */
  async rows<T>(sql: string, values: readonly unknown[] = []): Promise<T[]> {
    return this.exclusive(async (client) => (await client.query(sql, [...values])).rows as T[])
  }

  /** Runs statements with nobody else's in between. */
  async exclusive<T>(use: (client: pg.Client) => Promise<T>): Promise<T> {
    const turn = this.queue.then(async () => {
      const client = await this.ensure()
      return unlessSilent(client, this.connector.patienceMs, () => use(client))
    })
    this.queue = turn.catch(() => {})
    return turn.catch((error: unknown) => {
      const explained = lostConnection('reading its catalog', error)
      throw explained.kind === 'retry' || sqlState(error) === null ? explained : error
    })
  }

  /** The next statement finds its server anew: the address may lead to another by now. */
  async renew(): Promise<void> {
    const turn = this.queue.then(async () => {
      await disconnect(this.client)
      this.client = null
    })
    this.queue = turn
    await turn
  }

  async close(): Promise<void> {
    this.isClosed = true
    await this.queue
    await disconnect(this.client)
    this.client = null
  }

  private async ensure(): Promise<pg.Client> {
    if (this.isClosed) throw sourceClosed()
    if (this.client) return this.client
    const client = await this.connector.connect('catalog')
    try {
      await unlessSilent(client, this.connector.patienceMs, () => this.onOpen(client))
    } catch (error) {
      await disconnect(client)
      throw error
    }
    const forget = () => {
      if (this.client === client) this.client = null
    }
    client.once('error', forget)
    client.once('end', forget)
    this.client = client
    return client
  }
}

/** Runs a statement, turning Postgres' refusal into ours where `explain` knows it, else into a general one. */
export async function explained<T>(doing: string, run: () => Promise<T>, explain: (error: unknown) => MoonlinkError | null): Promise<T> {
  try {
    return await run()
  } catch (error) {
    throw explain(error) ?? lostConnection(doing, error)
  }
}
