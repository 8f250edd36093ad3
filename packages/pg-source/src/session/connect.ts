import { Socket, type SocketConstructorOpts } from 'node:net'
import { MoonlinkError } from '@moonlink/core'
import pg from 'pg'
import type { PgSourceSettings } from './config.ts'
import { parseConnectionString, type ConnectionParts } from './connection-config.ts'
import { connectionError, lostConnection, messageOf, sqlState, type Target } from './errors.ts'
import { LendingSocket } from './lending-socket.ts'
import { planTls, type TlsPlan } from './tls.ts'

/** How values look wherever they travel as text, and how long we wait, whatever the server's and the role's own settings. */
const SESSION =
  '-c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=3 -c timezone=UTC ' +
  '-c search_path=pg_catalog -c lock_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0'

/** `pg` passes this on to the server; its types do not know it. */
type ReplicationConfig = pg.ClientConfig & { readonly replication?: 'database' }

/** A stream that is read at our pace stops reading at the first chunk that nobody takes. Node's types lack these options of its streams. */
const STREAM_SOCKET: SocketConstructorOpts & { readonly readableHighWaterMark: number } = { readableHighWaterMark: 1 }
const STREAM_TLS: object = { highWaterMark: 1 }

/** Opens connections to one database, all with the same address, encryption and session settings. */
export class Connector {
  readonly target: Target
  private readonly parts: ConnectionParts
  private readonly settings: PgSourceSettings
  private tls: TlsPlan

  constructor(settings: PgSourceSettings) {
    this.settings = settings
    this.parts = typeof settings.connection === 'string' ? parseConnectionString(settings.connection) : settings.connection
    // Not connected: `pg` completes what is missing from the PG* variables and its defaults.
    const probe = new pg.Client(baseConfig(this.parts))
    this.target = { host: probe.host, port: probe.port, user: probe.user ?? '', database: probe.database ?? '' }
    this.tls = planTls(withEnvironment(this.parts), this.target.host)
  }

  /** A connection for statements; a limited one has the statement time-out. */
  async connect(purpose: string, isLimited = true): Promise<pg.Client> {
    return this.open(purpose, isLimited ? this.settings.statementTimeoutMs : 0, {})
  }

  /** A connection without time-out for what is read in bulk; without TLS its socket is a `LendingSocket`. */
  async connectBulk(purpose: string): Promise<pg.Client> {
    return this.open(purpose, 0, this.tls.ssl === false ? { stream: () => new LendingSocket() } : {})
  }

  /** Whether connections go through the network rather than a socket of this machine. */
  get isRemote(): boolean {
    return !this.target.host.startsWith('/')
  }

  /** A connection that speaks the replication protocol. */
  async connectReplication(purpose: string): Promise<pg.Client> {
    return this.open(purpose, 0, { replication: 'database', stream: () => new Socket(STREAM_SOCKET) })
  }

  private async open(purpose: string, timeoutMs: number, extra: ReplicationConfig): Promise<pg.Client> {
    try {
      return await this.attempt(purpose, timeoutMs, extra)
    } catch (error) {
      if (!this.tls.mayFallBack || !messageOf(error).includes('does not support SSL')) throw connectionError(error, this.target)
    }
    // sslmode=prefer, and the server has no TLS.
    this.tls = { mode: 'disable', ssl: false, mayFallBack: false }
    return this.attempt(purpose, timeoutMs, extra).catch((error: unknown) => {
      throw connectionError(error, this.target)
    })
  }

  private async attempt(purpose: string, timeoutMs: number, extra: ReplicationConfig): Promise<pg.Client> {
    const client = new pg.Client({
      ...baseConfig(this.parts),
      ssl: extra.stream && typeof this.tls.ssl === 'object' ? { ...this.tls.ssl, ...STREAM_TLS } : this.tls.ssl,
      application_name: `${this.parts.applicationName ?? 'moonlink'} ${purpose}`,
      connectionTimeoutMillis: this.settings.connectTimeoutMs,
      keepAlive: true,
      ...extra,
      options: `${this.parts.options ?? ''} ${SESSION} -c statement_timeout=${timeoutMs}`.trim(),
    })
    // Whoever uses the connection hears of its loss through the statement or stream that fails.
    client.on('error', () => {})
    try {
      await client.connect()
      // Postgres 17 and later; an older one would refuse it as an option.
      if (timeoutMs === 0 && extra.replication === undefined)
        await client.query(`SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'`)
    } catch (error) {
      // `pg` leaves the socket open where it gives up itself, as without a password, until the server closes it a minute later.
      ;(client as unknown as { readonly connection: { readonly stream: Socket } }).connection.stream.destroy()
      throw error
    }
    return client
  }
}

function baseConfig(parts: ConnectionParts): pg.ClientConfig {
  return {
    ...(parts.host === undefined ? {} : { host: parts.host }),
    ...(parts.port === undefined ? {} : { port: parts.port }),
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

/** Ends a connection, broken or not. */
export async function disconnect(client: pg.Client | null): Promise<void> {
  await client?.end().catch(() => {})
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
    const turn = this.queue.then(async () => use(await this.ensure()))
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
    if (this.isClosed) throw new MoonlinkError('invalid', 'PG_SOURCE_CLOSED', 'the Postgres source has been closed.')
    if (this.client) return this.client
    const client = await this.connector.connect('catalog')
    try {
      await this.onOpen(client)
    } catch (error) {
      await disconnect(client)
      throw error
    }
    client.once('end', () => {
      if (this.client === client) this.client = null
    })
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
