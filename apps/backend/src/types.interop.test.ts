import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { everyTypeColumns, everyTypeDepth, everyTypeRow, everyTypeSetup } from './testing/every-type.ts'
import { read } from './testing/readers.ts'

/** Every type of Postgres, as its default mapping holds it, by readers that we did not write. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-types-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** What the reference reader of Postgres cannot take as it is, as what it is stored as. */
const stored: Readonly<Record<string, (column: string) => string>> = {
  money: (column) => `${column}::numeric`,
  regclass: (column) => `${column}::oid`,
  regtype: (column) => `${column}::oid`,
  person: (c) =>
    `CASE WHEN ${c} IS DISTINCT FROM NULL THEN ROW((${c}).id, (${c}).home, (${c}).places, (${c}).span, (${c}).class::oid)::stored END`,
}
/** The reference reader takes an array within a domain for one array of more dimensions. */
const left = new Set(['grid[]'])

test('Spark, PyIceberg and DuckDB give the checksum that Postgres gives', { timeout: 600_000 }, async () => {
  const { client, connectionString } = await postgres.createDatabase()
  const rows = (from: number) => Array.from({ length: everyTypeDepth + 1 }, (_, round) => everyTypeRow(from + round, round)).join(', ')
  await client.query(everyTypeSetup)
  await client.query(`CREATE TYPE stored AS (id int, home place, places place[], span int4range, class oid)`)
  await client.query(
    `CREATE TABLE everything (id int PRIMARY KEY, ${everyTypeColumns.map(({ name, type }) => `${name} ${type}`).join(', ')})`,
  )
  await client.query(`INSERT INTO everything VALUES ${rows(0)}`)
  const shown = everyTypeColumns.map(({ name, type }) => `${stored[type]?.(name) ?? name} AS ${name}`)
  await client.query(`CREATE VIEW shown AS SELECT id, ${shown.join(', ')} FROM everything`)
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'state')])
  try {
    await client.query(`INSERT INTO everything VALUES ${rows(100)}`)
    await client.query(`UPDATE everything SET c0 = NOT c0 WHERE id % 3 = 0; DELETE FROM everything WHERE id = 101`)
    await backend.wait({ iceberg: true })
    const { metadataLocation } = await backend.table('public.everything')
    const columns = ['--columns', ['id', ...everyTypeColumns.flatMap(({ name, type }) => (left.has(type) ? [] : [name]))].join(',')]
    const source = await read('pg_read', ['--dsn', connectionString, '--schema-from', metadataLocation, ...columns, 'public.shown'])
    expect(source.unrepresentable).toEqual({})
    const expected = { row_count: source.row_count, checksum: source.checksum }
    for (const reader of ['pyiceberg_read', 'duckdb_read', 'spark_read'] as const) {
      expect.soft(await read(reader, ['--metadata', metadataLocation, ...columns]), reader).toMatchObject(expected)
    }
  } finally {
    await backend.stop()
  }
})
