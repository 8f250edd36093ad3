import { DuckDBInstance } from '@duckdb/node-api'
import { isMoonlinkError } from '@moonlink/core'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { resolveTable } from './resolve-table.ts'
import { StatementParser } from './statement.ts'

let instance: DuckDBInstance
let parser: StatementParser
beforeAll(async () => {
  instance = await DuckDBInstance.create(':memory:')
  parser = new StatementParser(await instance.connect())
})
afterAll(() => {
  parser.close()
  instance.closeSync()
})

async function tables(sql: string): Promise<string[]> {
  return (await parser.parse(sql)).tables.map(({ schema, name }) => (schema === null ? name : `${schema}.${name}`)).toSorted()
}

describe('StatementParser', () => {
  test.each([
    ['SELECT 1', []],
    ['VALUES (1), (2)', []],
    ['SELECT * FROM a', ['a']],
    ['SELECT * FROM a AS b, b AS c', ['a', 'b']],
    ['SELECT * FROM s.a JOIN "S"."A b" USING (id) ORDER BY 1 LIMIT 3', ['S.A b', 's.a']],
    ['SELECT * FROM a WHERE id IN (SELECT id FROM b WHERE EXISTS (FROM c))', ['a', 'b', 'c']],
    ['SELECT (SELECT max(x) FROM a), [y FOR y IN (SELECT list(x) FROM b)]', ['a', 'b']],
    ['SELECT * FROM a UNION ALL SELECT * FROM b EXCEPT SELECT * FROM c', ['a', 'b', 'c']],
    ['WITH x AS (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM y, s.x', ['a', 's.x']],
    ['WITH x AS (SELECT * FROM x) SELECT * FROM x', ['x']],
    ['WITH x AS (SELECT 1) SELECT * FROM (WITH y AS (SELECT * FROM x) SELECT * FROM y), y', ['y']],
    ['WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM N, a) SELECT * FROM n', ['a']],
    ['SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a), a', ['a']],
    ['SELECT * FROM a, LATERAL (SELECT * FROM b WHERE b.id = a.id), unnest([1, 2]), range(3) r', ['a', 'b']],
    ['SELECT sum(x) OVER (PARTITION BY (SELECT 1 FROM b)) FROM a GROUP BY ALL HAVING count(*) > (SELECT 1 FROM c)', ['a', 'b', 'c']],
    ['TABLE a', ['a']],
    ['DESCRIBE a', ['a']],
    ['DESCRIBE SELECT * FROM a', ['a']],
    ['SUMMARIZE s.a', ['s.a']],
    ['EXPLAIN SELECT * FROM a', ['a']],
    ['/* x */ explain -- y\n analyze (FORMAT json) select * from a;', ['a']],
    ['explain(select * from a)', ['a']],
    ['explain analyze(select * from a)', ['a']],
    ['SELECT explain FROM a', ['a']],
    ['SELECT 1 -- ; DROP TABLE x', []],
    ["SELECT 'a;b' FROM a;  ", ['a']],
  ])('%s', async (sql, expected) => {
    expect(await tables(sql)).toEqual(expected)
  })

  test('takes no longer for many comments', async () => {
    await expect(parser.parse(`${'/**/'.repeat(50_000)}explain select * from a`)).resolves.toMatchObject({ tables: [{ name: 'a' }] })
    await expect(parser.parse(`${'/**/--\n'.repeat(50_000)}select * from a`)).resolves.toMatchObject({ tables: [{ name: 'a' }] })
  })

  test('runs an EXPLAIN as one', async () => {
    expect((await parser.parse('/* x */ explain -- y\n analyze (FORMAT json) select * from a;')).sql).toBe(
      'EXPLAIN ANALYZE (FORMAT json)  select * from a;',
    )
  })

  test('remembers statements', async () => {
    expect(await parser.parse('SELECT * FROM a')).toBe(await parser.parse('SELECT * FROM a'))
  })
})

describe('any text', () => {
  test('is a statement or is refused', async () => {
    const words =
      `select from where with as ( ) , ; * 'a' "b" "" $1 ? -- /* */ explain analyze describe summarize show tables values union all a s.a a.b.c
      read_csv('/etc/passwd') query('x') copy to attach pragma set install load call create insert [1] {x:1} :: . lateral pivot on from_json recursive insert
      nextval('x') exists not null \u0000 \ud800 \n`.split(/ +/)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 4 })), { maxLength: 14 }), async (parts) => {
        try {
          const statement = await parser.parse(parts.join(' '))
          expect(['select', 'show-tables']).toContain(statement.kind)
          expect(statement.tables.every(({ name }) => typeof name === 'string')).toBe(true)
        } catch (error) {
          expect(isMoonlinkError(error, 'invalid'), String(error)).toBe(true)
        }
      }),
      { numRuns: 1000 },
    )
  })

  test.each(['(', '[', 'not ', '- ', '(select ', '{x:', '1 + ', 'f(', 'case when ', 'with a as (', 'select * from ('])(
    'is refused where it nests too deeply: %s',
    async (piece) => {
      for (const depth of [500, 990, 100_000]) {
        const error: unknown = await parser.parse(`select ${piece.repeat(depth)}1`).catch((refused: unknown) => refused)
        if (depth > 1000 || error instanceof Error) expect(error).toMatchObject({ kind: 'invalid' })
      }
    },
  )
})

describe('resolveTable', () => {
  const readable = ['public.a', 'x.a', 'x.b', 'X.B', 'y.c.d', 'y.C', '"q.r".d', '"y.z".e', 'y.z.e', 'y.h.e2', '"y.h".e2']
  test.each([
    [null, 'a', 'public.a'],
    ['x', 'a', 'x.a'],
    ['X', 'A', 'x.a'],
    [null, 'b', 'x.b'],
    [null, 'B', 'X.B'],
    ['x', 'b', 'x.b'],
    ['y', 'c.d', 'y.c.d'],
    [null, 'c', 'y.C'],
    [null, 'd', '"q.r".d'],
    ['y.z', 'e', '"y.z".e'],
    ['y', 'z.e', 'y.z.e'],
    [null, 'e', '"y.z".e'],
    [null, 'h.e2', 'y.h.e2'],
  ])('%s %s', (schema, name, expected) => {
    expect(resolveTable({ schema, name }, readable)).toBe(expected)
  })

  test('refuses what could be either, and what is not there', () => {
    expect(() => resolveTable({ schema: null, name: 'b' }, ['x.b', 'y.b'])).toThrow('"b" may be x.b or y.b. Write the one you mean.')
    expect(() => resolveTable({ schema: 'q', name: 'b' }, [])).toThrow('no table "q.b". No table can be read yet.')
  })
})
