import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture } from './testing/fixture.ts'
import type { ModelTable } from './testing/model-table.ts'
import { fields, numbered, people } from './testing/people.ts'

let fixture: Fixture
let table: ModelTable

beforeEach(async () => {
  fixture = await Fixture.open({ minMaskedRows: 100 })
  table = fixture.table(people, fields)
})

afterEach(async () => {
  await fixture.close()
})

describe('a statement that wants some rows', () => {
  const scans = async (sql: string): Promise<number> => {
    const [[, plan]] = await fixture.rows(`EXPLAIN ${sql}`)
    return (plan as string).match(/READ_PARQUET|SEQ_SCAN/g)?.length ?? 0
  }

  test('reads as little as surely has them, files without dead rows first', async () => {
    await table.addFile(numbered(0, 200))
    await table.addFile(numbered(200, 300))
    table.remove(([id]) => Number(id) < 150)
    table.insert(numbered(300, 310))
    const all = await scans('SELECT id, note FROM people')
    expect(await scans('SELECT id, note FROM people LIMIT 1')).toBeLessThan(all)
    const found = new Set((await fixture.rows('SELECT * FROM people LIMIT 100')).map(([id]) => Number(id)))
    expect(found).toEqual(new Set(Array.from({ length: 100 }, (_, index) => 200 + index)))
  })

  test.each([
    ['SELECT * FROM people LIMIT 3', 3, 1],
    ['FROM people p LIMIT 3 OFFSET 4', 3, 1],
    ['SELECT * EXCLUDE (note) FROM people LIMIT 3 OFFSET 198', 3, 2],
    ['SELECT id AS a FROM people LIMIT 0', 0, 0],
  ])('needs no other files: %s', async (sql, rowCount, fileCount) => {
    await table.addFile(numbered(0, 200))
    await table.addFile(numbered(200, 400))
    const result = await fixture.engine.query({ sql, lsn: null, timeoutMs: 1000 })
    const { pinned } = fixture.files
    let read = 0
    for await (const rows of result.rows()) read += rows.length
    expect([read, pinned]).toEqual([rowCount, fileCount])
  })

  test.each([
    ['SELECT count(*) FROM people LIMIT 1', [[400]]],
    ['SELECT max(id) AS top FROM people LIMIT 1', [[399]]],
    ['SELECT count(*) FROM (FROM people OFFSET 399)', [[1]]],
    ['SELECT id FROM people OFFSET 399', null],
    ['SELECT id FROM people ORDER BY id DESC LIMIT 1', [[399]]],
    ['SELECT id FROM people WHERE id = 399 LIMIT 1', [[399]]],
    ['SELECT * EXCLUDE (note) REPLACE (max(id) AS id) FROM people LIMIT 1', [[399]]],
    ['SELECT id FROM people QUALIFY row_number() OVER (ORDER BY id DESC) = 1 LIMIT 1', [[399]]],
    ['SELECT count(*) FROM (SELECT DISTINCT id FROM people LIMIT 1000)', [[400]]],
    ['SELECT a.id FROM people a JOIN people b ON a.id = b.id + 398 LIMIT 1', null],
    ['SELECT count(*) FROM (SELECT id FROM people GROUP BY id LIMIT 1000)', [[400]]],
    ['WITH people AS (SELECT 7 AS id) SELECT * FROM people LIMIT 1', [[7]]],
  ])('and one that needs all of them does not: %s', async (sql, expected) => {
    await table.addFile(numbered(0, 200))
    await table.addFile(numbered(200, 400))
    const rows = await fixture.rows(sql)
    if (expected === null) expect(rows).toHaveLength(1)
    else expect(rows).toEqual(expected)
  })

  test('has them, however many died and wherever they are', async () => {
    await table.addFile(numbered(0, 250))
    await table.addFile(numbered(250, 300))
    table.insert(numbered(300, 330))
    const lsns = [table.lsn]
    for (const rest of [7, 5, 3, 2]) {
      table.remove(([id]) => Number(id) % rest === 0)
      lsns.push(table.lsn)
    }
    for (const lsn of lsns) {
      const expected = new Set(table.expected(lsn).map(([id]) => Number(id)))
      for (const wanted of [1, 40, 90, 200, 260, 1000]) {
        const rows = await fixture.rows(`SELECT id FROM people LIMIT ${wanted}`, { lsn })
        const ids = new Set(rows.map(([id]) => Number(id)))
        expect([rows.length, ids.size]).toEqual([Math.min(wanted, expected.size), rows.length])
        expect([...ids].every((id) => expected.has(id))).toBe(true)
      }
    }
  })
})
