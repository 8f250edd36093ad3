import type { DeletesView } from '@moonlink/union-read'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DeletesTable } from './deletes-table.ts'
import { withDuckdb } from './testing/duckdb.ts'
import { deletesViewOf, type Death, type MovedDeath } from './testing/scripted-deletes.ts'

const duckdb = withDuckdb()
let tableCount = 0

const SEGMENTS = [1, 2, 3, 4_000_000_000]

/** The last segment's early deaths came along from elsewhere. */
const viewOf = (log: readonly Death[], firstSeq: number, endSeq: number, moved: readonly MovedDeath[]) =>
  deletesViewOf(log, firstSeq, endSeq, new Map([[SEGMENTS[3], moved]]))

function expected(log: readonly Death[], segment: number, endSeq: number, moved: readonly MovedDeath[]): number[] {
  const rows = log.slice(0, endSeq).filter((death) => death.segment === segment)
  const along = segment === SEGMENTS[3] ? moved.filter(({ seq }) => seq < endSeq) : []
  return [...new Set([...rows, ...along].map((death) => death.row))].toSorted((a, b) => a - b)
}

describe('DeletesTable', () => {
  test('property: knows the dead rows of any views, in any order, of any segments', async () => {
    const death = fc.record({ segment: fc.constantFrom(...SEGMENTS), row: fc.nat(50) })
    const views = fc.array(fc.record({ first: fc.nat(100), length: fc.nat(60), segments: fc.subarray(SEGMENTS) }), {
      minLength: 1,
      maxLength: 8,
    })
    const moved = fc.array(fc.record({ row: fc.nat(50), seq: fc.nat(80) }), { maxLength: 10 })
    await fc.assert(
      fc.asyncProperty(fc.array(death, { minLength: 100, maxLength: 100 }), views, moved, async (log, plans, along) => {
        const table = await DeletesTable.create(duckdb.connection, `d${++tableCount}`)
        for (const { first, length, segments } of plans) {
          const endSeq = Math.min(log.length, first + length)
          table.sync(viewOf(log, first, endSeq, along), segments)
          for (const segment of segments) {
            const read = await duckdb.connection.runAndReadAll(
              `SELECT DISTINCT "row" FROM ${table.name} WHERE segment = ${segment} AND seq < ${endSeq} ORDER BY 1`,
            )
            expect(read.getRows().map(([row]) => row)).toEqual(expected(log, segment, endSeq, along))
          }
        }
        await table.drop()
      }),
      { numRuns: 60 },
    )
  })

  test('holds sequence numbers beyond 32 bits, and reads each entry once', async () => {
    const table = await DeletesTable.create(duckdb.connection, `d${++tableCount}`)
    const firstSeq = 2 ** 40
    const asked: [number, number][] = []
    const view = (endSeq: number): DeletesView => ({
      firstSeq,
      endSeq,
      chunks(from, to) {
        asked.push([from - firstSeq, to - firstSeq])
        const rows = Uint32Array.from({ length: to - from }, (_, index) => from - firstSeq + index)
        return [{ firstSeq: from, segments: new Uint32Array(rows.length).fill(7), rows }]
      },
      base: () => Uint32Array.of(9_000_000),
      moved: () => ({ rows: new Uint32Array(0), seqs: new Float64Array(0) }),
    })
    for (const length of [0, 5000, 5000, 5003, 100]) {
      table.sync(view(firstSeq + length), [7])
      const read = await duckdb.connection.runAndReadAll(
        `SELECT count(*)::INTEGER FROM ${table.name} WHERE segment = 7 AND seq < ${firstSeq + length}`,
      )
      expect(read.getRows()).toEqual([[length + 1]])
    }
    expect(asked).toEqual([
      [0, 5000],
      [5000, 5003],
    ])
    expect(table.factCount).toBe(5004)
    await table.drop()
  })
})
