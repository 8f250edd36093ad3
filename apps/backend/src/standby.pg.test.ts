import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres } from '@moonlink/embedded-pg'
import { postgresUnderTest, withPostgres, type TestDatabase } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { Load } from './testing/load.ts'
import { verified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-standby-'))
// The server runs under another account where we are root.
chmodSync(directory, 0o755)
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const env = {
  MOONLINK_CHANGE_LOG_KIND: 'store',
  MOONLINK_STANDBY_RENEW_INTERVAL_MS: '200ms',
  // Longer than a loaded machine keeps the one that runs from a sign of life.
  MOONLINK_STANDBY_TAKEOVER_MS: '4s',
  MOONLINK_FLUSH_INTERVAL_MS: '700ms',
}
let database: TestDatabase
let running: BackendProcess[]
beforeEach(async () => {
  database = await postgres.createDatabase()
  running = []
  await Load.createTables(database.client)
})
afterEach(async () => {
  for (const backend of running) {
    backend.child.kill('SIGCONT')
    await backend.stop('SIGKILL')
  }
})

const stateDir = (name: string) => join(directory, database.name, name)
const argsOf = (name: string) =>
  ['--source', database.connectionString, '--state-dir', stateDir(name)].concat('--warehouse', join(directory, database.name, 'lake'))
async function launch(name: string): Promise<BackendProcess> {
  const backend = BackendProcess.launch([...argsOf(name), '--standby'], env)
  running.push(backend)
  return backend
}

async function expectEqual(backend: BackendProcess): Promise<void> {
  await backend.wait({ iceberg: true })
  const result = await verified(backend.url, directory)
  expect(result, backend.said).toMatchObject({ status: 0 })
  expect(result.stdout).toMatch(/public\.bag: equal.*\npublic\.items: equal.*\npublic\.still: equal/)
}

/** Nothing was missing that only comparing could make up for. */
function expectNoResync(name: string): void {
  expect(readFileSync(join(stateDir(name), 'moonlink.log'), 'utf8')).not.toMatch(/made equal|copied again|is damaged|is missing/)
}

async function withClient<T>(connectionString: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(connectionString)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const patient = { timeout: 60_000 }
const ended = (backend: BackendProcess) => new Promise<number | null>((resolve) => backend.child.once('exit', resolve))

test('a standby says for whom it waits, and takes over under load when that one is killed', async () => {
  const first = await launch('first')
  await first.ready()
  const second = await launch('second')
  await second.isStandby()
  const name = new RegExp(`\\(process ${first.child.pid}\\)`)
  const ready = await fetch(`${second.url}/ready`)
  expect(ready.status).toBe(503)
  expect(await ready.json()).toEqual({ ready: false, waitingFor: [expect.stringMatching(name)] })
  // To whoever watches for streams that are down, it has none.
  const metrics = await (await fetch(`${second.url}/metrics`)).text()
  expect(metrics).toMatch(/^moonlink_standby 1$/m)
  expect(metrics).not.toContain('moonlink_up')
  expect(await (await fetch(`${first.url}/metrics`)).text()).toMatch(/^moonlink_up 1\n[^]*^moonlink_standby 0$/m)
  const status = await moonlink(['status'], { MOONLINK_URL: second.url }, directory)
  expect(status).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^STANDBY this is a standby: the backend on .* runs the mirror/) as string,
  })
  const third = await moonlink(['start', ...argsOf('third'), '--http', '127.0.0.1:0'], env, directory)
  expect(third).toMatchObject({ status: 1, stderr: expect.stringMatching(/^LEASE_HELD .*--standby/) as string })

  const load = new Load(database.connectionString)
  await load.until(60)
  await first.stop('SIGKILL')
  await load.until(40)
  await second.ready()
  await load.until(40)
  await load.stop()
  await expectEqual(second)
  expectNoResync('second')
  // The one that died comes back, as the standby now; and its turn comes when the other ends in order.
  const again = await launch('first')
  await again.isStandby()
  expect(await second.stop('SIGTERM')).toBe(0)
  await again.ready()
  await expectEqual(again)
  expectNoResync('first')
})

test('a backend that was paused and goes on after its successor began commits, logs and acknowledges nothing, and ends', async () => {
  const first = await launch('first')
  await first.ready()
  const second = await launch('second')
  await second.isStandby()
  const load = new Load(database.connectionString)
  await load.until(60)
  first.child.kill('SIGSTOP')
  await second.ready()
  await load.until(60)
  const exit = ended(first)
  first.child.kill('SIGCONT')
  expect(await exit).toBe(1)
  expect(first.said).toMatch(/LEASE_LOST .* has taken over this mirror|OTHER_MIRROR/)
  await load.until(40)
  await load.stop()
  await expectEqual(second)
  // What it left in the store is nobody's: the next start reads the log once more.
  await second.stop('SIGKILL')
  const again = await launch('second')
  await again.ready()
  await expectEqual(again)
  expectNoResync('second')
})

test('the slot is free soon where the paused one left the server in the midst of sending, however long the server would wait', async () => {
  const { client, name } = database
  await client.query(`ALTER DATABASE ${name} SET wal_sender_timeout = 0`)
  const first = await launch('first')
  await first.ready()
  first.child.kill('SIGSTOP')
  await client.query(`INSERT INTO items (name, amount) SELECT repeat('n', 500), 1 FROM generate_series(1, 100000)`)
  const waitsFor = `SELECT wait_event FROM pg_replication_slots s JOIN pg_stat_activity ON pid = active_pid WHERE s.database = '${name}'`
  // Told to end, such a connection would only wait on: nobody takes what it sends.
  await expect.poll(async () => (await client.query<{ wait_event: string }>(waitsFor)).rows).toEqual([{ wait_event: 'WalSenderWriteData' }])
  const second = await launch('second')
  await second.ready()
  await expectEqual(second)
  expectNoResync('second')
})

test('of two that start at once one runs the mirror, and the other waits until it is asked to stop', async () => {
  const both = await Promise.all([launch('first'), launch('second')])
  const [active, standby] = await Promise.any(
    both.map(async (backend, index) => {
      await backend.ready()
      return [backend, both[1 - index]] as const
    }),
  )
  await standby.isStandby()
  expect(await standby.stop('SIGTERM')).toBe(0)
  expect(standby.said).toMatch(/stopped\n$/)
  await expectEqual(active)
})

test('a standby whose turn comes while Postgres is down says so, and takes over once it is back', async () => {
  const dataDir = join(directory, 'away')
  const options = {
    dataDir,
    persistent: false,
    ...postgresUnderTest(),
  }
  let server = await startPostgres(options)
  try {
    const { connectionString, port } = server
    await withClient(connectionString, (client) => Load.createTables(client))
    const args = (name: string) => [
      '--source',
      connectionString,
      '--state-dir',
      join(directory, 'away-state', name),
      '--warehouse',
      join(directory, 'away-lake'),
      '--standby',
    ]
    const start = (name: string) => {
      running.push(BackendProcess.launch(args(name), env))
      return running.at(-1)!
    }
    const first = start('first')
    await first.ready()
    const second = start('second')
    await second.isStandby()
    const load = new Load(connectionString)
    await load.until(20)
    await load.stop()
    await first.stop('SIGKILL')
    await server.stop()
    const reason = expect.stringMatching(/^the source: PG_UNREACHABLE can't reach Postgres/) as string
    await expect.poll(async () => (await fetch(`${second.url}/ready`)).json(), patient).toEqual({ ready: false, waitingFor: [reason] })
    expect(await (await fetch(`${second.url}/health`)).json()).toEqual({ status: 'ok', role: 'active' })
    expect(await moonlink(['status'], { MOONLINK_URL: second.url }, directory)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^STARTING the mirror is starting; the source: PG_UNREACHABLE/) as string,
    })
    const third = start('third')
    await third.isStandby()
    server = await startPostgres({ ...options, port })
    await second.ready()
    await withClient(connectionString, (client) => client.query(`INSERT INTO items (name, amount) VALUES ('back', 1)`))
    await expectEqual(second)
    // One that waits so can be asked to stop; the next one's turn comes then.
    await server.stop()
    expect(await second.stop('SIGKILL')).toBe(null)
    await expect.poll(async () => (await fetch(`${third.url}/ready`)).json(), patient).toEqual({ ready: false, waitingFor: [reason] })
    expect(await third.stop('SIGTERM')).toBe(0)
    expect(third.said).toMatch(/\nstopped\n$/)
  } finally {
    await server.stop()
  }
})
