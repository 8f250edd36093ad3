import { startPostgres, type PostgresOptions, type RunningPostgres } from '@moonlink/embedded-pg'
import pg from 'pg'
import { afterAll, beforeAll } from 'vitest'

/** A fresh database of the file's server. */
export interface TestDatabase {
  readonly name: string
  /** `postgres://…` as the superuser. */
  readonly connectionString: string
  /** An open connection for the test's own statements; closed by itself. */
  readonly client: pg.Client
}

export interface TestPostgres {
  /** The running server; there from the first hook of the test file on. */
  readonly server: RunningPostgres
  /** Its major version; for what older ones do not have. */
  readonly major: number
  /** Makes an empty database and connects to it. */
  createDatabase(): Promise<TestDatabase>
}

/** The executables that tests run on: of the newest version, unless `MOONLINK_TEST_PG_BIN` names others (`.ci/postgres` brings them). */
export function postgresUnderTest(): Pick<PostgresOptions, 'binDir'> {
  const binDir = process.env['MOONLINK_TEST_PG_BIN']
  return binDir ? { binDir } : {}
}

/**
 * Starts one temporary Postgres for the test file that calls this at its top, and stops it after the last test.
 */
export function withPostgres(options: PostgresOptions = {}): TestPostgres {
  let server: RunningPostgres | undefined
  let count = 0
  const clients: pg.Client[] = []

  beforeAll(async () => {
    server = await startPostgres({ ...postgresUnderTest(), ...options })
  })
  afterAll(async () => {
    for (const client of clients) await client.end().catch(() => {})
    await server?.stop()
  })

  const running = (): RunningPostgres => {
    if (!server) throw new Error('the server starts in a beforeAll hook: use it within tests')
    return server
  }
  return {
    get server() {
      return running()
    },
    get major() {
      return Number.parseInt(running().version, 10)
    },
    async createDatabase() {
      const name = `test_${++count}`
      await runOn(running().connectionString, `CREATE DATABASE ${name}`)
      const url = new URL(running().connectionString)
      url.pathname = `/${name}`
      const client = new pg.Client(url.href)
      // A server that stops before us ends the connection; that is no failure of a test.
      client.on('error', () => {})
      await client.connect()
      clients.push(client)
      return { name, connectionString: url.href, client }
    },
  }
}

async function runOn(connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client(connectionString)
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
