import type { Field } from '@moonlink/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { quoteText } from './sql-text.ts'
import { Fixture } from './testing/fixture.ts'
import { ModelTable, type Row } from './testing/model-table.ts'

const fields: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'rest', type: { kind: 'long' }, required: false },
]
const things = { schema: 'public', name: 'things' }
const WHOLE = 'SELECT count(*), sum(id), sum(rest) FROM things'

let fixture: Fixture
beforeEach(async () => {
  fixture = await Fixture.open({ minMaskedRows: 1 })
})
afterEach(() => fixture.close())

function numbered(from: number, to: number): Row[] {
  return Array.from({ length: to - from }, (_, index) => [BigInt(from + index), BigInt((from + index) % 7)])
}

function sums(table: ModelTable, lsn = table.lsn): number[] {
  const rows = table.expected(lsn)
  const sum = (column: number) => rows.reduce((total, row) => total + Number(row[column]), 0)
  return [rows.length, sum(0), sum(1)]
}

async function explain(sql: string): Promise<string> {
  return (await fixture.rows(`EXPLAIN ${sql}`))[0][1] as string
}

/** Writes the rows from 0 to `to` but every seventh, in row groups of uneven sizes, which are returned. */
async function writeUneven(path: string, to: number): Promise<number[]> {
  const { connection } = fixture
  await connection.run('SET threads = 1')
  // A condition makes chunks uneven, and row groups end with a chunk.
  const source = `SELECT range AS id, range % 7 AS rest FROM range(${to}) WHERE range % 7 <> 0`
  await connection.run(`COPY (${source}) TO ${quoteText(path)} (FORMAT parquet, ROW_GROUP_SIZE 2048, FIELD_IDS {id: 1, rest: 2})`)
  const groups = await connection.runAndReadAll(
    `SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata(${quoteText(path)}) ORDER BY 1`,
  )
  return groups.getRows().map(([, count]) => Number(count))
}

describe('a file beside its live mask', () => {
  test('is read where no condition could leave out a part of it', async () => {
    const table = fixture.table(things, fields)
    await table.addFile(numbered(0, 130_000))
    table.remove(([id]) => (id as bigint) % 10n === 0n)
    for (const condition of ['', 'WHERE rest = 3', 'WHERE rest < 3 AND rest > 1', 'WHERE id = rest']) {
      expect(await explain(`${WHOLE} ${condition}`)).toContain('POSITIONAL_SCAN')
    }
    for (const condition of ['WHERE id = 7', 'WHERE rest = 1 AND id BETWEEN 5 AND 9', 'WHERE unknown_name = 1 AND rest = 1']) {
      const sql = condition.includes('unknown_name')
        ? `SELECT count(*) FROM (SELECT id AS unknown_name, rest FROM things) ${condition}`
        : `${WHOLE} ${condition}`
      expect(await explain(sql)).not.toContain('POSITIONAL_SCAN')
    }
    expect(await explain('SELECT rest, count(*) FROM things GROUP BY rest HAVING rest = 3')).toContain('POSITIONAL_SCAN')
    const expected = sums(table)
    expect(await fixture.rows(WHOLE)).toEqual([expected])
    expect(await fixture.rows(`${WHOLE} WHERE id >= 0`)).toEqual([expected])
  })

  test('is read in parts by several threads where it is most of the table', async () => {
    const table = fixture.table(things, fields)
    await table.addFile(numbered(0, 300_000))
    await table.addFile(numbered(300_000, 301_000))
    table.remove(([id]) => (id as bigint) % 3n === 0n || ((id as bigint) > 100_000n && (id as bigint) < 250_000n))
    expect((await explain(WHOLE)).match(/POSITIONAL_SCAN/g)).toHaveLength(3)
    expect(await fixture.rows(WHOLE)).toEqual([sums(table)])
    expect(await fixture.rows('SELECT max(rest), count(id) FROM things')).toEqual([[6, sums(table)[0]]])
  })

  test('reads right whatever the sizes of its row groups', async () => {
    const rows = numbered(0, 20_000).filter(([, rest]) => rest !== 0n)
    const table = fixture.table(things, fields)
    await table.addFile(rows)
    const groups = await writeUneven(table.plan(table.lsn).files[0].path, 20_000)
    expect(groups.reduce((sum, count) => sum + count, 0)).toBe(rows.length)
    expect(groups.slice(0, -1).some((count) => count % 2048 !== 0)).toBe(true)
    table.remove(([id, rest]) => (id as bigint) % 11n === 0n || rest === 2n)
    expect(await explain(WHOLE)).toContain('POSITIONAL_SCAN')
    expect(await fixture.rows(WHOLE)).toEqual([sums(table)])
    expect(await fixture.rows('SELECT id FROM things LIMIT 5 OFFSET 9000')).toHaveLength(5)
  })

  test('is not read at all where only the number of rows matters', async () => {
    const table = fixture.table(things, fields)
    await table.addFile(numbered(0, 5000))
    await table.addFile(numbered(5000, 9000))
    table.remove(([id]) => Number(id) < 5000 && Number(id) % 3 === 0)
    const before = table.lsn
    table.insert(numbered(9000, 9100))
    table.remove(([id]) => Number(id) % 50 === 0)
    for (const lsn of [table.lsn, before]) {
      const [count] = sums(table, lsn)
      expect(await fixture.rows('SELECT count(*) FROM things', { lsn })).toEqual([[count]])
      expect(await fixture.rows('SELECT count(*) + 1, 2 FROM public.things LIMIT 1', { lsn })).toEqual([[count + 1, 2]])
      expect(await fixture.rows('SELECT 1 FROM things', { lsn })).toHaveLength(count)
      expect((await fixture.rows('EXPLAIN SELECT count(*) FROM things', { lsn }))[0][1]).not.toContain('READ_PARQUET')
      const read = ['count(rest)', 'count(things)', 'count(DISTINCT id)', 'count(COLUMNS(*))', 'count(*) FILTER (id >= 0)']
      for (const call of read) expect((await fixture.rows(`SELECT ${call} FROM things`, { lsn }))[0][0]).toBe(count)
      expect(await fixture.rows('SELECT count(*) FROM things a, (SELECT max(id) FROM things) b', { lsn })).toEqual([[count]])
      expect(await fixture.rows('SELECT count(*) FROM things NATURAL JOIN things b', { lsn })).toEqual([[count]])
      for (const join of ['NATURAL JOIN things b', 'JOIN things b USING (id)']) {
        expect(await fixture.rows(`WITH x AS (SELECT 1 FROM things ${join}) SELECT count(*) FROM x`, { lsn })).toEqual([[count]])
      }
      expect(await fixture.rows('SELECT count(*) FROM things WHERE id > (SELECT 1)', { lsn })).toEqual([
        [table.expected(lsn).filter(([id]) => (id as bigint) > 1n).length],
      ])
      expect(await fixture.rows('SELECT DISTINCT * FROM things ORDER BY 1 LIMIT 1', { lsn })).toEqual([[1, 1]])
    }
  })

  test('serves several LSNs, joins and many columns at once', async () => {
    const table = fixture.table(things, fields)
    await table.addFile(numbered(0, 5000))
    await table.addFile(numbered(5000, 5001))
    const lsns = [table.lsn]
    for (let round = 0; round < 6; round++) {
      table.remove(([id]) => Number(id) % 13 === round)
      lsns.push(table.lsn)
    }
    const reads = [...lsns, ...lsns.toReversed()].map(async (lsn) => {
      expect(await fixture.rows(WHOLE, { lsn })).toEqual([sums(table, lsn)])
      const [count] = sums(table, lsn)
      expect(await fixture.rows('SELECT count(*) FROM things a JOIN things b USING (id)', { lsn })).toEqual([[count]])
    })
    await Promise.all(reads)
  })

  test('gives way to an anti join where masks would take too much memory', async () => {
    const small = await Fixture.open({ minMaskedRows: 1, memoryLimitBytes: 32 * 1024 * 1024 })
    const table = small.table(things, fields)
    for (let file = 0; file < 20; file++) await table.addFile(numbered(file * 10, file * 10 + 10))
    table.remove(([id]) => Number(id) % 3 === 0)
    expect((await small.rows(`EXPLAIN ${WHOLE}`))[0][1]).not.toContain('POSITIONAL_SCAN')
    expect(await small.rows(WHOLE)).toEqual([sums(table)])
    await small.close()
  })
})
