import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeDdlTriggers } from '@moonlink/pg-source'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { everyTypeColumns, everyTypeDepth, everyTypeRow, everyTypeSetup } from './testing/every-type.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-types-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess

beforeEach(async () => {
  database = await postgres.createDatabase()
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

async function start(env: Readonly<Record<string, string>> = {}): Promise<void> {
  const args = ['--source', database.connectionString, '--state-dir', join(directory, database.name)]
  backend = await BackendProcess.start(args, { MOONLINK_FLUSH_INTERVAL_MS: '60s', ...env })
}

const run = (...args: string[]) => moonlink(args, { MOONLINK_URL: backend.url }, directory)

const expectEqual = (...tables: readonly string[]) => expectVerified(backend.url, directory, ...tables)

const unfitOf = async (table: string) => (await backend.table(table)).unfit

test('every type: copied, streamed, committed and read back after a restart, as SQL shows it', async () => {
  const { client } = database
  await client.query(everyTypeSetup)
  const columns = everyTypeColumns.map(({ name, type }) => `${name} ${type}`).join(', ')
  await client.query(`CREATE TABLE everything (id int PRIMARY KEY, ${columns})`)
  const rows = (from: number) => Array.from({ length: everyTypeDepth + 1 }, (_, round) => everyTypeRow(from + round, round)).join(', ')
  await client.query(`INSERT INTO everything VALUES ${rows(0)}`)
  await start()
  await expectEqual('public.everything')

  await client.query(`INSERT INTO everything VALUES ${rows(100)}`)
  await client.query(`CREATE TABLE more (id int PRIMARY KEY, ${columns}); INSERT INTO more SELECT * FROM everything`)
  await client.query(`UPDATE everything SET c0 = NOT c0 WHERE id < 3; UPDATE everything SET id = id + 1000 WHERE id = 101`)
  await client.query(`DELETE FROM everything WHERE id = 3`)
  await backend.wait()
  await expectEqual('public.everything')
  expect(await run('tables', 'add', 'public.more')).toMatchObject({ status: 0 })

  // What is text in the mirror is what Postgres prints.
  await client.query(`SET timezone = UTC; SET extra_float_digits = 3`)
  const texts = everyTypeColumns.filter(({ type }) =>
    /range|interval|^inet|^cidr|mac|bit|tz$|ts|point|circle|path|numeric$|hstore|time$/.test(type),
  )
  const list = texts.map(({ name, type }) => ({ name, type })).filter(({ type }) => !/\[\]|timestamp/.test(type))
  expect(list.length).toBeGreaterThan(20)
  const { rows: printed } = await client.query<unknown[]>({
    text: `SELECT id, ${list.map(({ name }) => `CASE WHEN ${name} IS NOT NULL THEN format('%s', ${name}) END`).join(', ')} FROM everything ORDER BY id`,
    rowMode: 'array',
  })
  const select = `SELECT id, ${list.map(({ name }) => name).join(', ')} FROM public.everything ORDER BY id`
  expect(await backend.query(select)).toEqual(printed)

  await backend.wait({ iceberg: true })
  await expect.poll(() => backend.table('public.more')).toMatchObject({ state: 'streaming', reason: null })
  await expectEqual('public.everything', 'public.more')
  expect(await backend.query(select)).toEqual(printed)
  await backend.stop()
  await start()
  await client.query(`UPDATE everything SET c1 = 7; UPDATE more SET c1 = 8 WHERE id < 100`)
  await backend.wait()
  await expectEqual('public.everything', 'public.more')

  // Structs and lists as SQL shows them.
  const column = (type: string) => everyTypeColumns.find((each) => each.type === type)!.name
  const [[person, places, grid]] = await backend.query(
    `SELECT ${['person', 'place[]', 'int4[][]'].map(column).join(', ')} FROM public.everything WHERE id = 0`,
  )
  expect(person).toEqual({
    id: 1,
    home: { street: 'x', zip: '2.00', tags: [1], since: '2024-01-01' },
    places: [{ street: 'y', zip: '3.00', tags: [], since: '0044-03-15 BC' }, null],
    span: '[1,3)',
    class: 1259,
  })
  expect(places).toEqual([
    { street: 'a', zip: '1.00', tags: [1, 2], since: null },
    null,
    { street: null, zip: null, tags: null, since: null },
  ])
  expect(grid).toEqual([])
  expect(await backend.query(`SELECT ${column('person')}.home.zip + 1 FROM public.everything WHERE id = 0`)).toEqual([['3.00']])
})

const strange = `id int PRIMARY KEY, n numeric(10,2), ns numeric(10,2)[], d date, ts timestamp, tz timestamptz NOT NULL, a int[], part strange, note text`
const rows = `(1, 1.5, '{1,2}', '2024-01-01', '2024-01-01', '2024-01-01', '{1}', ROW('2024-01-01', '{1}'), 'fits'),
  (2, 'NaN', '{1,NaN,NULL}', 'infinity', '-infinity', 'infinity', '{{1}}', ROW('infinity', '{1}'), 'does not'),
  (3, NULL, NULL, NULL, '294276-12-31', '294276-12-31', '[0:1]={5,6}', ROW(NULL, '{{1}}'), 'neither')`

async function makeStrange(): Promise<void> {
  await database.client.query(
    `CREATE TYPE strange AS (since date, tags int[]); CREATE TABLE odd (${strange}); INSERT INTO odd VALUES ${rows}`,
  )
  await database.client.query(`CREATE TABLE bag (n numeric(5,2), t text); ALTER TABLE bag REPLICA IDENTITY FULL;
    INSERT INTO bag VALUES ('NaN', 'a'), ('NaN', 'a'), (1, 'a'), (NULL, 'a')`)
}

async function changeStrange(): Promise<void> {
  await database.client.query(`INSERT INTO odd SELECT id + 10, n, ns, d, ts, tz, a, part, note FROM odd`)
  await database.client.query(`UPDATE odd SET n = CASE WHEN n = 'NaN' THEN 2 ELSE 'NaN'::numeric END, note = 'changed' WHERE id < 10`)
  await database.client.query(`UPDATE odd SET id = 30 WHERE id = 12; DELETE FROM odd WHERE id = 13`)
  await database.client.query(
    `DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE n = 'NaN'); UPDATE bag SET n = 'NaN' WHERE n IS NULL`,
  )
}

test('values that do not fit leave their text beside them', async () => {
  await makeStrange()
  await start({ MOONLINK_SOURCE_ON_UNFIT: 'text' })
  await expectEqual('public.odd', 'public.bag')
  await changeStrange()
  await backend.wait()
  await expectEqual('public.odd', 'public.bag')
  await backend.wait({ iceberg: true })
  await expectEqual('public.odd', 'public.bag')
  const shown = await backend.query(
    `SELECT n, n_text, ns_text, d_text, ts_text, tz, tz_text, a, a_text, part_text FROM public.odd WHERE id IN (2, 3, 11) ORDER BY id`,
  )
  expect(shown).toEqual([
    ['2.00', null, '{1.00,NaN,NULL}', 'infinity', '-infinity', null, 'infinity', null, '{{1}}', '(infinity,{1})'],
    [null, 'NaN', null, null, '294276-12-31 00:00:00', null, '294276-12-31 00:00:00+00', null, '[0:1]={5,6}', '(,{{1}})'],
    ['1.50', null, null, null, null, '2024-01-01 00:00:00+00', null, [1], null, null],
  ])
  expect(await unfitOf('public.odd')).toContainEqual({ column: 'n', action: 'text', values: expect.any(Number) as number })
  const status = await run('status')
  expect(status.stdout).toMatch(/public\.odd: \d+ values of "tz" did not fit and are text in "tz_text"/)
})

test('values that do not fit become null, each part by itself, and are counted', async () => {
  await makeStrange()
  await start({
    MOONLINK_SOURCE_COLUMNS: JSON.stringify({ 'public.odd': { a: { lowerBounds: 'drop' } } }),
    MOONLINK_SOURCE_ON_UNFIT: 'null',
  })
  await expectEqual('public.odd', 'public.bag')
  await changeStrange()
  await backend.wait({ iceberg: true })
  await expectEqual('public.odd', 'public.bag')
  expect(await backend.query(`SELECT ns, d, tz, a, part FROM public.odd WHERE id IN (2, 3) ORDER BY id`)).toEqual([
    [['1.00', null, null], null, null, null, { since: null, tags: [1] }],
    [null, null, null, [5, 6], { since: null, tags: null }],
  ])
  expect(await unfitOf('public.odd')).toContainEqual({ column: 'ts', action: 'null', values: expect.any(Number) as number })
})

test('otherwise the table pauses and says which row and column it was; the others go on', async () => {
  const { client } = database
  await client.query(`CREATE TABLE a (id int, region text, d date, PRIMARY KEY (region, id)); CREATE TABLE b (id int PRIMARY KEY, d date)`)
  await client.query(`CREATE TABLE c (id int PRIMARY KEY, d date); INSERT INTO c VALUES (1, '2024-01-01'), (2, 'infinity')`)
  await start()
  expect(await backend.table('public.c')).toMatchObject({
    state: 'paused',
    reason: expect.stringContaining('public.c: column "d" holds infinity in the row with id=2, which date cannot hold') as string,
  })
  await client.query(`INSERT INTO a VALUES (1, 'eu', '2024-01-01'), (2, 'eu', '-infinity'); INSERT INTO b VALUES (1, '2024-01-01')`)
  await expect.poll(async () => (await backend.table('public.a')).state).toBe('paused')
  const { reason } = await backend.table('public.a')
  expect(reason).toContain('column "d" holds -infinity in the row with id=2, region=eu')
  expect(reason).toContain('source.columns: {public.a: {d: {onUnfit: text}}}')
  await backend.wait()
  expect(await backend.query('SELECT count(*) FROM public.b')).toEqual([[1]])
})

test('types that nothing here knows are read as text, and so is the stream', async () => {
  const { client } = database
  await client.query(`CREATE EXTENSION cube; CREATE TYPE holder AS (c cube, n int)`)
  await client.query(everyTypeSetup)
  // Without those whose text does not tell their value.
  const columns = everyTypeColumns.filter(({ type }) => !/reg|person/.test(type))
  await client.query(
    `CREATE TABLE everything (id int PRIMARY KEY, ${columns.map(({ name, type }) => `${name} ${type}`).join(', ')}, acl aclitem, own cube, held holder, many cube[])`,
  )
  const extra = `'=r/postgres', '(1,2),(3,4)', ROW('(1)', 5)::holder, array['(1)'::cube, NULL]`
  const shown = columns.map(({ name }) => name).join(', ')
  await client.query(
    `CREATE TEMP TABLE samples (id int PRIMARY KEY, ${everyTypeColumns.map(({ name, type }) => `${name} ${type}`).join(', ')})`,
  )
  await client.query(
    `INSERT INTO samples VALUES ${Array.from({ length: everyTypeDepth + 1 }, (_, round) => everyTypeRow(round, round)).join(', ')}`,
  )
  await client.query(`INSERT INTO everything SELECT id, ${shown}, ${extra} FROM samples`)
  await start()
  await expectEqual('public.everything')
  await client.query(
    `INSERT INTO everything SELECT id + 100, ${shown}, ${extra} FROM samples; UPDATE everything SET id = id + 1000 WHERE id = 0; UPDATE everything SET c0 = true WHERE id = 2`,
  )
  await backend.wait({ iceberg: true })
  await expectEqual('public.everything')
  expect(await backend.query('SELECT own, held, many, acl FROM public.everything WHERE id = 1')).toEqual([
    ['(1, 2),(3, 4)', { c: '(1)', n: 5 }, ['(1)', null], '=r/postgres'],
  ])
  await client.query('CREATE TABLE named (id int PRIMARY KEY, what regclass)')
  const refused = await run('tables', 'add', 'public.named')
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('public.named: column "what" has type regclass') as string })
  await client.query('INSERT INTO everything (id) VALUES (5000)')
  await backend.wait()
  expect(await backend.query('SELECT count(*) FROM public.everything WHERE id = 5000')).toEqual([[1]])
})

/** What a database or a role may have set, by which values are printed and read otherwise. */
const FOREIGN_SETTINGS = {
  datestyle: 'SQL, DMY',
  intervalstyle: 'iso_8601',
  bytea_output: 'escape',
  timezone: 'Asia/Kolkata',
  extra_float_digits: '-15',
  xmlbinary: 'hex',
  xmloption: 'document',
  array_nulls: 'off',
  standard_conforming_strings: 'off',
  transform_null_equals: 'on',
  client_encoding: 'LATIN1',
  quote_all_identifiers: 'on',
  default_transaction_isolation: 'serializable',
  default_transaction_read_only: 'on',
  search_path: 'nowhere',
  statement_timeout: '1ms',
}

test.each(['binary', 'text'])('what a database and a role have set for their sessions changes no value: a stream in %s', async (form) => {
  const { client } = database
  await client.query(everyTypeSetup)
  const isText = form === 'text'
  // Without those whose text does not tell their value.
  const types = everyTypeColumns.filter(({ type }) => !isText || !/reg|person/.test(type))
  const columns = types.map(({ name, type }) => `${name} ${type}`)
  await client.query(`CREATE TABLE everything (id int PRIMARY KEY, ${[...columns, ...(isText ? ['acl aclitem'] : [])].join(', ')});
    CREATE TABLE samples (id int PRIMARY KEY, ${everyTypeColumns.map(({ name, type }) => `${name} ${type}`).join(', ')});
    INSERT INTO samples VALUES ${Array.from({ length: everyTypeDepth + 1 }, (_, round) => everyTypeRow(round, round)).join(', ')}`)
  const names = types.map(({ name }) => name).join(', ')
  await client.query(`INSERT INTO everything (id, ${names}) SELECT id, ${names} FROM samples`)
  for (const [index, [name, value]] of Object.entries(FOREIGN_SETTINGS).entries()) {
    const whose = index % 2 === 0 ? `DATABASE ${database.name}` : `ROLE CURRENT_USER IN DATABASE ${database.name}`
    await client.query(`ALTER ${whose} SET ${name} = ${name === 'datestyle' ? value : `'${value}'`}`)
  }
  await start({ MOONLINK_SOURCE_TABLES: 'public.everything' })
  await client.query(`INSERT INTO everything (id, ${names}) SELECT id + 100, ${names} FROM samples`)
  await backend.wait({ iceberg: true })
  await expectEqual('public.everything')

  await client.query(`SET timezone = UTC; SET extra_float_digits = 3`)
  const printed = types.filter(
    ({ type }) =>
      /range|interval|^inet|mac|bit|^timetz|ts|point|circle|numeric$|hstore|^xml|^time$|grid/.test(type) && !/\[\]|timestamp/.test(type),
  )
  expect(printed.length).toBeGreaterThan(20)
  const shown = printed.map(({ name }) => `CASE WHEN ${name} IS NOT NULL THEN format('%s', ${name}) END`).join(', ')
  const { rows: expected } = await client.query<unknown[]>({ text: `SELECT id, ${shown} FROM everything ORDER BY id`, rowMode: 'array' })
  const select = `SELECT id, ${printed.map(({ name }) => name).join(', ')} FROM public.everything ORDER BY id`
  expect(await backend.query(select)).toEqual(expected)
})

test.each(['told', 'inferred'])('a composite that evolves within composites, arrays and domains: %s', async (way) => {
  const { client } = database
  await client.query(`CREATE TYPE part AS (n int, note text); CREATE DOMAIN parts AS part[]; CREATE DOMAIN one AS part;
    CREATE TYPE whole AS (first part, more part[], again parts); CREATE DOMAIN wholes AS whole[];
    CREATE TABLE nested (id int PRIMARY KEY, w whole, ws wholes, p one)`)
  if (way === 'told') await changeDdlTriggers(database.connectionString, 'install')
  const insert = async (id: number, part: string) => {
    const whole = `ROW(${part}, ARRAY[${part}, NULL]::part[], ARRAY[${part}]::parts)::whole`
    await client.query(`INSERT INTO nested VALUES (${id}, ${whole}, ARRAY[${whole}, NULL]::wholes, ${part}::one)`)
  }
  await insert(1, `ROW(1, 'a')::part`)
  await start()
  const changes: [sql: string, part: string][] = [
    [`ADD ATTRIBUTE price numeric(9,2)`, `ROW(2, 'b', 2.50)::part`],
    [`DROP ATTRIBUTE note`, `ROW(3, 3.50)::part`],
    [`RENAME ATTRIBUTE n TO number`, `ROW(4, 4.50)::part`],
    [`ADD ATTRIBUTE note date[]`, `ROW(5, 5.50, '{2024-01-01,NULL}')::part`],
  ]
  for (const [index, [sql, part]] of changes.entries()) {
    await client.query(`ALTER TYPE part ${sql}`)
    await insert(index + 2, part)
    await backend.wait({ iceberg: index % 2 === 0 })
    await expectEqual('public.nested')
  }
  await backend.wait({ iceberg: true })
  await expectEqual('public.nested')
  const part = { number: 5, price: '5.50', note: ['2024-01-01', null] }
  const whole = { first: part, more: [part, null], again: [part] }
  expect(await backend.query('SELECT w, ws, p FROM public.nested WHERE id = 5')).toEqual([[whole, [whole, null], part]])
  expect(await backend.query('SELECT p, w.more FROM public.nested WHERE id = 1')).toEqual([
    [{ number: 1, price: null, note: null }, [{ number: 1, price: null, note: null }, null]],
  ])
})
