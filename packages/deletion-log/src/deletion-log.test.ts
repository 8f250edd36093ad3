import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DeletionLog, type Deaths } from './deletion-log.ts'
import type { DeathChunk } from './folded-deaths.ts'

type Death = readonly [segment: number, row: number]

function deathsOf(chunks: Iterable<DeathChunk>): { readonly seq: number; readonly death: Death }[] {
  return [...chunks].flatMap(({ firstSeq, segments, rows }) =>
    Array.from(segments, (segment, index) => ({ seq: firstSeq + index, death: [segment, rows[index]] as const })),
  )
}

const sorted = (deaths: readonly Death[]) => deaths.toSorted(([a, b], [c, d]) => a - c || b - d)

/** The transactions that the log has, whole ones and the open one. */
class Model {
  first = 0
  end = 0
  lsn = 0n
  ended: { readonly lsn: bigint; readonly from: number; readonly deaths: readonly Death[] }[] = []
  open: Death[] = []

  endSeqAt(lsn: bigint): number {
    return Math.max(this.first, ...this.ended.filter((one) => one.lsn <= lsn).map(({ deaths, from }) => from + deaths.length))
  }
}

type Action =
  | { readonly kind: 'append'; readonly segment: number; readonly times: number }
  | { readonly kind: 'mark'; readonly lsnStep: number }
  | { readonly kind: 'view' | 'prune'; readonly at: number }
  | { readonly kind: 'fold' }

const segment = fc.constantFrom(1, 2, 3, 0xffff_fffd)
const at = fc.double({ min: 0, max: 1, noNaN: true })
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('append' as const), segment, times: fc.constantFrom(1, 2, 3, 900) }),
  fc.record({ kind: fc.constant('mark' as const), lsnStep: fc.nat({ max: 3 }) }),
  fc.record({ kind: fc.constantFrom('view' as const, 'prune' as const), at }),
  fc.record({ kind: fc.constant('fold' as const) }),
)

interface Held {
  readonly deaths: Deaths
  readonly transactions: Model['ended']
}

function checkHeld({ deaths, transactions }: Held): void {
  for (const { from, deaths: own } of transactions) {
    const found = deathsOf(deaths.chunks(from, from + own.length))
    expect(found.map(({ seq }) => seq)).toEqual(own.map((_, index) => from + index))
    expect(sorted(found.map(({ death }) => death))).toEqual(sorted(own))
  }
}

function perform(log: DeletionLog, model: Model, held: Held[], step: Action): void {
  switch (step.kind) {
    case 'append':
      for (let time = 0; time < step.times; time++) {
        // A place dies once.
        const row = (model.end * 7919) % 0x1_0000_0000
        log.append(step.segment, row)
        model.open.push([step.segment, row])
        model.end++
      }
      return
    case 'mark':
      model.lsn += BigInt(step.lsnStep)
      log.mark(model.lsn)
      model.ended = [...model.ended, { lsn: model.lsn, from: model.end - model.open.length, deaths: model.open }]
      model.open = []
      return
    case 'view': {
      const lsn = BigInt(Math.round(Number(model.lsn) * step.at))
      held.push({ deaths: log.deathsAt(lsn), transactions: model.ended.filter((one) => one.lsn <= lsn) })
      return checkHeld(held.at(-1)!)
    }
    case 'prune': {
      const pruned = Math.floor(model.ended.length * step.at)
      if (pruned === 0) return
      const last = model.ended[pruned - 1]
      model.ended = model.ended.slice(pruned)
      model.first = last.from + last.deaths.length
      return log.prune(model.first)
    }
    case 'fold':
      return log.fold()
  }
}

test('agrees with arrays over any sequence of calls, and no view ever changes', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const log = new DeletionLog()
      const model = new Model()
      const held: Held[] = []
      for (const step of actions) perform(log, model, held, step)
      expect([log.firstSeq, log.endSeq]).toEqual([model.first, model.end])
      for (let lsn = -1n; lsn <= model.lsn + 1n; lsn++) expect(log.endSeqAt(lsn)).toBe(model.endSeqAt(lsn))
      const all = new Set([1, 2, 3, 0xffff_fffd])
      const everything = [...model.ended.flatMap(({ deaths }) => deaths), ...model.open]
      expect(sorted(deathsOf(log.chunksFrom(model.first, all)).map(({ death }) => death))).toEqual(sorted(everything))
      for (const one of held) checkHeld(one)
    }),
    { numRuns: 150 },
  )
})

describe('marks', () => {
  test('an LSN shows the transactions that ended at or before it', () => {
    const log = new DeletionLog()
    log.append(1, 10)
    log.append(1, 11)
    expect(log.endSeqAt(2n ** 63n)).toBe(0)
    log.mark(100n)
    log.append(2, 0)
    log.mark(2n ** 63n)
    log.mark(2n ** 63n + 5n)
    expect([99n, 100n, 101n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n].map((lsn) => log.endSeqAt(lsn))).toEqual([0, 2, 2, 2, 3, 3])
  })

  test('transactions that deleted nothing take no room', () => {
    const log = new DeletionLog()
    log.append(1, 1)
    log.mark(1n)
    const before = log.byteSize
    for (let lsn = 2n; lsn < 10_000n; lsn++) log.mark(lsn)
    expect(log.byteSize).toBe(before)
    expect(log.endSeqAt(5000n)).toBe(1)
  })

  test('what breaks the order is refused', () => {
    const log = new DeletionLog()
    log.append(1, 1)
    log.mark(5n)
    log.append(1, 2)
    expect(() => log.mark(4n)).toThrow(/LSN order/)
    expect(() => log.deathsAt(5n).chunks(0, 2)).toThrow(/held/)
    expect(() => log.prune(2)).toThrow(/ended/)
    log.mark(6n)
    log.prune(1)
    expect(() => log.deathsAt(6n).chunks(0, 2)).toThrow(/held/)
  })

  test('a place that dies twice in a folded transaction is noticed', () => {
    const log = new DeletionLog()
    log.append(1, 1)
    log.append(1, 1)
    expect(() => log.fold()).toThrow(/all of its deaths/)
  })
})

test('memory follows the entries held, not those that ever were', () => {
  const log = new DeletionLog()
  for (let round = 0; round < 200; round++) {
    for (let row = 0; row < 2000; row++) {
      log.append(1, row)
      if (row % 100 === 0 || row === 1900) log.mark(BigInt(round * 2000 + row))
    }
    log.mark(BigInt(round * 2000 + 1999))
    log.prune(log.endSeq - 99)
  }
  expect(log.endSeq).toBe(400_000)
  expect(log.byteSize).toBeLessThan(64 * 1024)
})

test('a large transaction takes about a bit for each row of its segments, in whatever order they die', () => {
  const log = new DeletionLog()
  for (let row = 0; row < 1000; row++) log.append(9, row)
  log.mark(1n)
  const ROWS = 1_000_000
  const SEGMENTS = 10
  const step = 333_667 // coprime with ROWS
  for (let index = 0, row = 0; index < ROWS; index++, row = (row + step) % ROWS) log.append(row % SEGMENTS, Math.floor(row / SEGMENTS))
  expect(log.byteSize).toBeLessThan(ROWS / 4 + 2 * 8 * 65_536)
  const before = log.deathsAt(1n)
  log.mark(2n)
  const { endSeq, firstSeq, chunks } = log.deathsAt(2n)
  expect([firstSeq, endSeq]).toEqual([0, ROWS + 1000])
  const dead = Array.from({ length: SEGMENTS }, () => new Uint8Array(ROWS / SEGMENTS))
  for (const { segments, rows } of chunks(1000, endSeq)) segments.forEach((id, index) => (dead[id][rows[index]] = 1))
  expect(dead.every((rows) => rows.every((row) => row === 1))).toBe(true)
  log.prune(endSeq)
  expect(log.byteSize).toBeLessThan(2 * 8 * 65_536 + 4096)
  expect(deathsOf(before.chunks(0, 1000))).toHaveLength(1000)
})
