import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import type { ModelTable } from './testing/model-table.ts'
import { closeReleased, fields, numbered, people } from './testing/people.ts'

let fixture: Fixture
let table: ModelTable

beforeEach(async () => {
  fixture = await Fixture.open({ minMaskedRows: 100, minDeadBits: 50 })
  table = fixture.table(people, fields)
  await table.addFile(numbered(0, 200))
  await table.addFile(numbered(200, 260))
  await table.addFile(numbered(260, 500))
  table.insert(numbered(500, 520))
  table.remove(([id]) => Number(id) % 7 === 3)
})

afterEach(() => closeReleased(fixture))

describe('files that do not fit into the cache together', () => {
  const some: [string, string][] = [
    ['all columns', 'SELECT * FROM people'],
    ['one column', 'SELECT sum(id) FROM people'],
    ['no column', 'SELECT count(*) FROM people, people q WHERE true'],
    ['only how many', 'SELECT count(*) FROM people'],
    [
      'an alias of the table',
      'SELECT p.note FROM public.people p WHERE p.id BETWEEN 190 AND 270 AND note IS NOT NULL AND NOT p.id IN (7, 201)',
    ],
    ['a number that no double holds', 'SELECT id FROM people WHERE id < 9223372036854775807 AND id > -9223372036854775807'],
    ['a number that prints as a decimal', 'SELECT id FROM people WHERE CAST(0.1 AS FLOAT) <> 1e-1'],
    ['a text to escape', `SELECT id FROM people WHERE note <> 'it''s' AND note >= 'note of row 4'`],
    ['the row as one value', 'SELECT people FROM people'],
    ['a condition on what is computed', 'SELECT id + 1 AS plus FROM people WHERE plus > 300'],
    ['a natural join', 'SELECT count(*) FROM people NATURAL JOIN people q'],
    ['columns that a join names', 'SELECT count(*) FROM people JOIN people q USING (id)'],
    ['a subquery that wants other rows', 'SELECT id, (SELECT max(id) FROM people) FROM people WHERE id < 10'],
    ['groups', 'SELECT id % 10, count(note) FROM people GROUP BY 1 HAVING max(id) > 450'],
    ['a table expression', 'WITH p AS (SELECT id FROM people WHERE id > 100) SELECT p FROM p'],
    ['names of columns', 'SELECT q.a FROM people AS q(a, b) WHERE b IS NOT NULL'],
    ['some rows', 'SELECT count(*) FROM (SELECT id FROM people LIMIT 400)'],
    ['what it would give', 'DESCRIBE people'],
    ['columns turned into rows', 'SELECT v FROM (SELECT id, id AS other FROM people) UNPIVOT (v FOR k IN (id, other))'],
    ['rows turned into columns', `SELECT count(*) FROM people PIVOT (count(note) FOR note IN ('note of row 4'))`],
    ['columns of a table turned into rows', 'SELECT v FROM people UNPIVOT (v FOR k IN (note))'],
    ['a summary', 'SELECT column_name, count FROM (SUMMARIZE people)'],
  ]

  test.each(some)('%s', async (_, sql) => {
    const sorted = (rows: unknown[][]) =>
      rows.map((row) => JSON.stringify(row, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value))).toSorted()
    const expected = sorted(await fixture.rows(sql))
    for (const limit of [1, 2]) {
      fixture.files.limit = limit
      fixture.files.mostPinned = 0
      expect(sorted(await fixture.rows(sql))).toEqual(expected)
      expect(fixture.files.mostPinned).toBeLessThanOrEqual(limit)
    }
    expect(expected.length).toBeGreaterThan(0)
  })

  test('the LSN decides, also where another was read before', async () => {
    fixture.files.limit = 1
    const before = table.lsn
    table.remove(([id]) => Number(id) < 100)
    const count = async (lsn: bigint) => (await fixture.rows('SELECT count(note), sum(id) FROM people', { lsn }))[0].map(Number)
    const expected = (lsn: bigint) => {
      const rows = table.expected(lsn)
      return [rows.length, rows.reduce((sum, [id]) => sum + Number(id), 0)]
    }
    for (const lsn of [table.lsn, before, table.lsn]) expect(await count(lsn)).toEqual(expected(lsn))
  })

  test('only rows that the statement looks at are kept', async () => {
    fixture.files.limit = 1
    const scanned = async (sql: string) => {
      const [[, profile]] = await fixture.rows(`EXPLAIN (ANALYZE, FORMAT JSON) ${sql}`)
      return Number(/staged(?:[^{}]*\}){1}[^{}]*"operator_rows_scanned": (\d+)/.exec(profile as string)?.[1])
    }
    expect(await scanned('SELECT note FROM people WHERE id = 205')).toBe(1)
    expect(await scanned('SELECT note FROM people WHERE upper(note) IS NULL')).toBe(500 - 71)
  })

  test('only how many rows there are is known without the files that lost none', async () => {
    const whole = fixture.table({ schema: 'public', name: 'whole' }, fields)
    await whole.addFile(numbered(0, 10))
    await whole.addFile(numbered(10, 20))
    const { length } = fixture.files.paths
    expect(await fixture.rows('SELECT count(*) FROM whole')).toEqual([[20]])
    expect(fixture.files.paths).toHaveLength(length)
  })

  test('what only explains or describes reads no file', async () => {
    fixture.files.limit = 1
    const { length } = fixture.files.paths
    await fixture.rows('EXPLAIN SELECT * FROM people')
    await fixture.rows('DESCRIBE SELECT * FROM people')
    expect(fixture.files.paths).toHaveLength(length)
  })

  test('a query that is ended midway leaves nothing behind', async () => {
    fixture.files.limit = 1
    const controller = new AbortController()
    const { pinAll } = fixture.files
    let pins = 0
    fixture.files.pinAll = (files) => {
      if (++pins === 2) controller.abort(new Error('enough'))
      return pinAll.call(fixture.files, files)
    }
    await expect(fixture.rows('SELECT * FROM people', { signal: controller.signal })).rejects.toThrow('enough')
    fixture.files.pinAll = pinAll
    await expect(fixture.rows('SELECT nothing FROM people')).rejects.toMatchObject({ code: 'SQL_ERROR' })
  })
})
