import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { startPostgres, type RunningPostgres } from '@moonlink/embedded-pg'
import { Client } from 'pg'
import { afterEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { TcpProxy } from './testing/chaos/tcp-proxy.ts'
import { moonlink } from './testing/command-line.ts'

/** A primary with a physical standby that keeps the failover slot (Postgres 17 and later): the primary dies, the standby takes over behind one address. */
const directory = mkdtempSync(join(tmpdir(), 'moonlink-failover-'))
// The server runs under another account where we are root.
chmodSync(directory, 0o755)
const running: RunningPostgres[] = []
let backend: BackendProcess | undefined
let proxy: TcpProxy | undefined
afterEach(async () => {
  await backend?.stop('SIGKILL')
  await proxy?.close()
  for (const server of running) await server.stop().catch(() => undefined)
  rmSync(directory, { recursive: true, force: true })
})

async function connected(server: RunningPostgres): Promise<Client> {
  const client = new Client(server.connectionString)
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** A copy of the running primary's files, as a base backup is, and a server on it that follows. */
async function startStandby(primary: RunningPostgres, client: Client): Promise<RunningPostgres> {
  const dataDir = join(directory, 'standby')
  await client.query(`SELECT pg_backup_start('standby', true)`)
  mkdirSync(dataDir)
  const left = new Set(['postmaster.pid', 'postmaster.opts', 'pg_replslot'])
  cpSync(primary.dataDir, dataDir, { recursive: true, filter: (path) => !left.has(basename(path)) })
  mkdirSync(join(dataDir, 'pg_replslot'))
  const { rows } = await client.query<{ label: string }>('SELECT labelfile AS label FROM pg_backup_stop(false)')
  writeFileSync(join(dataDir, 'backup_label'), rows[0].label)
  writeFileSync(join(dataDir, 'standby.signal'), '')
  const standby = await startPostgres({
    dataDir,
    persistent: false,
    settings: {
      primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres password=${primary.password} dbname=postgres`,
      primary_slot_name: 'standby',
      hot_standby_feedback: 'on',
      sync_replication_slots: 'on',
    },
  })
  running.push(standby)
  return standby
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`waited too long for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('a failover slot outlives the primary: the mirror goes on from the standby, nothing lost or repeated', async (context) => {
  const primary = await startPostgres({
    dataDir: join(directory, 'primary'),
    persistent: false,
    settings: { synchronized_standby_slots: 'standby', wal_keep_size: '256MB' },
  })
  running.push(primary)
  if (Number.parseInt(primary.version) < 17) return context.skip('failover slots need Postgres 17')
  const client = await connected(primary)
  await client.query(`SELECT pg_create_physical_replication_slot('standby', true)`)
  const standby = await startStandby(primary, client)
  await client.query(
    `CREATE TABLE orders (id bigint PRIMARY KEY, note text); INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 1000) i`,
  )

  proxy = await TcpProxy.start(primary.port)
  const url = new URL(primary.connectionString)
  url.port = String(proxy.port)
  backend = await BackendProcess.start(['--source', url.href, '--state-dir', join(directory, 'state'), '--set', 'source.failover=true'], {
    MOONLINK_FLUSH_INTERVAL_MS: '300',
  })
  await client.query(`UPDATE orders SET note = 'before' WHERE id % 3 = 0; DELETE FROM orders WHERE id % 10 = 7`)
  await backend.wait({ iceberg: true })
  const follower = await connected(standby)
  await until('the slot on the standby', async () => {
    // A little traffic, so that the slot moves and the standby can keep what it needs.
    await client.query(`UPDATE orders SET note = note || '.' WHERE id = 1`)
    const { rowCount } = await follower.query(
      'SELECT FROM pg_replication_slots WHERE failover AND synced AND NOT temporary AND invalidation_reason IS NULL',
    )
    return rowCount === 1
  })
  await client.query(`INSERT INTO orders SELECT i, 'last words' FROM generate_series(2001, 2100) i`)
  await backend.wait()

  process.kill(primary.pid, 'SIGKILL')
  await follower.query('SELECT pg_promote(true, 30)')
  proxy.retarget(standby.port)
  await follower.query(
    `UPDATE orders SET note = 'after' WHERE id % 5 = 0; DELETE FROM orders WHERE id = 2001; INSERT INTO orders VALUES (9999, 'new primary')`,
  )
  await until('the new primary', async () => {
    const [row] = await backend!.query(`SELECT count(*) FROM public.orders WHERE id = 9999`).catch(() => [[0]])
    return Number(row[0]) === 1
  })
  const verified = await moonlink(['verify'], { MOONLINK_URL: backend.url }, directory)
  expect(verified.stdout, verified.stderr).toMatch(/public\.orders: equal/)
  const { rows } = await follower.query<{ slot: string }>('SELECT slot_name AS slot FROM pg_replication_slots WHERE active AND failover')
  expect(rows).toHaveLength(1)
  expect((await backend.table('public.orders')).state).toBe('streaming')
  await Promise.all([client.end().catch(() => undefined), follower.end()])
})
