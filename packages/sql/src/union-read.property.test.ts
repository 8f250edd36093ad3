import type { Field, Value } from '@moonlink/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Cell } from './cells.ts'
import { expectedCell } from './testing/expected-cell.ts'
import { Fixture } from './testing/fixture.ts'
import { ModelTable, type Row } from './testing/model-table.ts'

const fields: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'note', type: { kind: 'string' }, required: false },
  { id: 3, name: 'amount', type: { kind: 'decimal', precision: 12, scale: 2 }, required: false },
  { id: 4, name: 'at', type: { kind: 'timestamptz' }, required: false },
  { id: 5, name: 'flag', type: { kind: 'boolean' }, required: false },
  { id: 6, name: 'tags', type: { kind: 'list', elementId: 7, element: { kind: 'string' }, elementRequired: false }, required: false },
  { id: 8, name: 'key', type: { kind: 'uuid' }, required: false },
]

function rowOf(id: number): Row {
  const some = (value: Value, every: number): Value => (id % every === 0 ? null : value)
  return [
    BigInt(id),
    some(`note ${'x'.repeat(id % 30)}`, 5),
    some(BigInt(id) * 101n - 5000n, 7),
    some(1_700_000_000_000_000n + BigInt(id) * 1_234_567n, 11),
    some(id % 2 === 1, 3),
    some(
      Array.from({ length: id % 4 }, (_, index) => (index === 2 ? null : `tag ${id} ${index}`)),
      6,
    ),
    some(
      Uint8Array.from({ length: 16 }, (_, index) => (id * 31 + index * 17) & 255),
      4,
    ),
  ]
}

type Step =
  | { readonly kind: 'insert'; readonly count: number }
  | { readonly kind: 'remove'; readonly every: number; readonly offset: number }
  | { readonly kind: 'freeze' }
  | { readonly kind: 'flush'; readonly back: number }
  | { readonly kind: 'restart' }
  | { readonly kind: 'plan'; readonly back: number; readonly later: boolean }
  | { readonly kind: 'query-planned' }
  | { readonly kind: 'settle' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('insert' as const), count: fc.integer({ min: 1, max: 3000 }) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('remove' as const), every: fc.integer({ min: 1, max: 60 }), offset: fc.nat(60) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('freeze' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('flush' as const), back: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('plan' as const), back: fc.nat(6), later: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('query-planned' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
)

/** Applies the steps; queries are started and left running while further steps are applied. */
async function play(steps: readonly Step[], minMaskedRows: number, minDeadBits: number): Promise<void> {
  const fixture = await Fixture.open({ maxQueries: 4, keepUnusedMs: 0, minMaskedRows, minDeadBits })
  let table = fixture.table({ schema: 'public', name: 'things' }, fields)
  let nextId = 0
  let planCount = 0
  let running: Promise<void>[] = []
  const waiting: (() => Promise<void>)[] = []
  /** Takes the plan now; the query runs when called, when new plans may not reach that LSN any more. */
  const planned = (from: ModelTable, lsn: bigint, ticket: bigint) => {
    fixture.leases.prepared.set(ticket, new Map([[from.name, from.plan(lsn)]]))
    const expected = from
      .expected(lsn)
      .toSorted(([a], [b]) => Number(a) - Number(b))
      .map((row) => row.map((value, index) => expectedCell(fields[index].type, value)))
    const condition = ticket % 3n === 0n ? 'WHERE id >= 0' : ''
    return async () => compare(await fixture.rows(`SELECT * FROM things ${condition} ORDER BY id`, { lsn: ticket }), expected)
  }
  const apply = async (step: Step) => {
    if (step.kind === 'insert') table.insert(Array.from({ length: step.count }, () => rowOf(nextId++)))
    if (step.kind === 'remove') table.remove(([id]) => (Number(id) * 7 + step.offset) % (step.every + 1) === 0)
    if (step.kind === 'freeze') table.freeze()
    if (step.kind === 'flush') await table.flush(back(table, step.back))
    if (step.kind === 'restart') {
      const rows = table.expected(table.lsn)
      const next = new ModelTable(table.table, fields, fixture.warehouse, fixture.connection, `things-${nextId++}`)
      next.lsn = table.lsn
      next.floor = table.lsn
      await next.addFile(rows)
      fixture.leases.tables[0] = table = next
    }
    if (step.kind === 'plan') {
      const query = planned(table, back(table, step.back), BigInt(++planCount + 1_000_000))
      if (step.later) waiting.push(query)
      else running.push(query())
    }
    if (step.kind === 'query-planned') running.push(...waiting.splice(0).map((query) => query()))
    if (step.kind === 'settle') {
      await Promise.all(running)
      running = []
      await fixture.engine.housekeep()
    }
  }
  try {
    for (const step of steps) await apply(step)
    running.push(...waiting.splice(0).map((query) => query()))
    await Promise.all(running)
    expect([fixture.leases.held, fixture.files.pinned]).toEqual([0, 0])
  } finally {
    await Promise.allSettled(running)
    await fixture.close()
  }
}

function back(table: ModelTable, by: number): bigint {
  const lsn = table.lsn - BigInt(by)
  return lsn < table.floor ? table.floor : lsn
}

function compare(rows: readonly (readonly Cell[])[], expected: readonly (readonly Cell[])[]): void {
  expect(rows.map(([id]) => id)).toEqual(expected.map(([id]) => id))
  expect(rows).toEqual(expected)
}

describe('union reads', () => {
  test('property: equal a naive model, whatever happened and whatever runs beside them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 40 }),
        fc.constantFrom(1, 1000, 50_000),
        fc.constantFrom(1, 100, 20_000),
        play,
      ),
      {
        numRuns: 20,
      },
    )
  }, 240_000)
})
