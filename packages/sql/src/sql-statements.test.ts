import type { MoonlinkError } from '@moonlink/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import { closeReleased, fields, numbered, people } from './testing/people.ts'

let fixture: Fixture
beforeEach(async () => {
  fixture = await Fixture.open()
})
afterEach(() => closeReleased(fixture))

async function failure(sql: string, request = {}): Promise<MoonlinkError> {
  return fixture.rows(sql, request).then(
    () => expect.fail(`"${sql}" did not fail`),
    (error: unknown) => error as MoonlinkError,
  )
}

describe('names', () => {
  beforeEach(() => {
    for (const name of ['public.people', 'sales.people', 'sales.orders', 'Mixed.Case', 'main.people', 'temp.things']) {
      const [schema, table] = name.split('.') as [string, string]
      fixture.table({ schema, name: table }, fields, name.replace('.', '-')).insert(numbered(0, name.length))
    }
  })

  test('are schema.table, or a table alone where that is clear', async () => {
    for (const [sql, count] of [
      ['SELECT count(*) FROM sales.people', 12],
      ['SELECT count(*) FROM people', 13],
      ['SELECT count(*) FROM main.people', 11],
      ['SELECT count(*) FROM orders', 12],
      ['SELECT count(*) FROM "Mixed"."Case"', 10],
      ['SELECT count(*) FROM mixed.case_ c', null],
      ['SELECT count(*) FROM MIXED."case"', 10],
      ['SELECT count(*) FROM things', 11],
      ['WITH people AS (SELECT 1) SELECT count(*) FROM people', 1],
      ['WITH people AS (SELECT * FROM people WHERE id < 5) SELECT count(*) FROM people', 5],
      ['WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT count(*) FROM n', 9],
      ['SELECT count(*) FROM people p WHERE EXISTS (SELECT 1 FROM sales.orders o WHERE o.id = p.id)', 12],
      ['FROM people SELECT count(*)', 13],
    ] as const) {
      if (count === null) expect((await failure(sql)).code).toBe('TABLE_UNKNOWN')
      else expect(await fixture.rows(sql), sql).toEqual([[count]])
    }
  })

  test('of a schema that DuckDB has a database for are asked for without it', async () => {
    const error = await failure('SELECT * FROM temp.things')
    expect([error.code, error.message]).toEqual([
      'SCHEMA_RESERVED',
      'SQL takes "temp" for a database of its own. Write things without its schema.',
    ])
  })

  test('that nobody has are answered with those there are', async () => {
    const error = await failure('SELECT * FROM sales.customers')
    expect([error.kind, error.code]).toEqual(['invalid', 'TABLE_UNKNOWN'])
    expect(error.message).toBe(
      'no table "sales.customers". There are Mixed.Case, main.people, public.people, sales.orders, sales.people, temp.things.',
    )
  })

  test('are listed by SHOW TABLES and described by DESCRIBE', async () => {
    expect((await fixture.rows('show tables')).map(([name]) => name)).toEqual(fixture.leases.readableTables().toSorted())
    expect((await fixture.rows('DESCRIBE sales.orders')).map(([name, type]) => [name, type])).toEqual([
      ['id', 'BIGINT'],
      ['note', 'VARCHAR'],
    ])
    expect(await fixture.rows('SUMMARIZE people')).toHaveLength(2)
  })
})

describe('refusals', () => {
  beforeEach(async () => {
    const table = fixture.table(people, fields)
    await table.addFile(numbered(0, 10))
    table.insert(numbered(10, 20))
    table.remove(([id]) => id === 15n)
    expect(await fixture.rows('SELECT count(*) FROM people')).toEqual([[19]])
  })

  test.each([
    'INSERT INTO people VALUES (1, NULL)',
    'DELETE FROM people',
    'UPDATE people SET id = 1',
    'CREATE TABLE x (i INTEGER)',
    'CREATE VIEW x AS SELECT 1',
    'DROP VIEW people',
    `COPY people TO '/tmp/x.parquet'`,
    `COPY (SELECT 1) TO '/tmp/x.csv'`,
    `ATTACH '/tmp/x.db'`,
    'DETACH memory',
    'INSTALL httpfs',
    'LOAD httpfs',
    'SET threads = 1',
    'SET VARIABLE rows_t1 = 0',
    'RESET VARIABLE rows_t1',
    'PRAGMA disable_optimizer',
    'CALL force_checkpoint()',
    'CHECKPOINT',
    'USE memory',
    'BEGIN',
    "EXPORT DATABASE '/tmp/x'",
    'PREPARE x AS SELECT 1',
    'SELECT 1; SELECT 2',
    'SELECT 1; DROP TABLE t1',
    'EXPLAIN DELETE FROM people',
    'EXPLAIN ANALYZE INSERT INTO t1 VALUES (1, 2)',
    'EXPLAIN (FORMAT json) SELECT 1; DROP TABLE t1',
    '',
    '-- nothing',
    `SELECT * FROM read_csv('/etc/passwd')`,
    `SELECT * FROM read_text('/etc/passwd')`,
    `SELECT * FROM read_parquet('/etc/passwd')`,
    `SELECT (SELECT content FROM read_text('/etc/passwd'))`,
    `WITH x AS (SELECT * FROM read_blob('/etc/passwd')) SELECT * FROM x`,
    `SELECT * FROM glob('/etc/*')`,
    `SELECT * FROM query('DROP TABLE t1')`,
    `SELECT * FROM query_table('t1')`,
    `SELECT * FROM json_execute_serialized_sql('{}')`,
    `SELECT * FROM duckdb_tables()`,
    `SELECT * FROM "$native".main.t1`,
    `SELECT nextval('x')`,
    `SELECT write_log('x')`,
    `SHOW DATABASES`,
    `SHOW VARIABLES`,
    `SELECT * FROM (SHOW TABLES)`,
  ])('%s', async (sql) => {
    const error = await failure(sql)
    expect([error.kind, error.code]).toEqual(['invalid', 'SQL_NOT_ALLOWED'])
    expect(await fixture.rows('SELECT count(*), sum(id) FROM people')).toEqual([[19, 175]])
  })

  test.each([
    `SELECT * FROM '/etc/passwd'`,
    `SELECT * FROM '/etc/hosts.csv'`,
    `SELECT * FROM t1`,
    `SELECT * FROM main.t1`,
    `SELECT * FROM "$native".t1`,
    `SELECT * FROM information_schema.tables`,
    `SELECT * FROM pg_catalog.pg_class`,
    `SELECT * FROM duckdb_tables`,
    `SELECT * FROM sqlite_master`,
    `DESCRIBE t1`,
  ])('%s', async (sql) => {
    expect((await failure(sql)).code).toBe('TABLE_UNKNOWN')
  })

  test('of wrong SQL carry what DuckDB says', async () => {
    const syntax = await failure('SELEC 1')
    expect([syntax.kind, syntax.code, syntax.message]).toEqual(['invalid', 'SQL_ERROR', 'Parser Error: syntax error at or near "SELEC"'])
    const column = await failure('SELECT idd FROM people')
    expect([column.kind, column.code]).toEqual(['invalid', 'SQL_ERROR'])
    expect(column.message).toMatch(/^Binder Error: Referenced column "idd" not found in FROM clause! Candidate bindings: "id"/)
    expect(column.context.detail).toMatch(/LINE 1: SELECT idd FROM people/)
    const value = await failure(`SELECT note::INTEGER FROM people`)
    expect([value.code, value.message]).toEqual([
      'SQL_ERROR',
      expect.stringMatching(/^Conversion Error: Could not convert string 'note of row \d+' to INT32/),
    ])
    expect((await failure('SELECT $1')).code).toBe('SQL_ERROR')
    expect((await failure(`SELECT error('stop')`)).message).toBe('Invalid Input Error: stop')
  })

  test('of DuckDB itself: files outside the allowed directories, settings', async () => {
    await expect(fixture.engine['instance'].connect().then((c) => c.run(`SELECT * FROM read_csv('/etc/passwd')`))).rejects.toThrow(
      /Permission Error/,
    )
    await expect(fixture.engine['instance'].connect().then((c) => c.run('SET threads = 1'))).rejects.toThrow(/locked/)
    await expect(fixture.engine['instance'].connect().then((c) => c.run(`COPY (SELECT 1) TO '/tmp/moonlink-x.csv'`))).rejects.toThrow(
      /Permission Error/,
    )
  })

  test('of a result whose engine was closed', async () => {
    const other = await Fixture.open()
    const table = other.table(people, fields)
    table.insert(numbered(0, 20_000))
    const result = await other.engine.query({ sql: 'SELECT a.id FROM people a, people b', lsn: null, timeoutMs: 0 })
    const rows = result.rows()
    expect((await rows.next()).done).toBe(false)
    await other.close()
    await expect(rows.next()).rejects.toMatchObject({ code: 'SQL_CLOSED' })
    expect(other.leases.held).toBe(0)
  })

  test('after close', async () => {
    const other = await Fixture.open()
    await other.close()
    await expect(other.engine.query({ sql: 'SELECT 1', lsn: null, timeoutMs: 0 })).rejects.toMatchObject({ code: 'SQL_CLOSED' })
  })
})
