import { randomBytes } from 'node:crypto'
import { appendValue, BatchBuilder, type FieldType, type Value } from '@moonlink/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { rowsOf, type Cell } from './cells.ts'
import { TailTable } from './tail-table.ts'
import { withDuckdb } from './testing/duckdb.ts'
import { expectedCell } from './testing/expected-cell.ts'
import { fieldsOf, listOf, samples, string } from './testing/sample-values.ts'

const duckdb = withDuckdb(`SET TimeZone = 'UTC'`)
let tableCount = 0

function batchOf(types: readonly FieldType[], rows: readonly (readonly Value[])[]) {
  const builder = new BatchBuilder(fieldsOf(types))
  for (const row of rows) row.forEach((value, index) => appendValue(builder.builders[index], value))
  return builder.view()
}

async function select(sql: string): Promise<Cell[][]> {
  const rows: Cell[][] = []
  const result = await duckdb.connection.stream(sql)
  for (let chunk = await result.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await result.fetchChunk())
    rows.push(...rowsOf(chunk))
  return rows
}

/** Writes the rows in the given steps and reads them back in row order. */
async function roundTrip(
  types: readonly FieldType[],
  rows: readonly (readonly Value[])[],
  steps: readonly number[] = [],
): Promise<Cell[][]> {
  const name = `w${++tableCount}`
  const batch = batchOf(types, rows)
  const tail = await TailTable.create(duckdb.connection, name, batch.fields)
  for (const step of steps) await tail.extend(batch, Math.min(step, batch.length))
  await tail.extend(batch, batch.length)
  const read = await select(`SELECT * FROM ${name} ORDER BY rowid`)
  await tail.drop()
  return read
}

function expectedRows(types: readonly FieldType[], rows: readonly (readonly Value[])[]): Cell[][] {
  return rows.map((row) => row.map((value, index) => expectedCell(types[index], value)))
}

describe('ChunkWriter', () => {
  for (const [type, values] of samples) {
    test(`writes ${JSON.stringify(type)} as DuckDB reads it`, async () => {
      const rows = values.map((value) => [value])
      expect(await roundTrip([type], rows)).toEqual(expectedRows([type], rows))
    })

    test(`writes ${JSON.stringify(type)} over many chunks, in uneven steps`, async () => {
      const rows = Array.from({ length: 5000 }, (_, row) => [values[(row * 7 + (row >> 4)) % values.length]!])
      expect(await roundTrip([type], rows, [1, 2, 65, 2047, 2050, 4111])).toEqual(expectedRows([type], rows))
    })
  }

  test('writes strings of every length around the inline limit', async () => {
    const rows = Array.from({ length: 6000 }, (_, row) => [row % 11 === 0 ? null : String.fromCodePoint(97 + (row % 26)).repeat(row % 40)])
    expect(await roundTrip([string], rows, [100, 3000])).toEqual(rows)
  })

  test('writes a list longer than a vector', async () => {
    const long = Array.from({ length: 10_000 }, (_, index) => (index % 3 === 0 ? null : `element number ${index}`))
    const rows: Value[][] = [[[]], [long], [null], [long.slice(0, 3)], [long]]
    expect(await roundTrip([listOf(string)], rows)).toEqual(rows)
  })

  test('the strings it writes are DuckDB strings: functions, joins and order work on them', async () => {
    const rows = Array.from({ length: 4000 }, (_, row) => [BigInt(row), `key ${row % 500}`, `a value that is long enough ${row}`])
    const types: FieldType[] = [{ kind: 'long' }, string, string]
    const batch = batchOf(types, rows)
    const tail = await TailTable.create(duckdb.connection, 'joined', batch.fields)
    await tail.extend(batch, batch.length)
    const wrong = await select(
      `SELECT count(*) FROM joined WHERE c2 <> 'key ' || (c1 % 500) OR c3 <> 'a value that is long enough ' || c1 OR md5(c3) <> md5('a value that is long enough ' || c1)`,
    )
    expect(wrong).toEqual([[0]])
    expect(await select(`SELECT count(*) FROM joined a JOIN joined b USING (c2)`)).toEqual([[32_000]])
    expect(await select(`SELECT min(c2), max(c3) FROM joined`)).toEqual([['key 0', 'a value that is long enough 999']])
    await tail.drop()
  })

  test('uuids order as their text', async () => {
    const values = Array.from({ length: 300 }, () => new Uint8Array(randomBytes(16)))
    const batch = batchOf(
      [{ kind: 'uuid' }],
      values.map((value) => [value]),
    )
    const tail = await TailTable.create(duckdb.connection, 'uuids', batch.fields)
    await tail.extend(batch, batch.length)
    const read = (await select('SELECT c1 FROM uuids ORDER BY c1')).map(([uuid]) => uuid)
    expect(read).toEqual(
      values
        .map((value) => expectedCell({ kind: 'uuid' }, value))
        .map((uuid) => uuid as string)
        .toSorted((a, b) => (a < b ? -1 : 1)),
    )
    await tail.drop()
  })

  test('property: any rows of any types, in any steps', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(samples.length - 1), { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 0, max: 4500 }),
        fc.nat(1000),
        fc.array(fc.nat(4500), { maxLength: 4 }),
        async (columns, rowCount, seed, steps) => {
          const types = columns.map((column) => samples[column][0])
          const rows = Array.from({ length: rowCount }, (_, row) =>
            columns.map((column, index) => {
              const values = samples[column][1]
              return values[(row * (seed + 1) + (row >> 3) * index + seed) % values.length]!
            }),
          )
          expect(
            await roundTrip(
              types,
              rows,
              steps.toSorted((a, b) => a - b),
            ),
          ).toEqual(expectedRows(types, rows))
        },
      ),
      { numRuns: 15 },
    )
  })
})
