import { setTimeout } from 'node:timers/promises'
import type { Field, MoonlinkError } from '@moonlink/core'
import { DuckDBResult } from '@duckdb/node-api'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Cell } from './cells.ts'
import { expectedCell } from './testing/expected-cell.ts'
import { Fixture } from './testing/fixture.ts'
import { ModelTable, type Row } from './testing/model-table.ts'
import { closeReleased, fields, numbered, people } from './testing/people.ts'
import { fieldsOf, samples } from './testing/sample-values.ts'

let fixture: Fixture
beforeEach(async () => {
  fixture = await Fixture.open()
})
afterEach(() => closeReleased(fixture))

/** What the engine's one reader is told to run from now on. */
function statementsOf(engine: Fixture['engine']): readonly string[] {
  const reader = engine['readers']['idle'][0]
  const run = reader.connection.run.bind(reader.connection)
  const statements: string[] = []
  reader.connection.run = (sql: string) => {
    statements.push(sql)
    return run(sql)
  }
  return statements
}

describe('a union read', () => {
  test('shows files and memory without their dead rows, at every LSN held', async () => {
    const table = fixture.table(people, fields)
    await table.addFile(numbered(0, 3000))
    await table.addFile(numbered(3000, 6000))
    table.insert(numbered(6000, 6100))
    const before = table.lsn
    table.remove(([id]) => (id as bigint) % 10n === 0n)
    const after = table.lsn
    table.insert(numbered(6100, 6200))
    const sql = 'SELECT count(*), sum(id), count(note) FROM public.people'
    const sum = (lsn: bigint) => table.expected(lsn).reduce((total, [id]) => total + Number(id), 0)
    for (const lsn of [after, before, table.lsn, after, before]) {
      const count = table.expected(lsn).length
      expect(await fixture.rows(sql, { lsn })).toEqual([[count, sum(lsn), count]])
    }
  })

  test('keeps to its LSN while rows are added and other queries run', async () => {
    const table = fixture.table(people, fields)
    const running = []
    for (let round = 0; round < 20; round++) {
      table.insert(numbered(round * 10, round * 10 + 10))
      table.remove(([id]) => Number(id) === round * 10)
      const lsn = table.lsn
      running.push(fixture.rows('SELECT count(*), min(id), max(id) FROM people', { lsn }).then((rows) => ({ round, rows })))
      if (round % 3 === 0) await setTimeout(1)
    }
    for (const { round, rows } of await Promise.all(running)) expect(rows).toEqual([[round * 9 + 9, 1, round * 10 + 9]])
  })

  test('reads columns by field id: renamed, added, dropped, widened', async () => {
    const table = fixture.table(people, [
      { id: 2, name: 'Text', type: { kind: 'string' }, required: false },
      { id: 1, name: 'note', type: { kind: 'long' }, required: false },
      { id: 5, name: 'later', type: { kind: 'decimal', precision: 9, scale: 2 }, required: false },
    ])
    await table.addFile(
      [
        [1, 'one', true],
        [2, null, false],
      ],
      [],
      [
        { id: 1, name: 'id', type: { kind: 'int' }, required: true },
        { id: 2, name: 'note', type: { kind: 'string' }, required: false },
        { id: 3, name: 'later', type: { kind: 'boolean' }, required: false },
      ],
    )
    table.insert([['three', 3n, 350n]])
    expect(await fixture.rows('SELECT * FROM people ORDER BY note')).toEqual([
      ['one', 1, null],
      [null, 2, null],
      ['three', 3, '3.50'],
    ])
    const result = await fixture.engine.query({ sql: 'SELECT * FROM people', lsn: null, timeoutMs: 0 })
    expect(result.columns).toEqual([
      { name: 'Text', type: 'VARCHAR' },
      { name: 'note', type: 'BIGINT' },
      { name: 'later', type: 'DECIMAL(9,2)' },
    ])
    await result.close()
  })

  test('shows every type alike from files and from memory', async () => {
    const types = samples.map(([type]) => type)
    const table = fixture.table(people, fieldsOf(types))
    const rows = Array.from({ length: 60 }, (_, row): Row =>
      samples.map(([, values], column) => values[(row + column * 3) % values.length]!),
    )
    await table.addFile(rows.slice(0, 20))
    table.insert(rows.slice(20))
    const expected = rows.map((row) => row.map((value, column) => expectedCell(types[column], value)))
    expect(await fixture.rows('SELECT * FROM people')).toEqual(expected)
  })

  test('reads columns that DuckDB has a meaning of its own for', async () => {
    const own: Field[] = ['filename', 'file_row_number', 'file_index', 'rowid'].map((name, index) => ({
      id: index + 1,
      name,
      type: { kind: 'long' },
      required: false,
    }))
    const table = fixture.table(people, own)
    await table.addFile([
      [1n, 10n, 100n, 1000n],
      [2n, 20n, 200n, 2000n],
    ])
    table.insert([[3n, 30n, 300n, 3000n]])
    table.remove(([first]) => first === 2n)
    expect(await fixture.rows('SELECT * FROM people ORDER BY 1')).toEqual([
      [1, 10, 100, 1000],
      [3, 30, 300, 3000],
    ])
  })

  test('reads many files with dead rows in one scan', async () => {
    const table = fixture.table(people, fields)
    for (let file = 0; file < 40; file++) await table.addFile(numbered(file * 100, file * 100 + 100))
    table.remove(([id]) => Number(id) % 7 === 0)
    const expected = table.expected(table.lsn)
    expect(await fixture.rows('SELECT count(*), sum(id) FROM people')).toEqual([
      [expected.length, expected.reduce((sum, [id]) => sum + Number(id), 0)],
    ])
    const ids = (await fixture.rows('SELECT id FROM people ORDER BY id')).map(([id]) => id)
    expect(ids).toEqual(expected.map(([id]) => Number(id)).toSorted((a, b) => a - b))
  })

  test('reads several tables at one LSN', async () => {
    const orders = fixture.table({ schema: 'shop', name: 'orders' }, fields)
    const lines = fixture.table({ schema: 'shop', name: 'lines' }, fields)
    for (const table of [orders, lines]) table.insert(numbered(0, 10))
    const lsn = orders.lsn
    for (const table of [orders, lines]) table.insert(numbered(10, 20))
    const sql = 'SELECT count(*), (SELECT count(*) FROM orders) FROM shop.orders o JOIN shop.lines l USING (id)'
    expect(await fixture.rows(sql, { lsn })).toEqual([[10, 10]])
    expect(await fixture.rows(sql)).toEqual([[20, 20]])
    expect(fixture.leases.acquired).toBe(2)
  })

  test('an empty table has its columns and no row', async () => {
    fixture.table(people, fields)
    expect(await fixture.rows('SELECT count(*), max(note) FROM people')).toEqual([[0, null]])
  })

  test('starts afresh after its incarnation changed', async () => {
    const table = fixture.table(people, fields)
    table.insert(numbered(0, 10))
    table.remove(([id]) => id === 3n)
    expect(await fixture.rows('SELECT count(*) FROM people')).toEqual([[9]])
    const again = new ModelTable(people, fields, fixture.warehouse, fixture.connection, 'people-2')
    again.lsn = table.lsn
    again.insert(numbered(0, 5))
    fixture.leases.tables[0] = again
    await fixture.engine.releaseIncarnation('people-1')
    expect(await fixture.rows('SELECT count(*) FROM people')).toEqual([[5]])
  })
})

describe('results', () => {
  test('stop at maxRows, and say so', async () => {
    const table = fixture.table(people, fields)
    table.insert(numbered(0, 5000))
    const result = await fixture.engine.query({ sql: 'SELECT id FROM people', lsn: null, timeoutMs: 0, maxRows: 2100 })
    let count = 0
    for await (const rows of result.rows()) count += rows.length
    expect([count, result.rowCount, result.truncated]).toEqual([2100, 2100, true])
    const all = await fixture.engine.query({ sql: 'SELECT id FROM people', lsn: null, timeoutMs: 0, maxRows: 5000 })
    for await (const rows of all.rows()) count += rows.length
    expect([all.rowCount, all.truncated]).toEqual([5000, false])
  })

  test('give back what they hold when closed early, and their connection is good for the next', async () => {
    const table = fixture.table(people, fields)
    table.insert(numbered(0, 50_000))
    for (let round = 0; round < 20; round++) {
      const result = await fixture.engine.query({ sql: 'SELECT a.id, b.note FROM people a, people b', lsn: null, timeoutMs: 0 })
      for await (const rows of result.rows()) {
        expect(rows.length).toBeGreaterThan(0)
        break
      }
      expect(fixture.leases.held).toBe(0)
    }
    expect(await fixture.rows('SELECT count(*) FROM people')).toEqual([[50_000]])
  })

  test('end with the signal, wherever the query is', async () => {
    const table = fixture.table(people, fields)
    table.insert(numbered(0, 50_000))
    const sql = 'SELECT count(*) FROM people a, people b WHERE a.note < b.note || a.note'
    for (const ms of [0, 1, 3, 10, 100]) {
      const started = performance.now()
      await expect(fixture.rows(sql, { signal: AbortSignal.timeout(ms) })).rejects.toThrow(/abort|cancelled/i)
      expect(performance.now() - started).toBeLessThan(3000)
    }
    await expect(fixture.rows(sql, { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow('gone')
  })

  test('are what Postgres would print', async () => {
    expect(
      await fixture.rows(
        `SELECT 1, 9007199254740993, 1.50, TIMESTAMPTZ '2026-11-23 10:00:00.5+02', DATE '0001-01-01' - 366, INTERVAL '14 months 3 days 01:02:03', 'NaN'::DOUBLE,
           [1, NULL], {a: 'x', b: 2}, '\\xAA\\x00'::BLOB, NULL, true, MAP {'k': 1}, TIME '10:11:12.130', sum(1::BIGINT)`,
      ),
    ).toEqual([
      [
        1,
        9_007_199_254_740_993n,
        '1.50',
        '2026-11-23 08:00:00.5+00',
        '0001-01-01 BC',
        '1 year 2 mons 3 days 01:02:03',
        'NaN',
        [1, null],
        { a: 'x', b: 2 },
        '\\xaa00',
        null,
        true,
        [{ key: 'k', value: 1 }],
        '10:11:12.13',
        1,
      ],
    ])
  })

  test('that do not fit in memory spill, or say what to do', async () => {
    const small = await Fixture.open({ memoryLimitBytes: 48 * 1024 * 1024 })
    const sorted = 'SELECT sum(n) FROM (SELECT row_number() OVER (ORDER BY md5(range::VARCHAR)) AS n FROM range(1500000))'
    expect(await small.rows(sorted)).toEqual([[(1_500_000 * 1_500_001) / 2]])
    const error = await small.rows('SELECT list(md5(range::VARCHAR)) FROM range(3000000)').then(
      () => null,
      (cause: unknown) => cause as MoonlinkError,
    )
    expect(error).toMatchObject({ kind: 'invalid', code: 'SQL_OUT_OF_MEMORY' })
    await small.close()
  })

  test('pass on an abort while rows are read', async () => {
    const abort = new AbortController()
    const result = await fixture.engine.query({ sql: 'SELECT * FROM range(100000000) r(i)', lsn: null, timeoutMs: 0, signal: abort.signal })
    const rows = result.rows()
    await rows.next()
    const reason = new Error('enough')
    abort.abort(reason)
    await expect(rows.next()).rejects.toBe(reason)
  })

  test('are fetched one chunk ahead, and their transaction ends with the last', async () => {
    const table = fixture.table(people, fields)
    table.insert(numbered(0, 5000))
    await fixture.rows('SELECT id FROM people')
    const statements = statementsOf(fixture.engine)
    const fetch = vi.spyOn(DuckDBResult.prototype, 'fetchChunk')
    const result = await fixture.engine.query({ sql: 'SELECT id FROM people', lsn: null, timeoutMs: 0 })
    expect(fetch).toHaveBeenCalledTimes(1)
    const ids: Cell[] = []
    let chunks = 0
    for await (const rows of result.rows()) {
      expect(fetch).toHaveBeenCalledTimes(++chunks + 1)
      ids.push(...rows.map(([id]) => id))
      if (ids.length === 5000) await vi.waitUntil(() => statements.includes('ROLLBACK'))
      expect(fixture.leases.held).toBe(1)
    }
    fetch.mockRestore()
    expect(chunks).toBeGreaterThan(1)
    expect(ids).toEqual(Array.from({ length: 5000 }, (_, id) => id))
    expect(fixture.leases.held).toBe(0)
  })

  test('tell of an error that comes with a later chunk, to whoever reads that far', async () => {
    const sql = `SELECT CASE WHEN i < 2048 THEN i ELSE error('too late') END FROM range(1000000) r(i)`
    const unread = await fixture.engine.query({ sql, lsn: null, timeoutMs: 0 }).catch(() => null)
    await unread?.close()
    await expect(fixture.rows(sql)).rejects.toMatchObject({ kind: 'invalid', code: 'SQL_ERROR' })
    expect(await fixture.rows('SELECT 1')).toEqual([[1]])
  })

  test('more queries than connections wait their turn', async () => {
    const small = await Fixture.open({ maxQueries: 2, maxRunning: 1 })
    const table = small.table(people, fields)
    table.insert(numbered(0, 10))
    const results = await Promise.all(Array.from({ length: 30 }, () => small.rows('SELECT count(*) FROM people')))
    expect(results.flat(2)).toEqual(Array.from({ length: 30 }, () => 10))
    await small.close()
  })
})

describe('plans', () => {
  async function explain(sql: string): Promise<string> {
    return (await fixture.rows(`EXPLAIN ${sql}`))[0][1] as string
  }

  test('projections and filters reach the files, and a count of clean files reads none of their rows', async () => {
    const table = fixture.table(people, fields)
    await table.addFile(numbered(0, 3000))
    const count = await explain('SELECT count(*) FROM people')
    expect(count).not.toMatch(/HASH_JOIN|note/)
    await table.addFile(numbered(6, 3006))
    table.remove(([id]) => id === 5n)
    const point = await explain('SELECT id FROM people WHERE id = 17')
    expect(point.match(/Filters/g)).toHaveLength(2)
    expect(point.match(/id=17/g)).toHaveLength(2)
    expect(point).not.toMatch(/\bnote\b/)
    expect(point).toMatch(/ANTI/)
  })

  test('of a table that only grew by rows keep their view', async () => {
    const table = fixture.table(people, fields)
    table.insert(numbered(0, 10))
    await fixture.rows('SELECT count(*) FROM people')
    const statements = statementsOf(fixture.engine)
    table.insert(numbered(10, 20))
    expect(await fixture.rows('SELECT count(*) FROM people')).toEqual([[20]])
    expect(await fixture.rows('SELECT count(*) FROM people')).toEqual([[20]])
    const begin = 'BEGIN TRANSACTION READ ONLY'
    const snapshot = 'FROM "$native".main.t1 LIMIT 0'
    expect(statements).toEqual([`SET VARIABLE rows_t1 = 20; ${begin}`, 'ROLLBACK', `${begin}; ${snapshot}`, 'ROLLBACK'])
  })

  test('are kept for tables that stand still, and for no others', async () => {
    const table = fixture.table(people, fields)
    await table.addFile(numbered(0, 10))
    table.insert(numbered(10, 20))
    const sql = 'SELECT count(*), sum(id) FROM people WHERE id >= 0'
    const read = async (lsn = table.lsn) => {
      const model = table.expected(lsn).map(([id]) => Number(id))
      expect(await fixture.rows(sql, { lsn })).toEqual([[model.length, model.reduce((sum, id) => sum + id, 0)]])
    }
    await read()
    const { connection } = fixture.engine['readers']['idle'][0]
    const prepare = connection.prepare.bind(connection)
    let planned = 0
    connection.prepare = (text: string) => {
      planned++
      return prepare(text)
    }
    const earlier = table.lsn
    await read()
    expect(planned).toBe(0)
    table.remove(([id]) => id === 3n || id === 15n)
    await read()
    await read()
    expect(planned).toBe(1)
    table.insert(numbered(20, 5000))
    await read()
    await read(earlier)
    await read()
    expect(planned).toBe(4)
    await read()
    expect(planned).toBe(4)
  })
})

describe('housekeeping', () => {
  test('drops native tables that no query used for a while, and brings them back', async () => {
    let nowMs = 1_000_000
    const clocked = await Fixture.open({ clock: { nowMs: () => nowMs, sleep: (ms) => setTimeout(ms) }, keepUnusedMs: 5_000 })
    const table = clocked.table(people, fields)
    table.insert(numbered(0, 100))
    table.remove(([id]) => id === 7n)
    const tables = async () => {
      const connection = await clocked.engine['instance'].connect()
      const rows = (await connection.runAndReadAll(`SELECT table_name FROM duckdb_tables()`)).getRows().length
      connection.closeSync()
      return rows
    }
    const held = await clocked.engine.query({ sql: 'SELECT * FROM people', lsn: null, timeoutMs: 0 })
    expect(await tables()).toBe(2)
    nowMs += 6_000
    await clocked.engine.housekeep()
    expect(await tables()).toBe(2)
    await held.close()
    await clocked.engine.housekeep()
    expect(await tables()).toBe(2)
    nowMs += 6_000
    await clocked.engine.housekeep()
    expect(await tables()).toBe(0)
    expect(await clocked.rows('SELECT count(*) FROM people')).toEqual([[99]])
    expect(await tables()).toBe(2)
    await clocked.engine.releaseIncarnation('people-1')
    expect(await tables()).toBe(0)
    await clocked.close()
  })
})
