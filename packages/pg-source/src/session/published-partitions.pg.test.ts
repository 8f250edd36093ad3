import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { beforeEach, expect, test } from 'vitest'
import type { DescribedTable } from './catalog.ts'
import { tableOf } from './harness.test.support.ts'
import { preparedChanges } from './publication-changes.ts'
import { publishedTables } from './publications.test.support.ts'
import { openPgSource } from './source.ts'
import { StreamedPartitions } from './streamed-partitions.ts'

const postgres = withPostgres()
let database: TestDatabase
beforeEach(async () => {
  database = await postgres.createDatabase()
})
const { config, mirrors, refusal } = publishedTables(() => database)

const partitioned = `
  CREATE TABLE events (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
  CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100);
  CREATE TABLE events_2 (v text, dropped int, at int NOT NULL, id int NOT NULL, PRIMARY KEY (id, at)); ALTER TABLE events_2 DROP COLUMN dropped;
  ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (100) TO (200);
  CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (200) TO (400) PARTITION BY LIST (id);
  CREATE TABLE events_3_a PARTITION OF events_3 FOR VALUES IN (1, 2, 3); CREATE TABLE events_3_b PARTITION OF events_3 DEFAULT;
  INSERT INTO events SELECT n, n % 400, repeat('v', 300) FROM generate_series(1, 1000) n`
const moves = [
  `INSERT INTO events VALUES (5001, 5, 'a'), (5001, 150, 'b'), (1, 205, 'c'), (5001, 305, 'd')`,
  `UPDATE events SET at = at + 100 WHERE at < 250`,
  `UPDATE events SET id = id + 10000 WHERE id < 300`,
  `UPDATE events SET v = 'w' WHERE id % 2 = 0`,
  `DELETE FROM events WHERE id % 5 = 0`,
  `CREATE TABLE events_4 PARTITION OF events FOR VALUES FROM (400) TO (500); INSERT INTO events VALUES (1, 401, 'late')`,
  `UPDATE events SET at = 450 WHERE at = 305`,
  `TRUNCATE events`,
  `INSERT INTO events VALUES (1, 1, 'again')`,
]

test('a partitioned table is one table, whatever its partitions are like, and rows move between them', async () => {
  await database.client.query(partitioned)
  await mirrors('public.events', 'events', moves)
  expect(await refusal('public.events_1')).toMatchObject({
    reason: expect.stringContaining('a partition of public.events. Mirror that') as string,
  })
  const source = await openPgSource(config())
  expect((await source.listTables()).map(({ table }) => table.name)).toEqual(['events'])
  await source.close()
})

test('who may read a partitioned table, and not its partitions, copies it all the same', async () => {
  await database.client.query(`${partitioned}; CREATE PUBLICATION given FOR TABLE events WITH (publish_via_partition_root = true);
    CREATE ROLE reader_${database.name} LOGIN REPLICATION PASSWORD 'secret'; GRANT SELECT ON events TO reader_${database.name}`)
  const url = new URL(database.connectionString)
  url.username = `reader_${database.name}`
  url.password = 'secret'
  await mirrors('public.events', 'events', moves.slice(0, 3), { publication: 'given', connection: url.href })
})

test('partitions that are published one by one are tables of their own', async () => {
  await database.client.query(`${partitioned}; CREATE PUBLICATION given FOR TABLE events`)
  const more = { publication: 'given' }
  await mirrors('public.events_2', 'events_2', moves.slice(0, 5), more)
  const root = await refusal('public.events', more)
  expect(root).toMatchObject({ code: 'TABLE_UNPUBLISHED', reason: expect.stringContaining('publish_via_partition_root = true') as string })
  const source = await openPgSource(config(more))
  const listed = (await source.listTables()).filter((listing) => listing.mirrorable).map(({ table }) => table.name)
  expect(listed).toEqual(['events_1', 'events_2', 'events_3_a', 'events_3_b'])
  await source.close()
})

test('partitions that name their rows otherwise than the table does, and those without changes in the log, are refused', async () => {
  const { client } = database
  await client.query(partitioned)
  await client.query('CREATE UNIQUE INDEX other ON events_1 (at, id); ALTER TABLE events_1 REPLICA IDENTITY USING INDEX other')
  expect(await refusal('public.events')).toMatchObject({ mirrorable: true })
  await client.query(
    'ALTER TABLE events_1 ALTER v SET NOT NULL; CREATE UNIQUE INDEX third ON events_1 (at, id, v); ALTER TABLE events_1 REPLICA IDENTITY USING INDEX third',
  )
  expect(await refusal('public.events')).toMatchObject({
    code: 'TABLE_NO_IDENTITY',
    reason: expect.stringContaining('ALTER TABLE "public"."events_1" REPLICA IDENTITY FULL') as string,
  })
  await client.query('ALTER TABLE events_1 REPLICA IDENTITY FULL')
  await mirrors('public.events', 'events', moves.slice(0, 5))
  await client.query('ALTER TABLE events REPLICA IDENTITY FULL')
  expect(await refusal('public.events')).toMatchObject({ code: 'TABLE_NO_IDENTITY' })
  await client.query('CREATE UNLOGGED TABLE fast PARTITION OF events FOR VALUES FROM (900) TO (901)')
  expect(await refusal('public.events')).toMatchObject({ reason: expect.stringContaining('SET LOGGED') as string })
})

test('a table that loses its key goes on, and one with a partition that names rows otherwise does not', async () => {
  const { client } = database
  await client.query(`CREATE TABLE a (id int NOT NULL, n int); CREATE UNIQUE INDEX a_id ON a (id); ALTER TABLE a REPLICA IDENTITY USING INDEX a_id;
    CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)`)
  const source = await openPgSource(config())
  try {
    await source.prepare(['public.a', 'public.p'].map(tableOf))
    await client.query('ALTER TABLE a DROP id')
    expect(await source.publicationChanges()).toEqual([])
    await client.query('ALTER TABLE p1 REPLICA IDENTITY NOTHING')
    expect(await source.publicationChanges()).toMatchObject([{ kind: 'refused', code: 'TABLE_NO_IDENTITY', table: { name: 'p' } }])
  } finally {
    await source.uninstall()
    await source.close()
  }
})

test('a partition that was detached, at whatever level, and attached again between two looks is noticed, whatever became of it', async () => {
  const { client } = database
  await client.query(partitioned)
  const source = await openPgSource(config())
  const noticed = async (sql: string, partition: string) => {
    await source.prepare([tableOf('public.events')])
    const [listing] = await source.listTables([tableOf('public.events')])
    if (!listing.mirrorable) throw new Error(listing.reason)
    await (await source.copy([listing], new AbortController().signal)).close()
    expect(await source.publicationChanges()).toEqual([])
    await client.query(sql)
    const changed = { kind: 'changed', reason: `partition public.${partition} was detached, and attached again` }
    expect(await source.publicationChanges(), sql).toMatchObject([changed])
    expect(await source.publicationChanges(), sql).toMatchObject([changed])
  }
  const away = (partition: string, bounds: string, then: string) =>
    `ALTER TABLE events DETACH PARTITION ${partition}; ${then}; ALTER TABLE events ATTACH PARTITION ${partition} FOR VALUES ${bounds}`
  const range = 'FROM (0) TO (100)'
  try {
    await noticed(away('events_1', range, `INSERT INTO events_1 VALUES (9001, 1, 'unseen')`), 'events_1')
    await noticed(away('events_1', range, `UPDATE events_1 SET v = 'unseen'`), 'events_1')
    await noticed(away('events_1', range, `DELETE FROM events_1 WHERE id = 9001`), 'events_1')
    // Neither the table's columns nor the partition's file are others now.
    await noticed(away('events_1', range, `ALTER TABLE events_1 DROP v; ALTER TABLE events_1 ADD v text DEFAULT 'unseen'`), 'events_1')
    await noticed(`BEGIN; ${away('events_1', range, 'SAVEPOINT s; DELETE FROM events_1; ROLLBACK TO s')}; COMMIT`, 'events_1')
    await noticed(away('events_3', 'FROM (200) TO (400)', `DELETE FROM events_3_b WHERE id = 201`), 'events_3_a')
    for (const statement of ['DETACH PARTITION events_1 CONCURRENTLY', `ATTACH PARTITION events_1 FOR VALUES ${range}`])
      await client.query(`ALTER TABLE events ${statement}`)
    expect(await source.publicationChanges()).toMatchObject([{ kind: 'changed' }])
  } finally {
    await source.uninstall()
    await source.close()
  }
})

test('a look at partitions takes nothing back of a table that is copied, or prepared no more, meanwhile', async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)`,
  )
  const source = await openPgSource(config())
  const { described, options } = await source['catalog'].describe([tableOf('public.p')])
  await client.query('CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (99)')
  const connection = source['connection']
  const streamed = {
    shapeOf: () => null,
    partitions: new StreamedPartitions(),
    currentLsn: () => source.currentLsn(),
    attachedWhileAway: () => [],
    attachmentsSeen: () => undefined,
  }
  const lookWhile = async (meanwhile: (baselines: Map<string, DescribedTable>) => void) => {
    const baselines = new Map([['public.p', described[0]]])
    // Whether a partition that came has rows is asked last.
    const asked = Object.assign(Object.create(connection) as typeof connection, {
      rows: connection.rows.bind(connection),
      exclusive: (use: Parameters<typeof connection.exclusive>[0]) => {
        meanwhile(baselines)
        return connection.exclusive(use)
      },
    })
    expect(await preparedChanges(asked, options, baselines, streamed)).toEqual([])
    return baselines.get('public.p')
  }
  expect((await lookWhile(() => {}))?.partitions).toHaveLength(2)
  const copied = { ...described[0], edition: 'of the copy' }
  expect(await lookWhile((baselines) => baselines.set('public.p', copied))).toBe(copied)
  expect(await lookWhile((baselines) => baselines.delete('public.p'))).toBeUndefined()
  await source.close()
})
