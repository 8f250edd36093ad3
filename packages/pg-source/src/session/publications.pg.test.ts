import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import pg from 'pg'
import { beforeEach, expect, test } from 'vitest'
import { tableOf } from './harness.test.support.ts'
import { listingOf, publishedTables } from './publications.test.support.ts'
import { openPgSource } from './source.ts'

const postgres = withPostgres()
let database: TestDatabase
beforeEach(async () => {
  database = await postgres.createDatabase()
})

const { config, mirrors, refusal } = publishedTables(() => database)

test('a row filter holds for the copy as for the stream: rows enter and leave it by updates, keys change across it', async (context) => {
  if (postgres.major < 15) return context.skip()
  const { client } = database
  await client.query(`CREATE TABLE orders (id int PRIMARY KEY, region text NOT NULL, v text);
    CREATE UNIQUE INDEX by_both ON orders (id, region); ALTER TABLE orders REPLICA IDENTITY USING INDEX by_both;
    INSERT INTO orders SELECT n, CASE WHEN n % 3 = 0 THEN 'eu' ELSE 'us' END, repeat('x', 200) FROM generate_series(1, 300) n;
    CREATE PUBLICATION given FOR TABLE orders WHERE (region = 'eu' AND id <> 7)`)
  const more = { publication: 'given' }
  await mirrors(
    'public.orders',
    `(SELECT * FROM orders WHERE region = 'eu' AND id <> 7)`,
    [
      `INSERT INTO orders VALUES (1001, 'eu', 'in'), (1002, 'us', 'out')`,
      `UPDATE orders SET region = 'eu' WHERE id IN (1, 2)`,
      `UPDATE orders SET region = 'us' WHERE id IN (3, 6)`,
      `UPDATE orders SET v = 'new' WHERE id < 20`,
      `DELETE FROM orders WHERE id IN (7, 9); UPDATE orders SET id = 7 WHERE id = 1`,
      `UPDATE orders SET id = id + 5000 WHERE id > 200`,
      `TRUNCATE orders`,
      `INSERT INTO orders VALUES (7, 'eu', 'never'), (8, 'eu', 'in')`,
    ],
    more,
  )
  const source = await openPgSource(config(more))
  expect((await source.listTables()).find(({ table }) => table.name === 'orders')).toMatchObject({
    notes: [expect.stringContaining(`region = 'eu'`)],
  })
  await source.close()
})

test('a list of columns is what the table is', async (context) => {
  if (postgres.major < 15) return context.skip()
  await database.client.query(`CREATE TABLE people (id int PRIMARY KEY, secret text NOT NULL, name text);
    INSERT INTO people SELECT n, 's', 'n' || n FROM generate_series(1, 100) n; CREATE PUBLICATION given FOR TABLE people (id, name)`)
  const more = { publication: 'given' }
  await mirrors(
    'public.people',
    '(SELECT id, name FROM people)',
    [
      `INSERT INTO people VALUES (1001, 's', 'a')`,
      `UPDATE people SET secret = 't'`,
      `UPDATE people SET name = 'b' WHERE id < 5`,
      `DELETE FROM people WHERE id < 3`,
    ],
    more,
  )
  const source = await openPgSource(config(more))
  expect(await listingOf(source, tableOf('public.people'))).toMatchObject({ notes: ['column "secret" is not published: left out'] })
  await source.close()

  await database.client.query('ALTER PUBLICATION given SET TABLE people (name)')
  expect(await refusal('public.people', more)).toMatchObject({
    code: 'COLUMN_IN_KEY',
    reason: expect.stringContaining('not published') as string,
  })
  await database.client.query('ALTER PUBLICATION given SET TABLE people (id, name); ALTER TABLE people REPLICA IDENTITY FULL')
  expect(await refusal('public.people', more)).toMatchObject({
    code: 'TABLE_NO_IDENTITY',
    reason: expect.stringContaining('"secret"') as string,
  })
  // As we say, so it is.
  await expect(database.client.query('UPDATE people SET name = name')).rejects.toThrow(/cannot update table/)
})

test('stored generated columns come where the server publishes them', async () => {
  await database.client.query(`CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
    INSERT INTO t SELECT n, n FROM generate_series(1, 100) n; ALTER TABLE t REPLICA IDENTITY FULL`)
  const columns = postgres.major >= 18 ? '*' : 'id, n'
  await mirrors('public.t', `(SELECT ${columns} FROM t)`, [
    'UPDATE t SET n = n + 1 WHERE id < 10',
    'INSERT INTO t VALUES (1001, 1)',
    'DELETE FROM t WHERE id > 50',
  ])
  if (postgres.major < 18) return
  await database.client.query(`CREATE TABLE v (id int PRIMARY KEY, w int GENERATED ALWAYS AS (id * 2) VIRTUAL)`)
  const listing = await refusal('public.v')
  expect(listing).toMatchObject({ mirrorable: true, notes: ['column "w" is generated, and not published: left out'] })
  await database.client.query('ALTER TABLE v REPLICA IDENTITY FULL')
  expect(await refusal('public.v')).toMatchObject({ code: 'TABLE_NO_IDENTITY', reason: expect.stringContaining('"w"') as string })
})

test('a table that somebody rewrites holds nobody up: what is published is told without its lock', async () => {
  const { client } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED); CREATE TABLE b (id int PRIMARY KEY);
    CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); ALTER TABLE p REPLICA IDENTITY FULL;
    ALTER TABLE p1 REPLICA IDENTITY FULL`)
  const tables = ['public.a', 'public.b', 'public.p'].map(tableOf)
  const before = await openPgSource(config())
  await before.prepare(tables)
  const known = await before.listTables(tables)
  await before.close()
  await client.query('BEGIN; TRUNCATE a; TRUNCATE p')
  const source = await openPgSource(config({ connection: `${database.connectionString}?options=-c%20lock_timeout%3D100ms` }))
  try {
    await source.prepare(tables)
    expect(await source.listTables(tables)).toEqual(known)
  } finally {
    await client.query('ROLLBACK')
    await source.uninstall()
    await source.close()
  }
})

test('a table that is made anew is noticed though all were prepared again before anybody looked', async () => {
  const { client } = database
  await client.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)')
  const source = await openPgSource(config())
  const tables = ['public.a', 'public.b'].map(tableOf)
  await source.prepare(tables)
  await client.query('DROP TABLE b; CREATE TABLE b (id int PRIMARY KEY, more text)')
  await source.prepare(tables)
  const anew = [{ kind: 'changed', table: tables[1], reason: 'the table was made anew' }]
  expect(await source.publicationChanges()).toEqual(anew)
  expect(await source.publicationChanges()).toEqual(anew)
  const listing = await listingOf(source, tables[1])
  if (!listing.mirrorable) throw new Error(listing.reason)
  const copy = await source.copy([listing], new AbortController().signal)
  await copy.close()
  expect(await source.publicationChanges()).toEqual([])
  await source.close()
})

test.each(['FOR TABLE a (id, n) WHERE (id > 0), p', 'FOR ALL TABLES', 'FOR TABLES IN SCHEMA public'])(
  'what a given publication publishes %s is told without the lock of its tables',
  async (what) => {
    const { client } = database
    const { rows: servers } = await client.query<{ major: number }>(`SELECT current_setting('server_version_num')::int / 10000 AS major`)
    if (servers[0].major < 15 && what !== 'FOR ALL TABLES') return
    await client.query(`CREATE TABLE a (id int PRIMARY KEY, n int, left_out int); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); CREATE PUBLICATION given ${what} WITH (publish_via_partition_root = true)`)
    const source = await openPgSource(
      config({ publication: 'given', connection: `${database.connectionString}?options=-c%20lock_timeout%3D100ms` }),
    )
    const tables = ['public.a', 'public.p'].map(tableOf)
    try {
      await source.prepare(tables)
      const known = await source.listTables(tables)
      const snapshot = await source.snapshot()
      expect(await source.rowFilter(tables[0], snapshot)).toBe(what.includes('WHERE') ? '(id > 0)' : null)
      await snapshot.close()
      const notes = what.includes('WHERE') ? ['rows are filtered by the publication: only those with (id > 0)'] : []
      expect(
        (await source.listTables()).flatMap((listing) => (listing.mirrorable && listing.table.name === 'a' ? listing.notes : [])),
      ).toEqual(expect.arrayContaining(notes))
      await client.query('ALTER TABLE a RENAME n TO m; ALTER TABLE a ADD later int')
      await client.query('BEGIN; LOCK TABLE a, p')
      expect((await source.listTables(tables)).map(({ mirrorable }) => mirrorable)).toEqual(known.map(({ mirrorable }) => mirrorable))
      expect((await source.listTables()).map(({ mirrorable }) => mirrorable)).toContain(true)
      expect(await source.publicationChanges()).toEqual([])
      await source.prepare(tables)
      const other = await openPgSource(
        config({ publication: 'given', connection: `${database.connectionString}?options=-c%20lock_timeout%3D100ms` }),
      )
      await other.prepare(tables)
      await other.close()
    } finally {
      await client.query('ROLLBACK')
      await client.query('DROP PUBLICATION given')
      await source.uninstall()
      await source.close()
    }
  },
)

test('a filter that is changed while a copy or a comparison opens its snapshot is not taken for the one that the stream has', async (context) => {
  if (postgres.major < 15) return context.skip()
  const { client, connectionString } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 20); CREATE TABLE other (id int);
    CREATE PUBLICATION given FOR TABLE a WHERE (id > 10)`)
  const table = tableOf('public.a')
  const source = await openPgSource(config({ publication: 'given' }))
  const writer = new pg.Client(connectionString)
  await writer.connect()
  try {
    await source.prepare([table])
    const listing = await listingOf(source, table)
    if (!listing.mirrorable) throw new Error(listing.reason)
    const refused = {
      kind: 'retry',
      code: 'PG_PUBLICATION_CHANGED',
      message: expect.stringContaining('public.a') as string,
      context: { table: 'public.a' },
    }
    await writer.query('BEGIN; INSERT INTO other VALUES (1)')
    const copying = source.copy([listing], new AbortController().signal).catch((error: unknown) => error)
    // What the table is like was read before; its rows are read in a snapshot that waits for the writer.
    const waiting = `SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'`
    await expect.poll(async () => (await client.query<{ n: number }>(waiting)).rows[0].n).toBe(1)
    await client.query('ALTER PUBLICATION given SET TABLE a WHERE (id > 15)')
    await writer.query('COMMIT')
    expect(await copying).toMatchObject(refused)

    const snapshot = await source.snapshot()
    await expect(source.rowFilter(table, snapshot)).rejects.toMatchObject(refused)
    await snapshot.close()
    expect(await source.publicationChanges()).toMatchObject([{ kind: 'changed', table }])

    await source.prepare([table])
    const copy = await source.copy([listing], new AbortController().signal)
    let rows = 0
    await copy.read(table, async (batch) => void (rows += batch.length))
    await copy.close()
    expect(rows).toBe(5)
    const later = await source.snapshot()
    expect(await source.rowFilter(table, later)).toBe('(id > 15)')
    await later.close()
  } finally {
    await writer.end()
    await source.close()
  }
})

test('a table that somebody locks is dropped from the publication later, and is not waited for long where it is to be added', async () => {
  const { client } = database
  await client.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)')
  const source = await openPgSource(config({ connection: `${database.connectionString}?options=-c%20lock_timeout%3D30s` }))
  const published = async () => {
    const { rows } = await client.query<{ name: string }>(`SELECT tablename AS name FROM pg_publication_tables ORDER BY 1`)
    return rows.map(({ name }) => name)
  }
  try {
    await source.prepare([tableOf('public.a'), tableOf('public.b')])
    await client.query('BEGIN; LOCK TABLE b, c')
    await source.prepare([tableOf('public.a')], 1)
    await expect(source.prepare([tableOf('public.a'), tableOf('public.c')], 1)).rejects.toMatchObject({
      code: 'PG_LOCK_TIMEOUT',
      kind: 'retry',
    })
    await client.query('ROLLBACK')
    expect(await published()).toEqual(['a', 'b'])
    await source.prepare([tableOf('public.a'), tableOf('public.c')], 1)
    expect(await published()).toEqual(['a', 'c'])
  } finally {
    await client.query('ROLLBACK')
    await source.uninstall()
    await source.close()
  }
})

test('what a given publication does not publish is refused with the statement that adds it; it is never changed, nor dropped', async () => {
  const { client } = database
  await client.query(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE PUBLICATION given FOR TABLE a, b`)
  const more = { publication: 'given' }
  const source = await openPgSource(config(more))
  await source.prepare([tableOf('public.a')])
  await client.query('CREATE TABLE c (id int PRIMARY KEY)')
  expect(await listingOf(source, tableOf('public.c'))).toMatchObject({
    code: 'TABLE_UNPUBLISHED',
    reason: expect.stringContaining('ALTER PUBLICATION "given" ADD TABLE ONLY "public"."c"') as string,
  })
  await client.query('CREATE TABLE keyless (id int)')
  expect(await listingOf(source, tableOf('public.keyless'))).toMatchObject({
    code: 'TABLE_UNPUBLISHED',
    reason: expect.stringMatching(
      /owner give it a primary key or REPLICA IDENTITY FULL first, since .*; then run: ALTER PUBLICATION/,
    ) as string,
  })
  expect(await source.uninstall()).toEqual({ slot: source.slotName, publications: [], keptPublications: ['given'] })
  await source.close()
  const { rows } = await client.query(`SELECT tablename FROM pg_publication_tables WHERE pubname = 'given' ORDER BY 1`)
  expect(rows).toEqual([{ tablename: 'a' }, { tablename: 'b' }])
})

test.each([
  ['all tables', 'FOR ALL TABLES', 14],
  ['tables in a schema', 'FOR TABLES IN SCHEMA public', 15],
])('a publication for %s is followed as it is, tables that came later too', async (_, of, since) => {
  if (postgres.major < since) return
  await database.client
    .query(`CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'x'); CREATE UNLOGGED TABLE u (id int PRIMARY KEY);
    CREATE TABLE child (w int) INHERITS (a); ALTER TABLE child ADD PRIMARY KEY (id); INSERT INTO child VALUES (2, 'y', 3); CREATE PUBLICATION given ${of}`)
  const more = { publication: 'given' }
  await mirrors('public.a', '(SELECT * FROM ONLY a)', [`INSERT INTO child VALUES (4, 'z', 3)`, `UPDATE a SET v = 'q'`], more)
  await database.client.query('CREATE TABLE later (id int PRIMARY KEY)')
  await mirrors('public.later', 'later', ['INSERT INTO later VALUES (1)'], more)
  await mirrors('public.child', 'child', ['DELETE FROM a WHERE id = 4'], more)
})

test('a given publication of inserts makes its tables append-only, and one that leaves out some changes is refused', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE log (line int); INSERT INTO log VALUES (1); CREATE PUBLICATION given FOR TABLE log WITH (publish = 'insert, truncate')`,
  )
  const more = { publication: 'given' }
  const listing = await refusal('public.log', more)
  expect(listing).toMatchObject({ mirrorable: true, appendOnly: true, notes: [expect.stringContaining('append-only')] })
  await mirrors('public.log', 'log', ['INSERT INTO log VALUES (2)', 'TRUNCATE log', 'INSERT INTO log VALUES (3)'], more)
  await client.query(`ALTER PUBLICATION given SET (publish = 'insert')`)
  await expect(openPgSource(config(more))).rejects.toMatchObject({
    code: 'PG_PUBLICATION_OPERATIONS',
    message: expect.stringContaining(`SET (publish = 'insert, update, delete, truncate'), or 'insert, truncate' where`) as string,
  })
  await client.query(`ALTER PUBLICATION given SET (publish = 'insert, update, truncate')`)
  await expect(openPgSource(config(more))).rejects.toMatchObject({
    code: 'PG_PUBLICATION_OPERATIONS',
    message: expect.stringContaining('delete') as string,
  })
  await client.query(`ALTER PUBLICATION given SET (publish = 'insert, update, delete, truncate'); ALTER TABLE log REPLICA IDENTITY FULL`)
  expect(await refusal('public.log', { ...more, appendOnly: ['public.log'] })).toMatchObject({ code: 'PG_PUBLICATION_OPERATIONS' })
})
