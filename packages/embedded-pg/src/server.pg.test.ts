import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMoonlinkError } from '@moonlink/core'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isAlive } from './processes.ts'
import { startPostgres, type RunningPostgres } from './server.ts'

let dir: string
const running: RunningPostgres[] = []

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'moonlink-test-'))
  await chmod(dir, 0o755)
})

afterEach(async () => {
  for (const server of running.splice(0)) await server.stop()
  await rm(dir, { recursive: true, force: true })
})

async function begin(...args: Parameters<typeof startPostgres>): Promise<RunningPostgres> {
  const server = await startPostgres(...args)
  running.push(server)
  return server
}

async function query(config: string | pg.ClientConfig, sql: string): Promise<unknown[]> {
  const client = new pg.Client(config)
  await client.connect()
  try {
    return (await client.query<unknown[]>({ text: sql, rowMode: 'array' })).rows
  } finally {
    await client.end()
  }
}

test('starts with logical replication on loopback only, over TCP and its socket, and leaves nothing behind', async () => {
  const server = await begin({ database: 'shop', settings: { work_mem: '5MB' } })
  const sql = `SELECT current_database(), current_setting('wal_level'), current_setting('work_mem'), current_setting('listen_addresses')`
  expect(await query(server.connectionString, sql)).toEqual([['shop', 'logical', '5MB', '127.0.0.1']])
  const { socketDir, port, user, password, database } = server
  expect(await query({ host: socketDir!, port, user, password, database }, 'SELECT 1')).toEqual([[1]])
  await expect(query({ host: '127.0.0.1', port, user, password: 'wrong', database }, 'SELECT 1')).rejects.toThrow(
    /password authentication failed/,
  )
  expect(server.version).toMatch(/^18\./)
  await server.stop()
  await server.stop()
  expect(isAlive(server.pid)).toBe(false)
  await expect(stat(server.dataDir)).rejects.toThrow(/ENOENT/)
  await expect(stat(socketDir!)).rejects.toThrow(/ENOENT/)
})

test('a data directory outlives the server, and a stale postmaster.pid is no obstacle', async () => {
  const dataDir = join(dir, 'data')
  const first = await begin({ dataDir })
  await query(first.connectionString, 'CREATE TABLE kept AS SELECT 7 AS n')
  await expect(query(first.connectionString, 'SHOW fsync')).resolves.toEqual([['on']])
  await first.stop()
  // Our own process id: alive, but no Postgres.
  await writeFile(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n0\n${first.port}\n\n\n\nready\n`)
  const second = await begin({ dataDir })
  expect(await query(second.connectionString, 'SELECT n FROM kept')).toEqual([[7]])
})

test('refuses a directory with other things in it, naming it', async () => {
  await writeFile(join(dir, 'letter.txt'), 'hello')
  const error = await startPostgres({ dataDir: dir }).catch((cause: unknown) => cause)
  expect(isMoonlinkError(error, 'invalid') && error.code).toBe('EMBEDDED_PG_NOT_EMPTY')
  expect(String(error)).toContain(dir)
  expect(await readFile(join(dir, 'letter.txt'), 'utf8')).toBe('hello')
})

test('a setting that Postgres refuses is reported in one line', async () => {
  const error = await startPostgres({ settings: { wal_level: 'sideways' } }).catch((cause: unknown) => cause)
  expect(isMoonlinkError(error) && error.code).toBe('EMBEDDED_PG_START')
  expect(String(error)).toContain('sideways')
  expect(String(error)).not.toContain('\n')
})

test.runIf(process.getuid?.() === 0)('root may keep the data in a place that only root can enter', async () => {
  const closed = join(dir, 'closed')
  await mkdir(closed, { mode: 0o700 })
  const dataDir = join(closed, 'data')
  const first = await begin({ dataDir })
  await query(first.connectionString, 'CREATE TABLE kept AS SELECT 7 AS n')
  await first.stop()
  const second = await begin({ dataDir })
  expect(await query(second.connectionString, 'SELECT n FROM kept')).toEqual([[7]])
  await second.stop()
  await rm(second.dataDir, { recursive: true })
})

test('the server ends when its owner is killed', async () => {
  const script = `
    const { startPostgres } = await import(process.argv[1])
    const server = await startPostgres()
    console.log(JSON.stringify({ pid: server.pid, dataDir: server.dataDir }))
    setInterval(() => {}, 1000)`
  const entry = new URL('../dist/index.js', import.meta.url).href
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script, entry], { cwd: fileURLToPath(new URL('.', import.meta.url)) })
  const [chunk] = (await once(owner.stdout, 'data')) as [Buffer]
  const server = JSON.parse(chunk.toString()) as { pid: number; dataDir: string }
  expect(isAlive(server.pid)).toBe(true)
  owner.kill('SIGKILL')
  const isGone = async () => !isAlive(server.pid) && (await stat(server.dataDir).catch(() => null)) === null
  await expect.poll(isGone).toBe(true)
})
