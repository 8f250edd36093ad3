import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres } from '@moonlink/embedded-pg'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { Client } from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink, type CommandResult } from './testing/command-line.ts'
import { until } from './testing/until.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-mirror-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let args: string[]
let backend: BackendProcess

beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`CREATE TABLE orders (id bigint PRIMARY KEY, note text, amount numeric(12, 2), at timestamptz)`)
  await database.client.query(`INSERT INTO orders SELECT i, 'note ' || i, i / 4.0, now() FROM generate_series(1, 2000) i`)
  args = ['--source', database.connectionString, '--state-dir', join(directory, 'a 50% state', database.name)]
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

const start = async (more: string[] = [], env: Record<string, string> = {}) => {
  backend = await BackendProcess.start([...args, ...more], env)
}
const run = (...command: string[]): Promise<CommandResult> => moonlink(command, { MOONLINK_URL: backend.url }, directory)
const done = async (...command: string[]): Promise<string> => {
  const result = await run(...command)
  expect(result, result.stderr).toMatchObject({ status: 0 })
  return result.stdout
}
const fingerprint = `count(*)::VARCHAR || ':' || sum(amount)::VARCHAR || ':' || min(note) || ':' || max(id)::VARCHAR AS print`

/** What Postgres has, and what SQL shows once it has caught up. */
async function expectEqual(table = 'orders'): Promise<void> {
  const { rows } = await database.client.query<{ print: string }>(`SELECT ${fingerprint.replaceAll('VARCHAR', 'text')} FROM ${table}`)
  await done('wait')
  expect(JSON.parse(await done('query', `SELECT ${fingerprint} FROM public.${table}`, '--format', 'json'))).toEqual([
    { print: rows[0].print },
  ])
}

const change = async () => {
  await database.client.query(`UPDATE orders SET amount = amount + 1 WHERE id % 3 = 0`)
  await database.client.query(`DELETE FROM orders WHERE id % 10 = 7`)
  await database.client.query(
    `INSERT INTO orders SELECT i + (SELECT max(id) FROM orders), 'later', 1, now() FROM generate_series(1, 500) i`,
  )
}

test('the mirror follows: copied rows, changes, waits, flushes and reads in the past', async () => {
  await start([], { MOONLINK_FLUSH_INTERVAL_MS: '1h' })
  await expectEqual()
  const before = (await done('wait')).trim()
  await change()
  await expectEqual()
  const [past] = JSON.parse(await done('query', 'SELECT count(*) AS n FROM public.orders', '--at-lsn', before, '--format', 'json')) as {
    n: number
  }[]
  expect(past.n).toBe(2000)
  expect(await done('query', 'SELECT id, note FROM public.orders ORDER BY id LIMIT 1', '--format', 'csv')).toBe('id,note\n1,note 1\n')

  const committed = async () => (await backend.table('public.orders')).dataFiles
  const files = await committed()
  await done('flush', 'public.orders')
  expect(await committed()).toBeGreaterThan(files)
  await change()
  await done('wait', '--iceberg')
  const status = JSON.parse(await done('status', '--json')) as { source: Record<string, string>; tables: Record<string, unknown>[] }
  expect(status.source).toMatchObject({ database: database.name, publication: 'moonlink' })
  expect(status.tables).toHaveLength(1)
  expect(status.tables[0]).toMatchObject({ name: 'public.orders', state: 'streaming', reason: null })
  expect(status.tables[0]['metadataLocation']).toMatch(/^file:\/\/.*\.metadata\.json$/)
  expect(status.tables[0]['snapshotId']).toMatch(/^\d+$/)
  const metrics = await (await fetch(`${backend.url}/metrics`)).text()
  expect(metrics).toMatch(/^moonlink_up 1$/m)
  expect(metrics).toMatch(/^moonlink_freshness_seconds_count [1-9]/m)
  expect(metrics).toMatch(/^moonlink_copied_rows_total\{table="public.orders"\} 2000$/m)
  expect(metrics).toMatch(/^moonlink_commits_total\{table="public.orders",kind="flush"\} [1-9]/m)
  await expectEqual()
})

test('restarts lose and repeat nothing, rows written while it is down included', async () => {
  await start()
  await expectEqual()
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGTERM'] as const) {
    await change()
    const status = await backend.stop(signal)
    if (signal === 'SIGTERM') expect(status).toBe(0)
    await change()
    await start()
    await expectEqual()
    await change()
    await expectEqual()
  }
  await done('stop')
})

test('tables are listed, added, dropped, and purged while it runs', async () => {
  await database.client.query(
    'CREATE TABLE other (id int PRIMARY KEY, note text, amount numeric(12, 2)); INSERT INTO other VALUES (1, $$a$$, 1)',
  )
  await database.client.query(`CREATE TYPE sides AS (a int, "A" int); CREATE TABLE odd (id int PRIMARY KEY, place sides)`)
  await start(['--table', 'public.orders'])
  const list = await done('tables', 'list')
  expect(list).toMatch(/public\.other\s+not mirrored/)
  expect(list).toMatch(/public\.odd\s+not mirrored.*place/)
  expect(await run('tables', 'add', 'public.odd')).toMatchObject({ status: 1, stderr: expect.stringContaining('place') as string })
  await done('tables', 'add', 'public.other')
  await expectEqual('other')
  await database.client.query('INSERT INTO other VALUES (2, $$b$$, 2)')
  await expectEqual('other')
  await expectEqual()

  await database.client.query('CREATE TABLE short_lived (id int PRIMARY KEY)')
  await done('tables', 'add', 'public.short_lived')
  await database.client.query('DROP TABLE short_lived')
  expect(await done('tables', 'list')).toMatch(/public\.short_lived\s+(streaming|copying|paused)\s+\S/)
  await until('the end of its copy', async () => (await backend.table('public.short_lived')).state !== 'copying')
  await done('tables', 'drop', 'public.short_lived', '--purge')

  const { metadataLocation } = await backend.table('public.other')
  await done('tables', 'drop', 'public.other')
  expect(await run('query', 'SELECT * FROM public.other')).toMatchObject({ status: 1 })
  expect(metadataLocation).toContain('/public/other/')
  await database.client.query('INSERT INTO other VALUES (3, $$c$$, 3); DELETE FROM other WHERE id = 1')
  await done('tables', 'add', 'public.other')
  await expectEqual('other')
  await backend.stop()
  await start(['--table', 'public.orders'])
  await expectEqual('other')
  await done('tables', 'drop', 'public.other', '--purge')
  await backend.stop()
  await start(['--table', 'public.orders'])
  expect((await backend.tables()).map((table) => table.name)).toEqual(['public.orders'])
  await expectEqual()
})

test('a table that is paused leaves the others alone, and stays so over a restart', async () => {
  const paused = ['--set', 'source.onSchemaChange=pause']
  await database.client.query(
    'CREATE TABLE other (id int PRIMARY KEY, note text, amount numeric(12, 2)); INSERT INTO other VALUES (1, $$a$$, 1)',
  )
  await start(paused)
  await expectEqual('other')
  await database.client.query('ALTER TABLE other ADD COLUMN extra uuid DEFAULT gen_random_uuid(); INSERT INTO other VALUES (2, $$b$$, 2)')
  await change()
  await expectEqual()
  expect(await backend.table('public.other')).toMatchObject({ state: 'paused' })
  expect(await run('query', 'SELECT * FROM public.other')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^TABLE_PAUSED/) as string,
  })
  expect(await run('wait', '--iceberg')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^TABLE_PAUSED public\.other is paused, its Iceberg table as of /) as string,
  })
  await backend.stop()
  await start(paused)
  await expectEqual()
  expect(await backend.table('public.other')).toMatchObject({ state: 'paused' })
  await done('tables', 'drop', 'public.other', '--purge')
  await done('tables', 'add', 'public.other')
  await expectEqual('other')
})

test('time-outs are 124, and an LSN no longer held names the range', async () => {
  await start()
  expect(await run('wait', '--lsn', 'FFFFFFFF/0', '--timeout', '300ms')).toMatchObject({
    status: 124,
    stderr: expect.stringMatching(/^TIMED_OUT /) as string,
  })
  expect(await run('query', 'SELECT count(*) FROM public.orders', '--at-lsn', 'FFFFFFFF/0', '--timeout', '300ms')).toMatchObject({
    status: 124,
  })
  const early = await run('query', 'SELECT count(*) FROM public.orders', '--at-lsn', '0/1')
  expect(early).toMatchObject({ status: 1, stderr: expect.stringMatching(/^LSN_NOT_HELD .*held are/) as string })
})

test('a warehouse of another source is refused, naming both', async () => {
  await start()
  await backend.stop()
  const other = await postgres.createDatabase()
  await other.client.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text, amount numeric(12, 2), at timestamptz)')
  const warehouse = join(directory, 'a 50% state', database.name, 'warehouse')
  const command = ['start', '--source', other.connectionString, '--state-dir', join(directory, other.name), '--warehouse', warehouse]
  const refused = await moonlink(command, {}, directory)
  expect(refused.status).toBe(1)
  expect(refused.stderr).toMatch(new RegExp(`^WAREHOUSE_OTHER_SOURCE .*"${database.name}".*"${other.name}" RENAME TO "${database.name}"`))
})

test('a source that goes away and comes back is followed again, from a transaction that was cut off too', async () => {
  const dataDir = join(directory, 'source')
  let server = await startPostgres({ dataDir })
  const connect = async () => {
    const connected = new Client(server.connectionString)
    connected.on('error', () => undefined)
    await connected.connect()
    return connected
  }
  let client = await connect()
  await client.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text); INSERT INTO orders VALUES (1, $$a$$)')
  args = ['--source', server.connectionString, '--state-dir', join(directory, 'of-source')]
  // A server that shuts down waits until its log is acknowledged: so commit soon.
  await start([], { MOONLINK_FLUSH_INTERVAL_MS: '300ms' })
  for (let round = 0; round < 2; round++) {
    await client.query(`INSERT INTO orders SELECT (SELECT max(id) FROM orders) + i, repeat('x', 500) FROM generate_series(1, 60000) i`)
    const { port } = server
    await server.stop()
    expect(await run('wait', '--timeout', '300ms')).not.toMatchObject({ status: 0 })
    const listed = await run('tables', 'list', '--json')
    expect(listed).toMatchObject({ status: 0, stderr: expect.stringMatching(/^warning: the source could not be asked, .*PG_/) as string })
    expect(JSON.parse(listed.stdout)).toEqual([{ name: 'public.orders', mirrored: true, state: 'streaming', reason: null, notes: [] }])
    server = await startPostgres({ dataDir, port })
    client = await connect()
    await client.query('DELETE FROM orders WHERE id % 3 = 0')
    const { rows } = await client.query<{ print: string }>(`SELECT count(*) || ':' || sum(id) AS print FROM orders`)
    await until('the source that came back', async () => (await run('wait', '--timeout', '20s')).status === 0)
    expect(await done('query', `SELECT count(*)::VARCHAR || ':' || sum(id)::VARCHAR AS print FROM orders`, '--format', 'csv')).toBe(
      `print\n${rows[0].print}\n`,
    )
  }
  expect(await backend.stop()).toBe(0)
  await server.stop()
})

test('uninstall removes slot and publication, with the backend and without', async () => {
  const left = async () => {
    const { rows } = await database.client.query<{ n: number }>(
      'SELECT (SELECT count(*) FROM pg_publication)::int + (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())::int AS n',
    )
    return rows[0].n
  }
  await start()
  expect(await left()).toBe(2)
  const slot = `moonlink_${database.name}`
  expect(await done('uninstall')).toBe(`removed slot ${slot} and publication moonlink; the Iceberg tables stay\n`)
  expect(await left()).toBe(0)
  await start()
  await expectEqual()
  await backend.stop()
  await change()
  const alone = ['uninstall', '--source', database.connectionString, '--state-dir', join(directory, 'a 50% state', database.name)]
  const uninstalled = await moonlink(alone, {}, directory)
  expect(uninstalled, uninstalled.stderr).toMatchObject({
    status: 0,
    stdout: expect.stringContaining(`removed slot ${slot} and`) as string,
  })
  expect(await left()).toBe(0)
  expect(await moonlink(alone, {}, directory)).toMatchObject({ status: 0, stdout: expect.stringMatching(/^there was no slot/) as string })
  // The changes since are in no slot: the table is copied again.
  await start()
  await expectEqual()
})

test('what is removed, what was not there and what stays is said', async () => {
  const { client, connectionString } = database
  await client.query('CREATE PUBLICATION given FOR TABLE orders')
  await start(['--set', 'source.publication=given'])
  expect(await done('uninstall')).toBe(
    `removed slot moonlink_${database.name}; publication given, which Moonlink did not make, stays; the Iceberg tables stay\n`,
  )
  const ddl = async (change: string) => (await moonlink(['ddl', change, '--source', connectionString], {}, directory)).stdout
  expect(await ddl('uninstall')).toBe('there were no event triggers of ours to remove\n')
  await ddl('install')
  expect(await ddl('uninstall')).toBe('the event triggers are removed\n')
})
