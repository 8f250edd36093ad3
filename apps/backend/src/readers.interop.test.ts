import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { python, read } from './testing/readers.ts'

/**
 * Readers that we did not write agree with Postgres: a table of every supported type, over 100,000 rows, several flushes, updates
 * and deletes on the same files again and again. Then Spark works on the table of a mirror that has stopped for good.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-readers-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const definition = `CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE everything (
  id bigint PRIMARY KEY, b boolean, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n9 numeric(9,2), n18 numeric(18,6), n38 numeric(38,10),
  t text, vc varchar(40), bp char(6), ch "char", nm name, by bytea, d date, tm time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, o oid,
  m mood, ai int4[], at text[], an numeric(12,3)[], au uuid[], atz timestamptz[], am mood[]
)`
const row = `i, i % 2 = 0, (i % 30000)::int2, (i * 7)::int4, i * 1000003, (i / 3.0)::float4, i / 7.0, (i % 1000000) / 100.0, i * 1.234567 % 100000,
  i * 12345678901234567.0123456789 % 1e27, 'text ' || i || E' na\\u00efve \\U0001F600', 'v' || i, 'b' || i % 99, chr((65 + i % 26)::int)::"char", 'name' || i,
  decode(md5(i::text), 'hex'), date '1969-12-01' + (i % 40000)::int, time '00:00' + i * interval '1.5 second', timestamp '2020-01-01' + i * interval '1 second 1 microsecond',
  timestamptz '2020-01-01+00' + i * interval '61 second', md5(i::text)::uuid, json_build_object('i', i), jsonb_build_object('i', i, 'a', array[1, 2]), (i * 5)::oid,
  (array['sad', 'ok', 'happy'])[1 + i % 3]::mood, array[i::int, NULL, 3], array['x' || i, 'a "quoted", one', NULL], array[i / 8.0]::numeric(12,3)[],
  array[md5(i::text)::uuid], array[timestamptz '2021-01-01+00' + i * interval '1 hour'], array['ok', NULL]::mood[]`
const nulls = `id${', NULL'.repeat(30)}`

test('Spark, PyIceberg and DuckDB give the checksum that Postgres gives', { timeout: 900_000 }, async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(definition)
  await client.query(`INSERT INTO everything SELECT ${row} FROM generate_series(1::bigint, 60000) i`)
  const stateDir = join(directory, 'state')
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', stateDir], {
    MOONLINK_COMPACTION_ENABLED: 'false',
  })
  try {
    await client.query(`INSERT INTO everything SELECT ${row} FROM generate_series(60001::bigint, 105000) i`)
    await client.query(`INSERT INTO everything SELECT ${nulls.replace('id', 'i')} FROM generate_series(105001::bigint, 105100) i`)
    await backend.wait({ iceberg: true })
    for (let round = 0; round < 4; round++) {
      await client.query(`UPDATE everything SET i4 = i4 + 1, t = t || '!' WHERE id % 10 = ${round}`)
      await client.query(`DELETE FROM everything WHERE id % 97 = ${round}`)
      await backend.wait({ iceberg: true })
    }
    await client.query(`UPDATE everything SET id = -id WHERE id % 1000 = 5`)
    await backend.wait({ iceberg: true })
    const report = await backend.table('public.everything')
    expect(report.deletionVectors).toBeGreaterThan(1)

    const metadata = report.metadataLocation
    const source = await read('pg_read', ['--dsn', connectionString, '--schema-from', metadata, 'public.everything'])
    expect(source.unrepresentable).toEqual({})
    expect(source.row_count).toBeGreaterThan(100_000)
    const expected = { row_count: source.row_count, checksum: source.checksum }
    expect(await read('pyiceberg_read', ['--metadata', metadata])).toMatchObject(expected)
    expect(await read('duckdb_read', ['--metadata', metadata])).toMatchObject(expected)
    expect(await read('spark_read', ['--metadata', metadata])).toMatchObject(expected)
    expect(await backend.query('SELECT count(*) FROM public.everything')).toEqual([[source.row_count]])
  } finally {
    await backend.stop()
  }
  await client.query('DROP TABLE everything')
  await sparkTakesOver(join(stateDir, 'warehouse'))
})

/** Spark appends to, deletes from, compacts and expires the table; row ids are unique and none is missing. */
async function sparkTakesOver(warehouse: string): Promise<void> {
  const program = `
import argparse, json, sys
from spark_common import session
s = session(argparse.Namespace(warehouse=${JSON.stringify(warehouse)}, uri=None, prop=[]))
t = 'ic.public.everything'
rows = lambda: s.sql(f'SELECT count(*), count(DISTINCT _row_id), count(_row_id), count(_last_updated_sequence_number) FROM {t}').collect()[0]
before = rows()
s.sql(f"INSERT INTO {t} (id, t) VALUES (9000001, 'from Spark'), (9000002, 'from Spark')")
s.sql(f'DELETE FROM {t} WHERE id % 50 = 11')
s.sql(f"UPDATE {t} SET t = 'changed by Spark' WHERE id = 9000002")
middle = rows()
s.sql(f"CALL ic.system.rewrite_data_files(table => 'public.everything', options => map('rewrite-all', 'true'))")
s.sql(f"CALL ic.system.rewrite_manifests(table => 'public.everything')")
s.sql(f"CALL ic.system.expire_snapshots(table => 'public.everything', older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)")
after = rows()
print('RESULT ' + json.dumps([list(before), list(middle), list(after)]))
s.stop()
`
  const output = await python('venv-spark', ['-c', program])
  const [before, middle, after] = JSON.parse(/RESULT (.*)/.exec(output)![1]) as number[][]
  for (const [rows, ...lineage] of [before, middle, after]) expect(lineage).toEqual([rows, rows, rows])
  expect(after).toEqual(middle)
  expect(middle[0]).toBeLessThan(before[0])
}
