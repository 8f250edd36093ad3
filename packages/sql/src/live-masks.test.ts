import { liveRows, type FileScan, type TablePlan } from '@moonlink/union-read'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GROUP_BYTES, type LiveMask } from './live-mask.ts'
import { LiveMasks, MaskBudget } from './live-masks.ts'
import { withDuckdb } from './testing/duckdb.ts'
import { deletesViewOf, type Death, type MovedDeath } from './testing/scripted-deletes.ts'

const duckdb = withDuckdb()
let tableCount = 0
const newName = () => `m${++tableCount}`

const ROWS = 40

/** A plan over a log of which everything below `firstSeq` is folded; the last file's early deaths came along from elsewhere. */
function planOf(log: readonly Death[], firstSeq: number, endSeq: number, moved: readonly MovedDeath[] = []): TablePlan {
  return {
    table: { schema: 'public', name: 't' },
    schema: { fields: [], identifierFieldIds: [] },
    lsn: 0n,
    incarnation: 'one',
    files: [],
    memory: [],
    deletes: deletesViewOf(log, firstSeq, endSeq, new Map([[3, moved]])),
  }
}

function scans(segments: readonly number[], recordCount = ROWS): FileScan[] {
  return segments.map((segment) => ({ segment, path: '', sizeBytes: 1, recordCount, hasDeletes: true }))
}

async function liveIn(mask: LiveMask): Promise<number[]> {
  const live: number[] = []
  for (const { name, fromRow, toRow } of mask.parts) {
    const read = await duckdb.connection.runAndReadAll(`SELECT live::INTEGER FROM ${name} ORDER BY rowid`)
    expect([fromRow, toRow]).toEqual([live.length, live.length + read.currentRowCount])
    live.push(...read.getRows().map(([value]) => value as number))
  }
  return live
}

describe('live masks', () => {
  test('property: show the living rows of any plans, in any order, of any files', async () => {
    const death = fc.record({ segment: fc.constantFrom(1, 2, 3, 9), row: fc.nat(ROWS - 1) })
    const plans = fc.array(
      fc.record({ first: fc.nat(60), length: fc.nat(40), segments: fc.subarray([1, 2, 3]), keeps: fc.boolean(), sweeps: fc.boolean() }),
      { minLength: 1, maxLength: 10 },
    )
    const moved = fc.array(fc.record({ row: fc.nat(ROWS - 1), seq: fc.nat(60) }), { maxLength: 6 })
    const logs = fc.array(death, { minLength: 60, maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(logs, plans, moved, async (log, asked, along) => {
        const budget = new MaskBudget(100 * GROUP_BYTES)
        const masks = new LiveMasks(budget, 2)
        const kept: { mask: LiveMask; live: number[] }[] = []
        for (const { first, length, segments, keeps, sweeps } of asked) {
          const plan = planOf(log, first, Math.min(log.length, first + length), along)
          const found = await masks.of(plan, scans(segments), duckdb.connection, newName)
          const expected = liveRows(
            plan,
            segments.map((segment) => ({ segment, rowCount: ROWS })),
          )
          expect([...found.keys()].toSorted((a, b) => a - b)).toEqual(segments)
          for (const [segment, mask] of found) {
            const live = [...expected.get(segment)!]
            expect(await liveIn(mask)).toEqual(live)
            if (!keeps) continue
            mask.users++
            kept.push({ mask, live })
          }
          if (sweeps) await masks.sweep(1)
        }
        for (const { mask, live } of kept) expect(await liveIn(mask)).toEqual(live)
        masks.forget()
        expect(budget.usedBytes).toBe(0)
      }),
      { numRuns: 200 },
    )
  }, 60_000)

  test('stay as they are while no row of their file dies, and are replaced when one does', async () => {
    const masks = new LiveMasks(new MaskBudget(100 * GROUP_BYTES), 2)
    const log = [1, 2, 1, 2, 2, 2, 1].map((segment, row) => ({ segment, row }))
    const names = []
    for (const endSeq of [2, 3, 4, 6, 7, 5])
      names.push((await masks.of(planOf(log, 0, endSeq), scans([1]), duckdb.connection, newName)).get(1)!)
    const [two, three, four, six, seven, five] = names
    expect([four, six]).toEqual([three, three])
    expect(new Set([two, three, seven, five]).size).toBe(4)
  })

  test('know deaths that moved, though a later plan has them in its base only', async () => {
    const log = Array.from({ length: 12 }, (_, row) => ({ segment: 9, row }))
    const along = [{ row: 7, seq: 6 }]
    for (const plans of [
      [planOf(log, 8, 12, along), planOf(log, 2, 4, along), planOf(log, 8, 12, along)],
      [planOf(log, 2, 2, along), planOf(log, 8, 12, along), planOf(log, 2, 5, along), planOf(log, 2, 10, along)],
      [planOf(log, 0, 0), planOf(log, 8, 12, along), planOf(log, 2, 5, along)],
    ]) {
      const masks = new LiveMasks(new MaskBudget(100 * GROUP_BYTES), 2)
      for (const plan of plans) {
        const mask = (await masks.of(plan, scans([3]), duckdb.connection, newName)).get(3)!
        expect((await liveIn(mask))[7]).toBe(plan.deletes.endSeq > 6 ? 0 : 1)
      }
    }
  })

  test('are cut into a part for each thread, where one file is most of what there is to read', async () => {
    const masks = new LiveMasks(new MaskBudget(100 * GROUP_BYTES), 3)
    const log = [{ segment: 1, row: 250_000 }]
    const found = await masks.of(planOf(log, 0, 1), [...scans([1], 300_000), ...scans([2, 3])], duckdb.connection, newName)
    expect([...found.values()].map((mask) => mask.parts.map(({ fromRow, toRow, isLast }) => [fromRow, toRow, isLast]))).toEqual([
      [
        [0, 122_880, false],
        [122_880, 245_760, false],
        [245_760, 300_000, true],
      ],
      [[0, ROWS, true]],
      [[0, ROWS, true]],
    ])
    const live = await liveIn(found.get(1)!)
    expect([live.length, live.indexOf(0), live.lastIndexOf(0)]).toEqual([300_000, 250_000, 250_000])
  })

  test('are not made where they would not fit, but push out those that nobody uses', async () => {
    const budget = new MaskBudget(2 * GROUP_BYTES)
    const masks = new LiveMasks(budget, 2)
    const plan = planOf([{ segment: 1, row: 1 }], 0, 1)
    const first = await masks.of(plan, scans([1, 2]), duckdb.connection, newName)
    for (const mask of first.values()) mask.users++
    expect([first.size, budget.usedBytes]).toEqual([2, 2 * GROUP_BYTES])
    expect(await masks.of(plan, scans([3]), duckdb.connection, newName)).toEqual(new Map())
    first.get(1)!.users--
    expect([...(await masks.of(plan, scans([3]), duckdb.connection, newName)).keys()]).toEqual([3])
    expect((await masks.of(plan, scans([2, 4], 200_000), duckdb.connection, newName)).size).toBe(0)
    expect(await liveIn(first.get(2)!)).toHaveLength(ROWS)
  })
})
