import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { verified } from './testing/verified.ts'

/** What is known of partitions is kept over a kill, where no event trigger tells of them. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-partitions-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess
let env: Readonly<Record<string, string>>
beforeEach(async () => {
  database = await postgres.createDatabase()
  env = {
    MOONLINK_SOURCE_URL: database.connectionString,
    MOONLINK_STATE_DIR: join(directory, database.name),
    MOONLINK_FLUSH_INTERVAL_MS: '100ms',
  }
  await database.client.query(`CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100); INSERT INTO events SELECT n, n % 100 FROM generate_series(1, 300) n`)
})
afterEach(() => backend?.stop('SIGKILL'))

test.each([
  ['the change log', 'after', {}],
  ['the slot alone', 'after', { MOONLINK_CHANGE_LOG_ENABLED: 'false' }],
  ['the change log', 'before', {}],
] as const)(
  'with %s, a process that is killed right %s it commits rows of a partition that is dropped then leaves none of them',
  async (_, side, more) => {
    const { client } = database
    const given = { ...env, ...more }
    // Nobody looks at the catalog.
    backend = BackendProcess.dying({ point: 'catalog commit', side }, { ...given, MOONLINK_SOURCE_SLOT_CHECK_MS: '1h' })
    await backend.ready()
    await backend.wait({ iceberg: true })
    const { child } = backend
    const died = once(child, 'exit')
    child.kill('SIGUSR2')
    await client.query('CREATE TABLE e2 PARTITION OF events FOR VALUES FROM (200) TO (300); INSERT INTO events VALUES (1000, 200)')
    await died
    await client.query('DROP TABLE e2')
    backend = await BackendProcess.start([], given)
    await expect.poll(() => backend.query('SELECT count(*)::INT FROM events').catch((error: Error) => error.message)).toEqual([[300]])
    const { status, stderr, stdout } = await verified(backend.url, directory, 'public.events')
    expect(`${status} ${stdout}${stderr}`).toMatch(/^0 /)
  },
)

/** Starts with a given publication, on a server that has looked at the table to be attached before it is. */
async function startGiven(url: string): Promise<void> {
  const { client } = database
  await client.query(
    `CREATE TABLE e3 (id int, at int, PRIMARY KEY (id, at)); CREATE PUBLICATION given FOR TABLE events WITH (publish_via_partition_root = true)`,
  )
  env = { ...env, MOONLINK_SOURCE_URL: url, MOONLINK_SOURCE_PUBLICATION: 'given', MOONLINK_SOURCE_SLOT_CHECK_MS: '200ms' }
  backend = await BackendProcess.start([], env)
  await client.query('INSERT INTO e3 VALUES (1, 350); DELETE FROM e3')
  await backend.wait()
}

const ATTACHED = 'ALTER TABLE events ATTACH PARTITION e3 FOR VALUES FROM (300) TO (400)'

const shows = (count: number) =>
  expect.poll(() => backend.query('SELECT count(*)::INT FROM events').catch((error: Error) => error.message)).toEqual([[count]])

test('rows of a table that is attached while it runs are followed where the publication was given, also by the next process', async () => {
  const { client } = database
  await startGiven(database.connectionString)
  await client.query(ATTACHED)
  for (const id of [2, 3, 4]) {
    await client.query(`INSERT INTO events VALUES (${id}, 350)`)
    await shows(299 + id)
  }
  await backend.stop('SIGKILL')
  // The server meets this one before it is attached, too, and after the next start.
  await client.query(`CREATE TABLE e4 (id int, at int, PRIMARY KEY (id, at)); INSERT INTO e4 VALUES (1, 450); DELETE FROM e4`)
  await client.query('ALTER TABLE events ATTACH PARTITION e4 FOR VALUES FROM (400) TO (500)')
  await client.query('INSERT INTO events VALUES (5, 450)')
  backend = await BackendProcess.start([], env)
  await shows(304)
  await client.query('INSERT INTO events VALUES (6, 450)')
  await shows(305)
  const { rows } = await client.query('SELECT pubname FROM pg_publication')
  expect(rows).toEqual([{ pubname: 'given' }])
})

test.for(['while it runs', 'while none runs', 'before one runs that never looks'])(
  'a server that does not send rows of a table that is attached %s is told of, with the remedy, where nothing of ours may be made',
  async (when, context) => {
    context.skip(postgres.major > 14, 'later servers send them')
    const { client } = database
    const isRunning = when === 'while it runs'
    const role = `reader_${database.name}`
    await client.query(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'secret'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role}`)
    const url = Object.assign(new URL(database.connectionString), { username: role, password: 'secret' })
    await startGiven(url.href)
    if (!isRunning) {
      await backend.stop()
      await client.query('INSERT INTO e3 VALUES (1, 351); DELETE FROM e3')
    }
    await client.query(ATTACHED)
    if (when === 'before one runs that never looks') {
      backend = await BackendProcess.start([], { ...env, MOONLINK_SOURCE_SLOT_CHECK_MS: '1h' })
      await backend.wait({ iceberg: true })
      await backend.stop()
    }
    if (!isRunning) backend = await BackendProcess.start([], env)
    const pauses = () => expect.poll(async () => (await backend.table('public.events')).state).toBe('paused')
    await pauses()
    await backend.stop()
    backend = await BackendProcess.start([], env)
    await pauses()
    const { reason } = await backend.table('public.events')
    const listed = (await moonlink(['tables', 'list', '--url', backend.url])).stdout
    const remedy = /^PG_PARTITION_UNSENT .* Run (BEGIN; .*; COMMIT); then moonlink tables resync public\.events/.exec(reason ?? '')
    expect(remedy, String(reason)).not.toBeNull()
    expect(listed).toContain(remedy![1])
    await client.query(remedy![1])
    await backend.post('/tables/public.events/resync', {})
    await client.query('INSERT INTO events VALUES (2, 350)')
    await shows(301)
    await client.query('INSERT INTO events VALUES (3, 350)')
    await shows(302)
    expect((await backend.table('public.events')).reason).toBeNull()
  },
)
