import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { expectVerified } from './testing/verified.ts'

/** Columns of json and jsonb as Iceberg variants: the same values in memory, in files, after compaction and across changes of schema. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-variants-'))
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

const asVariants = { MOONLINK_SOURCE_TYPES: JSON.stringify({ jsonb: 'variant', json: 'variant' }) }

const expectEqual = (...tables: readonly string[]) => expectVerified(backend.url, directory, ...tables)

/** What SQL over the mirror shows is Postgres' own text of each value as jsonb. */
async function expectShown(): Promise<void> {
  await backend.wait()
  const { rows } = await database.client.query<unknown[]>({
    text: `SELECT id, b::text, j::jsonb::text, ARRAY(SELECT e::text FROM unnest(bs) e), CASE WHEN h IS DISTINCT FROM NULL THEN json_build_object('n', (h).n, 'b', (h).b::text) END
      FROM docs ORDER BY id`,
    rowMode: 'array',
  })
  const expected = rows.map(([id, b, j, bs, h]) => [id, b, j, bs, h])
  // A count looks at the files themselves, and what is remembered of them is not taken for the copies'.
  expect(await backend.query(`SELECT count(*) FROM public.docs`)).toEqual([[expected.length]])
  const shown = await backend.query(`SELECT id, b, j, coalesce(bs, []), h FROM public.docs ORDER BY id`)
  expect(shown).toEqual(expected)
}

const big = `(SELECT jsonb_object_agg('key ' || g, jsonb_build_array(g, g / 4.0, md5(g::text), NULL, g % 2 = 0)) FROM generate_series(1, 800) g)`

test(
  'a variant is the same in memory, in files, after compaction and a restart, for SQL and for verify',
  { timeout: 180_000 },
  async () => {
    const { client } = database
    await client.query(`CREATE TYPE held AS (n int, b jsonb);
    CREATE TABLE docs (id int PRIMARY KEY, b jsonb, j json, bs jsonb[], h held, n int);
    ALTER TABLE docs ALTER b SET STORAGE EXTERNAL;
    INSERT INTO docs VALUES (1, '{"bb": 1.50, "a": [1e2, null, {"é": "\\n\\u0001"}], "": {}}', ' {"b":1 , "a":[]}', '{"1",NULL,"null"}', ROW(1, '{"x": 1}')),
      (2, 'null', 'null', '{}', NULL), (3, NULL, NULL, NULL, ROW(NULL, 'null')), (4, ${big}, '"text"', NULL, ROW(2, NULL)),
      (5, '12345678901234567890.5', '-0', '{"[]","{}"}', NULL)`)
    await start({ ...asVariants, MOONLINK_COMPACTION_MIN_FILES: '2' })
    await expectShown()
    for (let round = 0; round < 2; round++) {
      await client.query(`INSERT INTO docs SELECT id + 10, b, j, bs, h FROM docs WHERE id BETWEEN ${round * 10} AND ${round * 10 + 9};
      UPDATE docs SET n = ${round} WHERE id % 10 = 4; UPDATE docs SET b = b || '{"round": ${round}}' WHERE id = 1; DELETE FROM docs WHERE id = ${round * 10 + 5}`)
      await expectShown()
      await backend.wait({ iceberg: true })
      await expectShown()
    }
    await expect.poll(async () => (await backend.table('public.docs')).dataFiles).toBeLessThan(3)
    await expectShown()
    await expectEqual('public.docs')
    await backend.stop('SIGKILL')
    await start(asVariants)
    await client.query(`UPDATE docs SET n = -1; UPDATE docs SET j = '[2, {"c": 3}]' WHERE id = 2`)
    await expectShown()
    await expectEqual('public.docs')
  },
)

test('what a variant cannot hold stops the table, is null, or is text beside it', { timeout: 120_000 }, async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE strict (id int PRIMARY KEY, b jsonb); CREATE TABLE loose (id int PRIMARY KEY, nulled jsonb, beside json, several jsonb[])`,
  )
  await client.query(
    `INSERT INTO loose VALUES (1, '1e38', '{"a": 1, "a": 2}', '{"1e50","2"}'), (2, '{"x": 1.5}', '{"a": {"a": 1}}', '{"1"}'), (3, '[1e-39]', '"\\ud800"', NULL)`,
  )
  await start({
    ...asVariants,
    MOONLINK_SOURCE_COLUMNS: JSON.stringify({
      'public.loose': { nulled: { onUnfit: 'null' }, beside: { onUnfit: 'text' }, several: { onUnfit: 'null' } },
    }),
  })
  await client.query(
    `INSERT INTO loose VALUES (4, '{"deep": [[1e400]]}', '"\\u0000"', '{"1e-40"}'), (5, NULL, '"\\\\u0000 \\ud83d\\ude00"', '{}')`,
  )
  for (const iceberg of [false, true]) {
    await backend.wait({ iceberg })
    expect(await backend.query('SELECT * FROM public.loose ORDER BY id')).toEqual([
      [1, null, null, '{"a": 1, "a": 2}', [null, '2']],
      [2, '{"x": 1.5}', '{"a": {"a": 1}}', null, ['1']],
      [3, null, null, '"\\ud800"', null],
      [4, null, null, '"\\u0000"', [null]],
      [5, null, '"\\\\u0000 😀"', null, []],
    ])
    await expectEqual('public.loose')
  }
  const { unfit } = await backend.table('public.loose')
  expect(unfit).toContainEqual({ column: 'nulled', action: 'null', values: expect.any(Number) as number })
  await client.query(`INSERT INTO strict VALUES (1, '{"x": 1}'), (2, '{"x": 1e400}')`)
  await expect.poll(async () => (await backend.table('public.strict')).state).toBe('paused')
  const { reason } = await backend.table('public.strict')
  expect(reason).toContain('column "b" holds {"x": 1000')
  expect(reason).toContain('in the row with id=2, which a variant cannot hold: it has a number of more than 38 digits')
  expect(reason).toContain('onUnfit: text')
})

test('verify compares variants of a domain over json', async () => {
  await database.client.query(`CREATE DOMAIN written AS json; CREATE TABLE docs (id int PRIMARY KEY, doc written);
    INSERT INTO docs VALUES (1, '{"a": [1, {"b": 2}]}'), (2, '{"a": {"a": 1, "a": 2}}'), (3, NULL), (4, '"\\u0000"')`)
  await start({ MOONLINK_SOURCE_TYPES: JSON.stringify({ 'public.written': { as: 'variant', onUnfit: 'null' } }) })
  await backend.wait()
  expect(await backend.query('SELECT * FROM public.docs ORDER BY id')).toEqual([
    [1, '{"a": [1, {"b": 2}]}'],
    [2, null],
    [3, null],
    [4, null],
  ])
  await expectEqual('public.docs')
})

test('columns become variants and cease to be', { timeout: 120_000 }, async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE docs (id int PRIMARY KEY, b jsonb, j text, bs jsonb[], h jsonb); INSERT INTO docs VALUES (1, '{"a": 1}', '{"b": 2}')`,
  )
  await start(asVariants)
  await backend.wait({ iceberg: true })
  await client.query(
    `ALTER TABLE docs ALTER j TYPE json USING j::json, ALTER b TYPE text; INSERT INTO docs VALUES (2, 'no json', '[1 ,2]')`,
  )
  const show = async () => {
    await backend.wait()
    await expect.poll(async () => backend.table('public.docs')).toMatchObject({ state: 'streaming', reason: null })
    return backend.query('SELECT id, b, j FROM public.docs ORDER BY id')
  }
  await expect.poll(show).toEqual([
    [1, '{"a": 1}', '{"b": 2}'],
    [2, 'no json', '[1, 2]'],
  ])
  await client.query(`ALTER TABLE docs ADD extra jsonb; INSERT INTO docs (id, extra) VALUES (3, 'null')`)
  await backend.wait({ iceberg: true })
  expect(await backend.query('SELECT id, extra FROM public.docs ORDER BY id')).toEqual([
    [1, null],
    [2, null],
    [3, 'null'],
  ])
  await client.query(`ALTER TABLE docs ADD given jsonb DEFAULT '{"d": 1}'; ALTER TABLE docs RENAME j TO k; DELETE FROM docs WHERE id = 2`)
  await expect
    .poll(() => backend.query('SELECT id, k, given FROM public.docs ORDER BY id').catch(String))
    .toEqual([
      [1, '{"b": 2}', '{"d": 1}'],
      [3, null, '{"d": 1}'],
    ])
  await expectEqual('public.docs')
})

test('a rule that is changed, and changed back, is taken on at the next start', { timeout: 120_000 }, async () => {
  const { client } = database
  await client.query(
    `CREATE TABLE docs (id int PRIMARY KEY, b jsonb, n numeric); INSERT INTO docs VALUES (1, '{"a": 1.50}', 1.5), (2, 'null', 2)`,
  )
  const rules = { MOONLINK_SOURCE_TYPES: JSON.stringify({ jsonb: 'variant', numeric: 'decimal(38,2)' }) }
  const shown: unknown[] = []
  for (const env of [{}, rules, {}]) {
    await start(env)
    await client.query(`INSERT INTO docs SELECT max(id) + 1, '[]', 3 FROM docs`)
    await expect.poll(() => backend.table('public.docs')).toMatchObject({ state: 'streaming', reason: null })
    await backend.wait({ iceberg: true })
    shown.push(await backend.query('SELECT id, b, n FROM public.docs WHERE id < 3 ORDER BY id'))
    await expectEqual('public.docs')
    await backend.stop()
  }
  const of = (one: string, two: string) => [
    [1, '{"a": 1.50}', one],
    [2, 'null', two],
  ]
  expect(shown).toEqual([of('1.5', '2'), of('1.50', '2.00'), of('1.5', '2')])
})
