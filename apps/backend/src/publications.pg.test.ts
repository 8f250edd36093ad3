import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ddlInstallSql } from '@moonlink/pg-source'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { verified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-publications-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess
beforeEach(async () => {
  database = await postgres.createDatabase()
})
afterEach(() => backend?.stop('SIGKILL'))

async function start(publication = 'given', slotCheckMs = 200): Promise<void> {
  const settings = [`source.publication=${publication}`, `source.slotCheckMs=${slotCheckMs}`]
  const args = ['--source', database.connectionString, '--state-dir', join(directory, database.name)]
  backend = await BackendProcess.start([...args, ...settings.flatMap((setting) => ['--set', setting])])
}

/** Runs the statement; the mirror must come to show what the source does, by itself. */
async function followed(sql: string, query: string): Promise<void> {
  await database.client.query(sql)
  const { rows } = await database.client.query<{ sum: number | null; count: number }>(
    `SELECT count(*)::int AS count, sum(id)::int AS sum FROM ${query}`,
  )
  const shown = () =>
    backend.query(`SELECT count(*)::INT, sum(id)::INT FROM ${query.replace(/ WHERE .*/, '')}`).catch((error: Error) => error.message)
  await expect.poll(shown, { message: sql }).toEqual([[rows[0].count, rows[0].sum]])
}

const isEqual = async (...tables: string[]) => {
  const { status, stderr, stdout } = await verified(backend.url, directory, ...tables)
  expect(`${status} ${stdout}${stderr}`).toMatch(/^0 /)
}

test('partitions that come with rows, are truncated by themselves, detached or dropped are noticed, while it runs and after', async () => {
  const { client } = database
  await client.query(`CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100); CREATE TABLE e2 PARTITION OF events FOR VALUES FROM (100) TO (200);
    INSERT INTO events SELECT n, n % 200 FROM generate_series(1, 1000) n; CREATE TABLE e3 (id int, at int, PRIMARY KEY (id, at));
    INSERT INTO e3 SELECT n, 250 FROM generate_series(2001, 2100) n`)
  await start('moonlink')
  await followed('INSERT INTO events VALUES (1500, 5)', 'events')
  await followed('ALTER TABLE events ATTACH PARTITION e3 FOR VALUES FROM (200) TO (300); INSERT INTO events VALUES (1501, 250)', 'events')
  await followed('TRUNCATE e1', 'events')
  await followed('ALTER TABLE events DETACH PARTITION e2; INSERT INTO e2 VALUES (3000, 150)', 'events')
  // What is detached is followed no more, and what was a table of its own is from where it was attached.
  await client.query(
    'INSERT INTO e2 VALUES (3003, 151); CREATE TABLE e5 (id int, at int, PRIMARY KEY (id, at)); INSERT INTO e5 VALUES (1, 450)',
  )
  await followed('INSERT INTO events VALUES (3004, 1)', 'events')
  await client.query('DELETE FROM e5; ALTER TABLE events ATTACH PARTITION e5 FOR VALUES FROM (400) TO (500)')
  await followed('INSERT INTO events VALUES (3005, 450)', 'events')
  await followed('INSERT INTO events VALUES (3006, 451)', 'events')
  const away = (then: string) =>
    `ALTER TABLE events DETACH PARTITION e1; ${then}; ALTER TABLE events ATTACH PARTITION e1 FOR VALUES FROM (0) TO (100)`
  // In one go: nobody can have looked in between.
  await followed(away('INSERT INTO e1 VALUES (3001, 50), (3002, 51)'), 'events')
  await followed(away('DELETE FROM e1 WHERE id = 3001'), 'events')
  await followed('CREATE TABLE e4 PARTITION OF events FOR VALUES FROM (300) TO (400); INSERT INTO events VALUES (4000, 300)', 'events')
  await isEqual('public.events')
  await backend.stop()
  await client.query('DROP TABLE e3; INSERT INTO events VALUES (4001, 1)')
  await start('moonlink')
  await followed('INSERT INTO events VALUES (4002, 2)', 'events')
  await backend.stop()
  await client.query(away('INSERT INTO e1 VALUES (4003, 52)'))
  await start('moonlink')
  await followed('INSERT INTO events VALUES (4004, 2)', 'events')
  await isEqual('public.events')
})

test('rows that came with a partition, and change before that is noticed, are followed all the same', async () => {
  const { client } = database
  await client.query(`CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100); INSERT INTO events SELECT n, n % 100 FROM generate_series(1, 300) n;
    CREATE TABLE e2 (id int, at int, PRIMARY KEY (id, at)); INSERT INTO e2 SELECT n, 150 FROM generate_series(2001, 2100) n`)
  await start('moonlink', 1000)
  const attach = 'ALTER TABLE events ATTACH PARTITION e2 FOR VALUES FROM (100) TO (200)'
  await followed(`${attach}; UPDATE events SET id = id + 10000 WHERE id < 2010 AND at = 150; DELETE FROM events WHERE id = 2050`, 'events')
  await followed(
    `ALTER TABLE events DETACH PARTITION e2; INSERT INTO e2 VALUES (1, 151); ${attach}; UPDATE events SET id = 2 WHERE at = 151`,
    'events',
  )
  await isEqual('public.events')
})

test('a partition that came, got rows and went between two looks leaves none of them behind, while it runs and after', async () => {
  const { client } = database
  await client.query(`CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100); INSERT INTO events SELECT n, n % 100 FROM generate_series(1, 300) n`)
  const shortLived = (id: number) =>
    `CREATE TABLE e2 PARTITION OF events FOR VALUES FROM (200) TO (300); INSERT INTO events VALUES (${id}, 200); DROP TABLE e2`
  await start('moonlink')
  await followed('INSERT INTO events VALUES (1000, 1)', 'events')
  await followed(shortLived(2000), 'events')
  await backend.stop()
  // Nobody looks at the catalog.
  await start('moonlink', 3_600_000)
  await client.query(shortLived(3000))
  await backend.wait({ iceberg: true })
  await backend.stop()
  await start('moonlink')
  await followed('INSERT INTO events VALUES (1001, 1)', 'events')
  await isEqual('public.events')
})

test('event triggers tell where a partition came or went: no query is answered with rows that are gone, or without those that came', async () => {
  const { client } = database
  await client.query(`CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE e1 PARTITION OF events FOR VALUES FROM (0) TO (100); INSERT INTO events SELECT n, n % 100 FROM generate_series(1, 300) n;
    CREATE TABLE e2 (id int, at int, PRIMARY KEY (id, at)); INSERT INTO e2 SELECT n, 150 FROM generate_series(1, 50) n`)
  await client.query(ddlInstallSql)
  // Nobody looks at the catalog.
  await start('moonlink', 3_600_000)
  for (const [sql, count] of [
    ['ALTER TABLE events ATTACH PARTITION e2 FOR VALUES FROM (100) TO (200); INSERT INTO events VALUES (99, 150)', 351],
    ['ALTER TABLE events DETACH PARTITION e1; INSERT INTO e1 VALUES (9000, 1)', 51],
    ['ALTER TABLE events ATTACH PARTITION e1 FOR VALUES FROM (0) TO (100)', 352],
    ['CREATE TABLE e3 PARTITION OF events FOR VALUES FROM (200) TO (300); INSERT INTO events VALUES (1, 200); DROP TABLE e2', 302],
  ] as const) {
    await client.query(sql)
    await backend.wait({})
    expect(await backend.query('SELECT count(*)::INT FROM events'), sql).toEqual([[count]])
  }
  await isEqual('public.events')
})

test('a filter that changes, and tables that come into a given publication and leave it, are followed', async (context) => {
  if (postgres.major < 15) return context.skip()
  const { client } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY);
    INSERT INTO a SELECT n, 'v' FROM generate_series(1, 100) n; INSERT INTO b VALUES (1); INSERT INTO c VALUES (7);
    CREATE PUBLICATION given FOR TABLE a WHERE (id > 50), b`)
  await start()
  await followed('INSERT INTO a VALUES (0, $$out$$), (101, $$in$$)', 'a WHERE id > 50')
  await isEqual()
  await followed('ALTER PUBLICATION given SET TABLE a WHERE (id > 90), b', 'a WHERE id > 90')
  await followed('ALTER PUBLICATION given ADD TABLE c', 'c')
  await client.query('ALTER PUBLICATION given DROP TABLE b')
  await expect.poll(async () => (await backend.table('public.b')).state).toBe('paused')
  expect((await backend.table('public.b')).reason).toMatch(/TABLE_UNPUBLISHED.*ALTER PUBLICATION "given" ADD TABLE ONLY "public"."b"/)
  await followed('INSERT INTO c VALUES (8); UPDATE a SET id = 1000 WHERE id = 91', 'c')
  await isEqual('public.a', 'public.c')
  await client.query('INSERT INTO b VALUES (2); ALTER PUBLICATION given ADD TABLE b')
  await backend.post('/tables/public.b/resync', {})
  await followed('INSERT INTO b VALUES (3)', 'b')
  await backend.stop()
  await client.query('ALTER PUBLICATION given SET TABLE a WHERE (id < 20), b, c')
  await start()
  await followed('INSERT INTO a VALUES (-5, $$in$$)', 'a WHERE id < 20')
  await isEqual()
})

test('a publication of ours that somebody changes, drops or makes anew, and a table taken out of it, are noticed, while it runs and after', async () => {
  const { client } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a SELECT n, 'v' FROM generate_series(1, 100) n; INSERT INTO b VALUES (1)`)
  await start('ours')
  const missed = (id: number) =>
    `INSERT INTO a VALUES (${id}, 'missed'); INSERT INTO b VALUES (${id}); UPDATE a SET v = 'unseen' WHERE id = 5`
  await followed(`ALTER PUBLICATION ours DROP TABLE a; ${missed(1000)}`, 'a')
  await followed(`DROP PUBLICATION ours; ${missed(1001)}`, 'a')
  await followed('INSERT INTO b VALUES (2001)', 'b')
  // In one go: nobody can have looked in between.
  await followed(`ALTER PUBLICATION ours DROP TABLE a, b; ${missed(1002)}; ALTER PUBLICATION ours ADD TABLE ONLY a, ONLY b`, 'a')
  await followed('INSERT INTO b VALUES (2002)', 'b')

  await client.query(`ALTER PUBLICATION ours SET (publish = 'insert'); ${missed(1003)}; DELETE FROM a WHERE id = 7`)
  await expect.poll(async () => (await backend.table('public.a')).state).toBe('paused')
  expect((await backend.table('public.a')).reason).toMatch(
    /PG_PUBLICATION_OPERATIONS.*does not publish update and delete and truncate.*ALTER PUBLICATION "ours" SET/,
  )
  await client.query(`ALTER PUBLICATION ours SET (publish = 'insert, update, delete, truncate')`)
  for (const table of ['a', 'b']) await backend.post(`/tables/public.${table}/resync`, {})
  await followed('INSERT INTO a VALUES (2003)', 'a')
  await isEqual()

  await backend.stop()
  await client.query(`DROP PUBLICATION ours; ${missed(1004)}`)
  await start('ours')
  await followed('INSERT INTO a VALUES (2004)', 'a')
  await backend.stop()
  await client.query(`ALTER PUBLICATION ours SET (publish = 'insert'); ${missed(1005)}; DELETE FROM a WHERE id = 8;
    ALTER PUBLICATION ours SET (publish = 'insert, update, delete, truncate')`)
  await start('ours')
  await followed('INSERT INTO a VALUES (2005)', 'a')
  await isEqual()
})

test('stored generated columns that a publication begins and ceases to publish are followed, while it runs and after', async (context) => {
  if (postgres.major < 18) return context.skip()
  const { client } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED, v int GENERATED ALWAYS AS (n * 3) VIRTUAL);
    INSERT INTO a SELECT n, n FROM generate_series(1, 100) n; CREATE PUBLICATION given FOR TABLE a WITH (publish_generated_columns = none)`)
  const publish = (which: 'none' | 'stored') => `ALTER PUBLICATION given SET (publish_generated_columns = ${which})`
  let next = 1000
  const showsOnly = async (sql: string, columns: readonly string[]) => {
    await client.query(`${sql}; INSERT INTO a VALUES (${next}, ${next}); UPDATE a SET n = n + 1 WHERE id = ${(next++ % 100) + 1}`)
    await expect.poll(async () => (await backend.read('SELECT * FROM a').catch(() => ({ names: [] }))).names).toEqual(columns)
    await backend.wait()
    const list = columns.join(', ')
    const { rows } = await client.query<unknown[]>({ text: `SELECT ${list} FROM a ORDER BY id`, rowMode: 'array' })
    await expect.poll(() => backend.query(`SELECT ${list} FROM a ORDER BY id`)).toEqual(rows)
    await isEqual('public.a')
  }
  await start()
  await showsOnly('SELECT', ['id', 'n'])
  await showsOnly(publish('stored'), ['id', 'n', 'g'])
  await showsOnly(publish('none'), ['id', 'n'])
  // In one go: nobody can have looked in between.
  await showsOnly(`${publish('stored')}; INSERT INTO a VALUES (501, 501); ${publish('none')}; INSERT INTO a VALUES (502, 502)`, ['id', 'n'])
  await backend.stop('SIGKILL')
  await client.query(`${publish('stored')}; UPDATE a SET n = 0 WHERE id < 50`)
  await start()
  await showsOnly('SELECT', ['id', 'n', 'g'])
  await backend.stop()
  await client.query(`${publish('none')}; UPDATE a SET n = 1 WHERE id < 50; ${publish('stored')}; UPDATE a SET n = 2 WHERE id < 20`)
  await start()
  await showsOnly('SELECT', ['id', 'n', 'g'])
})

test.each([false, true])(
  'a table of a publication of all that was unlogged for a while is made equal, while it runs and after; told of it: %s',
  async (isTold) => {
    const { client } = database
    if (isTold) await client.query(ddlInstallSql)
    await client.query('CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1), (2); CREATE PUBLICATION given FOR ALL TABLES')
    const unlogged = (changes: string) => `ALTER TABLE u SET UNLOGGED; ${changes}; ALTER TABLE u SET LOGGED`
    await start()
    await followed('INSERT INTO u VALUES (3)', 'u')
    await followed(unlogged('DELETE FROM u WHERE id = 2; INSERT INTO u VALUES (4)'), 'u')
    await followed(`${unlogged('UPDATE u SET id = id + 10')}; UPDATE u SET id = id + 100`, 'u')
    await followed('TRUNCATE u; INSERT INTO u VALUES (5)', 'u')
    await backend.stop()
    await client.query(unlogged('INSERT INTO u VALUES (6)'))
    await start()
    await followed('INSERT INTO u VALUES (7)', 'u')
    await isEqual('public.u')
  },
)

test('a given publication that is gone is not replaced by one of ours', async () => {
  const { client } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE PUBLICATION given FOR TABLE a`)
  await start()
  await backend.stop()
  await client.query('DROP PUBLICATION given')
  const args = ['start', '--source', database.connectionString, '--state-dir', join(directory, database.name), '--http', '127.0.0.1:0']
  const stopped = await moonlink([...args, '--set', 'source.publication=given'], {}, directory)
  expect(stopped).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^PG_PUBLICATION_MISSING publication "given" was not made here/) as string,
  })
  expect((await client.query('SELECT FROM pg_publication')).rowCount).toBe(0)
  await client.query('INSERT INTO a VALUES (2); CREATE PUBLICATION given FOR TABLE a')
  await start()
  await followed('INSERT INTO a VALUES (3)', 'a')
  await isEqual()
})

test('a filtered table that is locked just when its columns changed holds up no other, and goes on after', async (context) => {
  if (postgres.major < 15) return context.skip()
  const { client, connectionString } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a SELECT n, n FROM generate_series(1, 10) n; INSERT INTO b VALUES (1); CREATE PUBLICATION given FOR TABLE a WHERE (id > 5), b`)
  await start()
  const locker = new pg.Client(connectionString)
  await locker.connect()
  try {
    await client.query('BEGIN; ALTER TABLE a ADD later int; INSERT INTO a VALUES (11, 11, 11)')
    // It waits for that transaction's lock, so it has its own before anybody who looks at what was committed.
    const locked = locker.query('BEGIN; LOCK TABLE a')
    const waiting = `SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND relation = 'a'::regclass`
    await expect.poll(async () => (await client.query<{ n: number }>(waiting)).rows[0].n).toBe(1)
    await client.query('COMMIT')
    await locked
    await followed('INSERT INTO b VALUES (2)', 'b')
    // What is noticed tells that the publication is still looked at. The copy itself waits for all transactions.
    await client.query('CREATE TABLE c (id int PRIMARY KEY); ALTER PUBLICATION given ADD TABLE c')
    await expect.poll(async () => (await backend.table('public.c')).state).toBe('copying')
    const { rows: holders } = await locker.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    const waits = `the copy waits for the transaction of process ${holders[0].pid} (`
    await expect.poll(async () => (await backend.table('public.c')).waitingFor).toContain(waits)
    const listed = await moonlink(['tables', 'list'], { MOONLINK_URL: backend.url }, directory)
    expect(listed.stdout).toContain(waits)
    await followed('INSERT INTO b VALUES (3)', 'b')
    await locker.query('INSERT INTO a VALUES (-1, 0, 0), (1001, 6, 6); COMMIT')
    await followed('UPDATE a SET id = 7000 WHERE id = 1', 'a WHERE id > 5')
    await followed('INSERT INTO c VALUES (1)', 'c')
    expect(await backend.query('SELECT later FROM a WHERE id IN (6, 11, 1001) ORDER BY id')).toEqual([[null], [11], [6]])
    await isEqual()
  } finally {
    await locker.end()
  }
})

test('a mirrored table that was taken out of the publication and belongs to somebody else by now is in the way of no other, while it runs and at a start', async () => {
  const { client, connectionString, name } = database
  const url = new URL(connectionString)
  url.username = `mirror_${name}`
  url.password = 'secret'
  await client.query(`CREATE ROLE ${url.username} LOGIN REPLICATION PASSWORD 'secret'; GRANT CREATE ON DATABASE ${name} TO ${url.username};
    CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE never (id int PRIMARY KEY);
    ALTER TABLE a OWNER TO ${url.username}; ALTER TABLE b OWNER TO ${url.username}; GRANT SELECT ON a, b, never TO ${url.username}`)
  const launch = () => {
    const args = ['--source', url.href, '--state-dir', join(directory, name), '--set', 'source.slotCheckMs=200']
    return BackendProcess.start([...args, '--set', 'source.publication=moonlink'])
  }
  backend = await launch()
  const tables = async () => Object.fromEntries((await backend.tables()).map((table) => [table.name, table]))
  expect(Object.keys(await tables())).toEqual(['public.a', 'public.b'])
  expect(backend.said).toMatch(/not mirrored: only its owner may publish public\.never\. /)
  await client.query(`ALTER TABLE b OWNER TO postgres; GRANT SELECT ON b TO ${url.username}; ALTER PUBLICATION moonlink DROP TABLE b`)
  const foreign = /^PG_TABLE_OWNER only its owner may publish public\.b\..* ALTER PUBLICATION "moonlink" ADD TABLE ONLY "public"\."b"/
  await expect.poll(async () => (await tables())['public.b']?.reason).toMatch(foreign)
  const isGoingOn = async () => {
    await backend.post('/tables/public.a/resync', {})
    await expect.poll(async () => (await tables())['public.a']?.state).toBe('streaming')
    await isEqual('public.a')
  }
  await isGoingOn()
  await backend.stop()
  backend = await launch()
  expect((await tables())['public.b']).toMatchObject({ state: 'failed', reason: expect.stringMatching(foreign) as string })
  await isGoingOn()
  await client.query('ALTER PUBLICATION moonlink ADD TABLE ONLY b; INSERT INTO b VALUES (1)')
  await backend.post('/tables', { tables: ['public.b'] })
  await expect.poll(async () => (await tables())['public.b']?.state).toBe('streaming')
  await isEqual('public.b')
})
