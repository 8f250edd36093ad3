import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres } from '@moonlink/embedded-pg'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { moonlink } from './testing/command-line.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-errors-'))
let database: TestDatabase

beforeAll(async () => {
  database = await postgres.createDatabase()
  await database.client.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text); INSERT INTO orders VALUES (1, repeat($$x$$, 1000))')
  await database.client.query(`CREATE ROLE plain LOGIN PASSWORD 'plain'`)
  await database.client.query(`CREATE ROLE reader LOGIN REPLICATION PASSWORD 'reader'; GRANT CREATE ON DATABASE ${database.name} TO reader`)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Starts a backend that can't start: one line that names the thing and the remedy, and exit status 1. */
async function refusal(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const stateDir = mkdtempSync(join(directory, 'state-'))
  const result = await moonlink(['start', '--state-dir', stateDir, '--http', '127.0.0.1:0', ...args], env, stateDir)
  expect(result, result.stderr).toMatchObject({ status: 1 })
  const lines = result.stderr.trim().split('\n')
  expect(lines).toHaveLength(1)
  expect(lines[0]).toMatch(/^[A-Z][A-Z0-9_]+ \S/)
  expect(lines[0]).not.toMatch(/\bat .*:\d+:\d+/)
  return lines[0]
}

function as(user: string, password: string): string {
  const url = new URL(database.connectionString)
  url.username = user
  url.password = password
  return url.href
}

async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

describe('the source', () => {
  test('wrong password', async () => {
    const line = await refusal(['--source', as('postgres', 'wrong-guess')])
    expect(line).toMatch(/^PG_AUTH .*refuses the password of user "postgres"/)
    expect(line).not.toContain('wrong-guess')
    expect(await refusal(['--source', as('postgres', '')])).toMatch(/^PG_AUTH .*wants a password .*PGPASSWORD/)
  })

  test('unreachable host', async () => {
    expect(await refusal(['--source', `postgres://u:p@127.0.0.1:${await closedPort()}/d`])).toMatch(/^PG_UNREACHABLE .*Check host and port/)
    expect(await refusal(['--source', 'postgres://u:p@no-such-host.invalid/d'])).toMatch(/^PG_UNREACHABLE /)
  })

  test('wal_level', async () => {
    const other = await startPostgres({ settings: { wal_level: 'replica' } })
    try {
      expect(await refusal(['--source', other.connectionString])).toMatch(/^PG_WAL_LEVEL .*ALTER SYSTEM SET wal_level = logical/)
    } finally {
      await other.stop()
    }
  })

  test('missing permissions', async () => {
    expect(await refusal(['--source', as('plain', 'plain')])).toMatch(/^PG_REPLICATION_PRIVILEGE .*ALTER ROLE "?plain"? REPLICATION/)
    expect(await refusal(['--source', as('reader', 'reader'), '--table', 'public.orders'])).toMatch(
      /^PG_SELECT_PRIVILEGE .*GRANT SELECT ON/,
    )
  })

  test('unknown table', async () => {
    expect(await refusal(['--source', database.connectionString, '--table', 'public.ordres'])).toMatch(/^TABLE_UNKNOWN .*public\.orders/)
    expect(await refusal(['--source', database.connectionString, '--table', 'orders'])).toMatch(
      /^CONFIG_INVALID source\.tables\.0 \(--table\): "orders" is not a table name; write schema\.name/,
    )
  })
})

test('what is no table, or no table that can be mirrored, is refused for what it is', async () => {
  await database.client.query(`CREATE VIEW seen AS SELECT 1 AS x; CREATE TABLE odd (id int PRIMARY KEY, place point)`)
  const start = async (table: string, env: Record<string, string> = {}) =>
    refusal(['--source', database.connectionString, '--table', table], env)
  expect(await start('public.seen')).toMatch(/^TABLE_UNSUPPORTED public\.seen is a view/)
  const columns = JSON.stringify({ 'public.odd': { place: 'long' } })
  expect(await start('public.odd', { MOONLINK_SOURCE_COLUMNS: columns })).toMatch(/^[A-Z_]+ .*public\.odd.*"place".*point/)
})

describe('the warehouse', () => {
  test('a place that can not be written', async () => {
    const file = join(directory, 'file')
    writeFileSync(file, '')
    const line = await refusal(['--source', database.connectionString, '--warehouse', join(file, 'warehouse')])
    expect(line).toMatch(/^STORE_NOT_WRITABLE the warehouse can't be written/)
    if (process.platform !== 'linux') return
    expect(await refusal(['--source', database.connectionString, '--warehouse', '/proc/moonlink/warehouse'])).toMatch(
      /^STORE_NOT_WRITABLE the warehouse can't be written: cannot make the directory \/proc\/moonlink\/\S+: .*choose another/,
    )
  })

  test('S3 without a region or credentials is said before a database is started', async () => {
    const s3 = async (...args: string[]) =>
      refusal(['--warehouse', 's3://moonlink-test/lake', ...args], { AWS_EC2_METADATA_DISABLED: 'true' })
    expect(await s3()).toMatch(/^STORE_REGION the warehouse can't be written: no region .* AWS_REGION; no credentials .* role\.$/)
    expect(await s3('--set', 's3.region=eu-west-1')).toMatch(/^STORE_CREDENTIALS .*no credentials for S3 were found: set s3\.accessKeyId/)
    const started = readdirSync(directory, { recursive: true }).filter((path) => String(path).endsWith('/postgres'))
    expect(started).toEqual([])
  })

  test('an address that is taken is said before a database is started', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const address = `127.0.0.1:${(holder.address() as AddressInfo).port}`
    try {
      expect(await refusal(['--http', address])).toMatch(`HTTP_LISTEN can't listen on ${address}: another program listens there`)
    } finally {
      holder.close()
    }
    expect(readdirSync(directory, { recursive: true }).filter((path) => String(path).endsWith('/postgres'))).toEqual([])
  })

  test('a read-only or full file system', async (context) => {
    const place = join(directory, 'small')
    mkdirSync(place)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'none', place], { stdio: 'ignore' })
    } catch {
      return context.skip('mounting is not allowed here')
    }
    try {
      await database.client.query(`CREATE TABLE big AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 20000) i`)
      await database.client.query('ALTER TABLE big ADD PRIMARY KEY (id)')
      const args = ['--source', database.connectionString, '--warehouse', place]
      expect(await refusal(args)).toMatch(/^STORE_FULL .*free space/)
      execFileSync('mount', ['-o', 'remount,ro', place])
      expect(await refusal(args)).toMatch(/^STORE_NOT_WRITABLE .*read-only/)
    } finally {
      execFileSync('umount', [place])
    }
  })
})

describe('the command line', () => {
  test('a typo in the configuration names the key meant', async () => {
    const file = join(directory, 'typo.yaml')
    writeFileSync(file, 'flush:\n  intervallMs: 5s\n')
    expect(await refusal(['--config', file])).toMatch(/^CONFIG_INVALID flush\.intervallMs .*did you mean flush\.intervalMs\?/)
    expect(await refusal(['--set', 'flush.rows=many'])).toMatch(/^CONFIG_INVALID flush\.rows/)
  })

  test('wrong usage is 2, an absent backend 1, help 0', async () => {
    const status = async (...args: string[]) => (await moonlink(args, {}, directory)).status
    expect(await status('strat')).toBe(2)
    expect(await status('query')).toBe(2)
    expect(await status('query', 'SELECT 1', '--at-lsn', 'yesterday')).toBe(2)
    expect(await status('query', 'SELECT 1', '--format', 'xml')).toBe(2)
    expect(await status('start', '--set', 'flush')).toBe(2)
    expect(await status('role-sql')).toBe(2)
    expect((await moonlink(['start', '--help'], {}, directory)).stdout).not.toContain('[]')
    expect(await status('--help')).toBe(0)
    const url = `http://127.0.0.1:${await closedPort()}`
    const absent = await moonlink(['status'], { MOONLINK_URL: url }, directory)
    expect(absent).toMatchObject({ status: 1, stdout: '' })
    expect(absent.stderr).toContain(`BACKEND_UNREACHABLE no backend answers at ${url}`)
    expect((await moonlink(['uninstall'], { MOONLINK_URL: url }, directory)).stderr).toMatch(/^BACKEND_UNREACHABLE .*--source or --config/)
  })
})
