import { formatTableName, formatType } from '@moonlink/core'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { beforeEach, expect, test } from 'vitest'
import type { TableListing } from './catalog.ts'
import type { PgSourceConfig } from './config.ts'
import { tableOf } from './harness.test.support.ts'
import { openPgSource } from './source.ts'

const postgres = withPostgres()
let database: TestDatabase
let count = 0

beforeEach(async () => {
  database = await postgres.createDatabase()
  count++
})

async function list(config: Partial<PgSourceConfig> = {}, only?: string[]): Promise<Map<string, TableListing>> {
  const source = await openPgSource({ connection: database.connectionString, slot: `slot_${count}`, ...config })
  const listings = await source.listTables(only?.map(tableOf))
  await source.close()
  return new Map(listings.map((listing) => [formatTableName(listing.table), listing]))
}

function shape(listing: TableListing | undefined): unknown {
  if (!listing?.mirrorable) return listing?.code
  const fields = listing.schema.fields.map(
    (field) => `${field.id} ${field.name} ${formatType(field.type)}${field.required ? ' required' : ''}`,
  )
  return { fields, key: listing.schema.identifierFieldIds }
}

test('columns keep their attribute numbers, keys their order, and only what is never null is required', async () => {
  await database.client
    .query(`CREATE TABLE t (a int, gone int, b text, c numeric(10,2) NOT NULL, d timestamptz, tags text[], PRIMARY KEY (b, a));
    ALTER TABLE t DROP COLUMN gone`)
  expect(shape((await list()).get('public.t'))).toEqual({
    fields: ['1 a int required', '3 b string required', '4 c decimal(10, 2) required', '5 d timestamptz', '6 tags list<string>'],
    key: [3, 1],
  })
})

test('the replica identity decides the key', async () => {
  await database.client.query(`
    CREATE TABLE full_key (id int PRIMARY KEY, v int); ALTER TABLE full_key REPLICA IDENTITY FULL;
    CREATE TABLE full_bag (v int); ALTER TABLE full_bag REPLICA IDENTITY FULL;
    CREATE TABLE by_index (id int PRIMARY KEY, u int NOT NULL, v int); CREATE UNIQUE INDEX by_index_u ON by_index (u) INCLUDE (v);
    CREATE TABLE by_plain (id int PRIMARY KEY, u int NOT NULL UNIQUE); ALTER TABLE by_plain REPLICA IDENTITY USING INDEX by_plain_u_key;
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE keyless (v int)`)
  const tables = await list()
  const key = (name: string) => {
    const listing = tables.get(`public.${name}`)!
    return listing.mirrorable ? listing.schema.identifierFieldIds : listing.code
  }
  expect(['full_key', 'full_bag', 'by_index', 'by_plain', 'nothing', 'late', 'keyless'].map(key)).toEqual([
    [1],
    [],
    [1],
    [2],
    'TABLE_NO_IDENTITY',
    'TABLE_NO_IDENTITY',
    'TABLE_NO_IDENTITY',
  ])
  expect(tables.get('public.keyless')).toHaveProperty(
    'reason',
    expect.stringContaining('ALTER TABLE "public"."keyless" REPLICA IDENTITY FULL'),
  )
  expect((await list({ appendOnly: ['public.keyless'] })).get('public.keyless')).toMatchObject({ mirrorable: true, appendOnly: true })
})

test('what is no ordinary table is refused with the reason; views only where they are asked for', async () => {
  await database.client.query(`
    CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); CREATE TEMP TABLE scratch (id int PRIMARY KEY);
    CREATE VIEW seen AS SELECT 1 AS x; CREATE TYPE sides AS (a int, "A" int); CREATE TABLE intervals (id int PRIMARY KEY, span sides);
    CREATE TABLE empty (); ALTER TABLE empty REPLICA IDENTITY FULL`)
  const all = await list()
  expect([...all.keys()].sort()).toEqual(['public.empty', 'public.intervals', 'public.part', 'public.quick'])
  const reasons = [...all.values()].map((listing) => (listing.mirrorable ? 'fine' : listing.reason))
  for (const part of ['no column', '"span"', 'SET LOGGED']) expect(reasons.some((reason) => reason.includes(part))).toBe(true)
  const named = await list({}, ['public.seen', 'public.Intervals', 'nowhere.x'])
  expect(named.get('public.seen')).toMatchObject({ mirrorable: false, reason: 'public.seen is a view. Mirror the tables beneath it.' })
  expect(named.get('public.Intervals')).toMatchObject({
    code: 'TABLE_UNKNOWN',
    reason: expect.stringContaining('Similar: public.intervals') as string,
  })
  expect(named.get('nowhere.x')).toMatchObject({ code: 'TABLE_UNKNOWN' })
})

test('foreign tables and materialized views are refused with the reason, and so is a partitioned table with a foreign partition', async () => {
  await database.client.query(`CREATE FOREIGN DATA WRAPPER none; CREATE SERVER elsewhere FOREIGN DATA WRAPPER none;
    CREATE FOREIGN TABLE far (id int NOT NULL) SERVER elsewhere; CREATE MATERIALIZED VIEW kept AS SELECT 1 AS x;
    CREATE TABLE mixed (id int NOT NULL) PARTITION BY RANGE (id); ALTER TABLE mixed REPLICA IDENTITY FULL;
    CREATE FOREIGN TABLE far_part PARTITION OF mixed FOR VALUES FROM (0) TO (9) SERVER elsewhere`)
  const named = await list({}, ['public.far', 'public.kept', 'public.mixed'])
  const refused = (reason: string) => ({ mirrorable: false, reason: expect.stringContaining(reason) as string })
  expect(named.get('public.far')).toMatchObject(refused('foreign table'))
  expect(named.get('public.kept')).toMatchObject(refused('materialized view'))
  expect(named.get('public.mixed')).toMatchObject(refused('far_part'))
})

test('tables in schemas with a dot are mirrored, also those whose names would be alike without quotes', async () => {
  await database.client
    .query(`CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE TABLE a."b.c" (id int PRIMARY KEY); CREATE TABLE "a.b".c (id int PRIMARY KEY, v int);
    CREATE TABLE "a.b".alone (id int PRIMARY KEY)`)
  const source = await openPgSource({ connection: database.connectionString, slot: `slot_${count}` })
  const listings = await source.listTables()
  await source.close()
  const of = (schema: string, name: string) => listings.find(({ table }) => table.schema === schema && table.name === name)
  expect(of('a', 'b.c')).toMatchObject({ mirrorable: true })
  expect(of('a.b', 'c')).toMatchObject({ mirrorable: true })
  expect(of('a.b', 'alone')).toMatchObject({ mirrorable: true })
})

test('a deferrable primary key is refused for that, not as if it were none', async () => {
  await database.client.query(`CREATE TABLE late (id int PRIMARY KEY DEFERRABLE)`)
  expect((await list()).get('public.late')).toMatchObject({
    code: 'TABLE_NO_IDENTITY',
    reason: expect.stringContaining('deferrable') as string,
  })
})

test('columns whose names differ only in case are refused, and one of them can be left out', async () => {
  await database.client.query(`CREATE TABLE t (id int PRIMARY KEY, "Name" text, name text)`)
  expect((await list()).get('public.t')).toMatchObject({ reason: expect.stringContaining('"Name" and "name"') as string })
  expect((await list({ excludeColumns: { 'public.t': ['name'] } })).get('public.t')).toMatchObject({ mirrorable: true })
  await database.client.query(`CREATE TABLE r (id int PRIMARY KEY, _pos int)`)
  expect((await list()).get('public.r')).toMatchObject({ reason: expect.stringContaining('"_pos"') as string })
})

test('a composite type that another session alters holds up nobody who asks what its tables are like', async () => {
  const { client } = database
  await client.query(`CREATE TYPE pair AS (x int, y text); CREATE DOMAIN checked AS pair; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
    ALTER TABLE t ADD a pair DEFAULT ROW(1, 'a'), ADD b pair[] DEFAULT ARRAY[ROW(2, 'b')::pair], ADD c checked DEFAULT ROW(3, 'c'), ADD d int DEFAULT 4`)
  // Prints none of the values, as one that has printed them before needs no lock.
  await client.query('BEGIN; ALTER TYPE pair RENAME ATTRIBUTE x TO z')
  expect(await list({ statementTimeoutMs: 5000 })).toMatchObject(new Map([['public.t', { mirrorable: true }]]))
  await client.query('ROLLBACK')
})

test('columns are left out as configured', async () => {
  await database.client.query(`CREATE TABLE t (id int PRIMARY KEY, span interval, v text)`)
  expect(shape((await list({ columns: { 'public.t': { span: 'list' } } })).get('public.t'))).toBe('TABLE_UNSUPPORTED')
  const listing = (await list({ excludeColumns: { 'public.t': ['span'] } })).get('public.t')
  expect(shape(listing)).toEqual({ fields: ['1 id int required', '3 v string'], key: [1] })
  expect(listing).toHaveProperty('notes', [expect.stringContaining('"span"')])
  expect((await list({ excludeColumns: { 'public.t': ['spam'] } })).get('public.t')).toMatchObject({ code: 'COLUMN_UNKNOWN' })
  expect((await list({ excludeColumns: { 'public.t': ['id'] } })).get('public.t')).toMatchObject({ code: 'COLUMN_IN_KEY' })
})

test('the publication follows the tables, and stays the same publication', async () => {
  const { client } = database
  await client.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE log (line text)')
  const source = await openPgSource({ connection: database.connectionString, slot: `slot_${count}`, appendOnly: ['public.log'] })
  const published = async () =>
    (
      await client.query<{ name: string; tables: string[] }>(
        `SELECT p.pubname AS name, p.oid, array_agg(tablename::text ORDER BY tablename) FILTER (WHERE tablename IS NOT NULL) AS tables
       FROM pg_publication p LEFT JOIN pg_publication_tables t USING (pubname) GROUP BY 1, 2 ORDER BY 1`,
      )
    ).rows
  await source.prepare([tableOf('public.a'), tableOf('public.log')])
  const first = await published()
  expect(first).toMatchObject([
    { name: 'moonlink_pub', tables: ['a'] },
    { name: 'moonlink_pub_append', tables: ['log'] },
  ])
  await source.prepare([tableOf('public.b'), tableOf('public.log')])
  const second = await published()
  expect(second).toEqual([{ ...first[0], tables: ['b'] }, first[1]])
  await source.close()
})
