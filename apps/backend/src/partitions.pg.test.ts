import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
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
