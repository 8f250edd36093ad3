import type { ChildProcess } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { platform } from 'node:os'
import { join } from 'node:path'
import { MoonlinkError, systemClock } from '@moonlink/core'
import pg from 'pg'
import { findBinaries, type Binaries } from './binaries.ts'
import { makePrivateDir, openCluster, type Cluster } from './data-dir.ts'
import { clearStalePostmaster, isAlive, oneLine, readPostmaster, start, unrefStream, Watchdog } from './processes.ts'
import { chooseServerUser, type ServerUser } from './unprivileged.ts'

export interface PostgresOptions {
  /** Where the cluster lives, and keeps living after `stop`. A temporary directory, removed at `stop`, where absent. */
  readonly dataDir?: string
  /** TCP port on 127.0.0.1. A free one where absent. */
  readonly port?: number
  /** Server settings, over the defaults (`wal_level=logical`, 32 senders and slots). */
  readonly settings?: Readonly<Record<string, string>>
  /** Directory of the executables `postgres` and `initdb`. Those of the npm package where absent. */
  readonly binDir?: string
  /** Created if it is not there. Default `postgres`. */
  readonly database?: string
  /** Survive a crash of the machine (fsync). Default: true with a `dataDir`, false without. */
  readonly persistent?: boolean
  /** Gets the server's log, line by line. */
  readonly onLog?: (line: string) => void
}

/** A server of ours, and how to reach it. */
export interface RunningPostgres {
  readonly host: string
  readonly port: number
  /** Directory of the unix socket, to be used as the host; twice as fast as TCP for a stream. Null on Windows. */
  readonly socketDir: string | null
  readonly user: string
  readonly password: string
  readonly database: string
  /** `postgres://…` with the password, over TCP. */
  readonly connectionString: string
  /** As Postgres prints it, for example `18.4`. */
  readonly version: string
  readonly dataDir: string
  readonly pid: number
  /** Stops the server (fast shutdown; after 20 s immediately) and waits for its end. Fine to call again. */
  stop(): Promise<void>
}

const START_ATTEMPTS = 5
const START_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 20_000
const POLL_MS = 10

/**
 * Starts a Postgres of our own, for a first run and for tests: it listens on 127.0.0.1 only, wants a random password, and ends with us even if
 * we are killed. Works as root too, under an unprivileged account.
 *
 * Throws `invalid` with the remedy: `EMBEDDED_PG_UNAVAILABLE`, `_ROOT`, `_RUNNING`, `_FOREIGN`, `_NOT_EMPTY`, `_UNREACHABLE`, `_START`.
 * Not promised: an upgrade of a cluster that another major version made.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<RunningPostgres> {
  const user = await chooseServerUser(options.dataDir ?? null)
  const { binDir } = options
  const binaries =
    binDir === undefined
      ? await findBinaries(user !== null)
      : { postgres: join(binDir, 'postgres'), initdb: join(binDir, 'initdb'), isPackaged: false }
  const temporary = options.dataDir === undefined ? await makePrivateDir('moonlink-pg-', user) : null
  const socketDir = platform() === 'win32' ? null : await makePrivateDir('moonlink-sock-', user)
  const removeDirs = [temporary, socketDir].filter((path) => path !== null)
  try {
    const cluster = await openCluster(options.dataDir ?? temporary!, binaries, user, temporary !== null)
    await clearStalePostmaster(cluster.path, STOP_TIMEOUT_MS)
    return await launch({ options, user, binaries, cluster, socketDir, removeDirs })
  } catch (error) {
    for (const path of removeDirs) await rm(path, { recursive: true, force: true })
    throw error
  }
}

interface Launch {
  readonly options: PostgresOptions
  readonly user: ServerUser | null
  readonly binaries: Binaries
  readonly cluster: Cluster
  readonly socketDir: string | null
  readonly removeDirs: readonly string[]
}

async function launch(plan: Launch): Promise<RunningPostgres> {
  for (let attempt = 1; ; attempt++) {
    const port = plan.options.port ?? (await freePort())
    const server = new ServerProcess(plan, port)
    try {
      await server.ready()
    } catch (cause) {
      await server.stop()
      // Somebody else may have taken the free port meanwhile.
      if (plan.options.port === undefined && attempt < START_ATTEMPTS && server.said.includes('Address already in use')) continue
      throw new MoonlinkError(
        'invalid',
        'EMBEDDED_PG_START',
        `the embedded Postgres in ${plan.cluster.path} did not start: ${oneLine(server.said)}`,
        {
          cause,
        },
      )
    }
    try {
      return await describe(plan, server, port)
    } catch (error) {
      await server.stop()
      throw error
    }
  }
}

async function describe(plan: Launch, server: ServerProcess, port: number): Promise<RunningPostgres> {
  const { password, path } = plan.cluster
  const database = plan.options.database ?? 'postgres'
  const version = await prepareDatabase({ host: '127.0.0.1', port, user: 'postgres', password, database: 'postgres' }, database)
  return {
    host: '127.0.0.1',
    port,
    socketDir: plan.socketDir,
    user: 'postgres',
    password,
    database,
    connectionString: `postgres://postgres:${encodeURIComponent(password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    version,
    dataDir: path,
    pid: server.pid,
    stop: async () => {
      await server.stop()
      for (const directory of plan.removeDirs) await rm(directory, { recursive: true, force: true })
    },
  }
}

async function prepareDatabase(connection: pg.ClientConfig, database: string): Promise<string> {
  const client = new pg.Client(connection)
  await client.connect()
  try {
    const { rows } = await client.query<{ server_version: string }>('SHOW server_version')
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [database])
    if (rowCount === 0) await client.query(`CREATE DATABASE ${pg.escapeIdentifier(database)}`)
    return rows[0].server_version.split(' ')[0]
  } finally {
    await client.end()
  }
}

class ServerProcess {
  /** The end of what the server logged. */
  said = ''
  private readonly child: ChildProcess
  private readonly watchdog: Watchdog | null
  private readonly ended: Promise<void>
  private readonly dataDir: string
  private failure: Error | null = null
  private hasEnded = false

  constructor(plan: Launch, port: number) {
    this.dataDir = plan.cluster.path
    this.child = start(plan.binaries.postgres, ['-D', this.dataDir, ...settingArgs(plan, port)], plan.user, this.dataDir)
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => {
        this.failure = error
        this.hasEnded = true
        resolve()
      })
      this.child.once('exit', () => {
        this.hasEnded = true
        this.watchdog?.dismiss()
        resolve()
      })
    })
    this.followLog(plan.options.onLog)
    this.watchdog = this.child.pid === undefined ? null : new Watchdog(this.child.pid, plan.removeDirs)
    this.child.unref()
    unrefStream(this.child.stderr)
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  async ready(): Promise<void> {
    for (let waitedMs = 0; waitedMs < START_TIMEOUT_MS; waitedMs += POLL_MS) {
      if (this.failure) throw this.failure
      if (this.hasEnded) throw new Error('the server ended while it started')
      const state = await readPostmaster(this.dataDir)
      if (state?.pid === this.pid && state.isReady) return
      await systemClock.sleep(POLL_MS)
    }
    throw new Error('the server did not become ready in time')
  }

  async stop(): Promise<void> {
    if (this.hasEnded) return
    this.child.ref()
    this.child.kill('SIGINT')
    const impatient = new AbortController()
    const timer = systemClock.sleep(STOP_TIMEOUT_MS, impatient.signal).then(
      () => isAlive(this.pid) && this.child.kill('SIGQUIT'),
      () => false,
    )
    await this.ended
    impatient.abort()
    await timer
  }

  private followLog(onLog: ((line: string) => void) | undefined): void {
    let partial = ''
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.said = `${this.said}${text}`.slice(-4000)
      if (!onLog) return
      const lines = `${partial}${text}`.split('\n')
      partial = lines.pop()!
      for (const line of lines) onLog(line)
    })
  }
}

function settingArgs(plan: Launch, port: number): string[] {
  const isPersistent = plan.options.persistent ?? plan.options.dataDir !== undefined
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: plan.socketDir ?? '',
    wal_level: 'logical',
    max_wal_senders: '32',
    max_replication_slots: '32',
    max_connections: '100',
    lc_messages: 'C',
    timezone: 'UTC',
    log_timezone: 'UTC',
    logging_collector: 'off',
    log_destination: 'stderr',
    ...(isPersistent ? {} : { fsync: 'off', full_page_writes: 'off' }),
    ...plan.options.settings,
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}
