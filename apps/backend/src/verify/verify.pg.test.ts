import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { BackendProcess } from '../testing/backend-process.ts'
import { moonlink } from '../testing/command-line.ts'
import { verified } from '../testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-verify-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

let database: TestDatabase
let backend: BackendProcess

const everyType = `id bigint PRIMARY KEY, b boolean, i2 int2, i4 int4, f4 float4, f8 float8, n numeric(20, 4), ns numeric(3, 3), t text, v varchar(10), c char(8),
  nm name, ch "char", by bytea, d date, tm time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, o oid, m mood,
  ia int[], fa float8[], ta text[], tza timestamptz[], na numeric(8,2)[], ba bytea[]`
const values = `g, g % 2 = 0, g % 30000, -g, g / 3.0, CASE g % 7 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-0' ELSE g / 7.0 END, g / 9.0, (g - 1000) / 1002.0,
  'text ' || g || ' ä:-', 'v' || g, 'c' || g, 'n' || g, 'x', decode(md5(g::text), 'hex'), date '0044-03-15 BC' + g, time '00:00:00.000001' + g * interval '1 second',
  timestamp '1999-12-31 23:59:59.999999' + g * interval '1 day', timestamptz '1900-01-01 00:00:00.5+00' + g * interval '1 hour', md5(g::text)::uuid,
  '{"k": 1}', '{"b": [1, null]}', g, CASE WHEN g % 3 = 0 THEN 'sad' ELSE 'glad' END::mood,
  CASE WHEN g % 5 = 0 THEN NULL WHEN g % 5 = 1 THEN '{}' ELSE ARRAY[g, NULL, -g] END, ARRAY[g / 3.0, 'NaN'], ARRAY['a,b', '', NULL, '"'],
  ARRAY[timestamptz '2026-01-01 00:00:00.000001+00'], ARRAY[g / 4.0]::numeric(8,2)[], ARRAY['\\x00ff']::bytea[]`

beforeEach(async () => {
  database = await postgres.createDatabase()
  await database.client.query(`CREATE TYPE mood AS ENUM ('sad', 'glad')`)
  await database.client.query(`CREATE TABLE types (${everyType})`)
  await database.client.query(`INSERT INTO types SELECT ${values} FROM generate_series(1, 2000) g`)
  await database.client.query(`CREATE TABLE bag (n int, t text); ALTER TABLE bag REPLICA IDENTITY FULL`)
  await database.client.query(`INSERT INTO bag SELECT g % 10, 'row ' || g % 10 FROM generate_series(1, 200) g`)
})
afterEach(async () => {
  await backend?.stop('SIGKILL')
})

async function start(): Promise<void> {
  backend = await BackendProcess.start(['--source', database.connectionString, '--state-dir', join(directory, database.name)], {
    MOONLINK_FLUSH_INTERVAL_MS: '300',
    MOONLINK_VERIFY_SHARE: '0.2',
    MOONLINK_VERIFY_MIN_PAUSE_MS: '1000',
    // What these tests do to the publication would be noticed, and made good.
    MOONLINK_SOURCE_SLOT_CHECK_MS: '3600000',
  })
}

test('columns may have any name', async () => {
  await database.client
    .query(`CREATE TABLE named (moonlink_key int PRIMARY KEY, moonlink_row text, moonlink_0 int, bucket int, d int); INSERT INTO named VALUES (1, 'a', 2, 3, 4);
    CREATE TABLE loose (moonlink_row int, moonlink_key text, moonlink_1 int); ALTER TABLE loose REPLICA IDENTITY FULL; INSERT INTO loose VALUES (1, 'a', 2), (1, 'a', 2)`)
  await start()
  expect(await verified(backend.url, directory, 'public.named', 'public.loose')).toMatchObject({ status: 0 })
  await database.client.query(`ALTER PUBLICATION moonlink SET (publish = 'truncate')`)
  await database.client.query(`UPDATE named SET d = 5; DELETE FROM loose WHERE ctid = '(0,1)'`)
  await database.client.query(`ALTER PUBLICATION moonlink SET (publish = 'insert, update, delete, truncate')`)
  const { status, stdout } = await verified(backend.url, directory, 'public.named', 'public.loose')
  expect(status).toBe(1)
  expect(stdout).toMatch(/different: 1[^]*extra: /)
})

const verify = (...more: string[]) => moonlink(['verify', ...more], { MOONLINK_URL: backend.url }, directory)

test('a mirror under load is equal at an exact LSN, for every type, and the status says so', async () => {
  await start()
  let loading = true
  const load = (async () => {
    for (let round = 1; loading; round++) {
      await database.client.query(`UPDATE types SET i4 = ${round}, f4 = random(), t = t || '.' WHERE id % 50 = ${round % 50}`)
      await database.client.query(`DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE n = ${round % 10} LIMIT 1)`)
      await database.client.query(`INSERT INTO bag VALUES (${round % 10}, 'row ${round % 10}')`)
    }
  })()
  try {
    for (let round = 0; round < 2; round++) {
      const result = await verify()
      expect(result.stdout, result.stderr).toMatch(
        /public\.bag: equal at [0-9A-F/]+, \d+ rows\npublic\.types: equal at [0-9A-F/]+, 2,000 rows\n/,
      )
      expect(result.status).toBe(0)
    }
  } finally {
    loading = false
    await load
  }
  expect(await backend.table('public.types')).toMatchObject({ verified: { result: 'equal' } })
})

test('a table of more than a thousand columns is compared', { timeout: 360_000 }, async () => {
  const columns = Array.from({ length: 1100 }, (_, index) => `c${index} int`)
  await database.client.query(
    `CREATE TABLE wide (id int PRIMARY KEY, ${columns.join()}); INSERT INTO wide (id, c0, c1099) SELECT g, g, -g FROM generate_series(1, 9) g`,
  )
  await start()
  expect(await verify('public.wide')).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^public\.wide: equal at .*, 9 rows/) as string,
  })
})

test('a table that takes no changes is no table that is equal', async () => {
  await start()
  await backend.wait({})
  await moonlink(['tables', 'pause', 'public.bag'], { MOONLINK_URL: backend.url }, directory)
  const result = await verify()
  expect(result.stdout).toMatch(/public\.bag: could not be compared: TABLE_NOT_STREAMING public\.bag .*paused/)
  expect(result.stdout).toMatch(/public\.types: equal/)
  expect(result).toMatchObject({ status: 1 })
  for (const table of ['public.bag', 'public.types']) await moonlink(['tables', 'drop', table], { MOONLINK_URL: backend.url }, directory)
  expect(await verify()).toMatchObject({ status: 0, stdout: expect.stringContaining('no table is mirrored') })
})

test('rows that differ are named, those that the mirror lacks or has too many, too', async () => {
  await start()
  await backend.wait({ iceberg: true })
  // Changes that the publication hides from the mirror, as damage would.
  await database.client.query(`ALTER PUBLICATION moonlink SET (publish = 'truncate')`)
  await database.client.query(`UPDATE types SET f8 = 'Infinity', ta = NULL WHERE id = 7`)
  await database.client.query(`UPDATE types SET tz = tz + interval '1 microsecond' WHERE id = 8`)
  await database.client.query(`DELETE FROM types WHERE id = 1900`)
  await database.client.query(`INSERT INTO types (id) VALUES (6000)`)
  await database.client.query(`INSERT INTO bag VALUES (3, 'row 3')`)
  await database.client.query(`ALTER PUBLICATION moonlink SET (publish = 'insert, update, delete, truncate')`)

  const result = await verify('public.types', 'public.bag', '--json')
  expect(result.status).toBe(1)
  expect(result.stderr).toContain('VERIFY_FAILED 2 of 2 tables differ')
  const [types, bag] = result.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { sourceRows: number; mirrorRows: number; differences: unknown[] })
  expect(types).toMatchObject({ table: 'public.types', result: 'different', sourceRows: 2000, mirrorRows: 2000 })
  expect(types.differences).toHaveLength(4)
  expect(types.differences).toEqual(
    expect.arrayContaining([
      { kind: 'different', key: ['7'] },
      { kind: 'different', key: ['8'] },
      { kind: 'extra', key: ['1900'] },
      { kind: 'missing', key: ['6000'] },
    ]),
  )
  expect(bag.differences).toEqual([{ kind: 'missing', key: ['3', 'row 3'] }])
  expect((await verify('public.types', '--repair')).status).toBe(1)
  const repaired = await verified(backend.url, directory, 'public.types')
  expect(repaired.stdout).toMatch(/public\.types: equal/)
  expect(repaired.status).toBe(0)
  expect((await verify('public.nothing')).stderr).toMatch(/TABLE_UNKNOWN public\.nothing is not mirrored/)
})
