import type { Place } from '@moonlink/core'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DeletionLog, NO_SEGMENT, type DeadPlaces } from './deletion-log.ts'

const pairs = ({ segments, rows }: DeadPlaces) => Array.from(segments, (segment, index) => [segment, rows[index]] as const)

/** The log as arrays that are copied at every change. */
class Model {
  first = 0
  entries: (readonly [segment: number, row: number])[] = []
  marks: { readonly lsn: bigint; readonly seq: number }[] = []
  lsn = 0n

  get end(): number {
    return this.first + this.entries.length
  }

  get lastMark(): number {
    return Math.max(this.first, ...this.marks.map(({ seq }) => seq))
  }

  endSeqAt(lsn: bigint): number {
    return Math.max(this.first, ...this.marks.filter((mark) => mark.lsn <= lsn).map(({ seq }) => seq))
  }
}

type Action =
  | { readonly kind: 'append'; readonly segment: number; readonly row: number; readonly times: number }
  | { readonly kind: 'mark'; readonly lsnStep: number }
  | { readonly kind: 'view' | 'prune' | 'truncate'; readonly a: number; readonly b: number }
  | { readonly kind: 'remap'; readonly segment: number; readonly a: number }

const fraction = fc.double({ min: 0, max: 1, noNaN: true })
const segment = fc.constantFrom(1, 2, 3, 0xffff_fffd)
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('append' as const), segment, row: fc.nat({ max: 0xffff_ffff }), times: fc.constantFrom(1, 2, 3, 900) }),
  fc.record({ kind: fc.constant('mark' as const), lsnStep: fc.nat({ max: 3 }) }),
  fc.record({ kind: fc.constantFrom('view' as const, 'prune' as const, 'truncate' as const), a: fraction, b: fraction }),
  fc.record({ kind: fc.constant('remap' as const), segment, a: fraction }),
)

/** Where the rows of a remapped segment go: some of them nowhere. */
const moved = (row: number): Place | -1 => (row % 3 === 0 ? -1 : { segment: 9, row: row >>> 1 })

function perform(
  log: DeletionLog,
  model: Model,
  held: { view: DeadPlaces; contents: (readonly [number, number])[] }[],
  step: Action,
): void {
  const within = (from: number, share: number) => from + Math.round((model.end - from) * share)
  switch (step.kind) {
    case 'append':
      for (let time = 0; time < step.times; time++) {
        const row = (step.row + time) >>> 0
        expect(log.append(step.segment, row)).toBe(model.end)
        model.entries = [...model.entries, [step.segment, row]]
      }
      return
    case 'mark':
      model.lsn += BigInt(step.lsnStep)
      log.mark(model.lsn)
      model.marks.push({ lsn: model.lsn, seq: model.end })
      return
    case 'view': {
      const from = within(model.first, step.a)
      const to = within(from, step.b)
      const view = log.entries(from, to)
      const contents = model.entries.slice(from - model.first, to - model.first)
      expect(pairs(view)).toEqual(contents)
      held.push({ view, contents })
      return
    }
    case 'prune': {
      const seq = within(model.first, step.a * 0.9)
      log.prune(seq)
      model.entries = model.entries.slice(seq - model.first)
      model.first = seq
      return
    }
    case 'truncate': {
      const seq = within(model.lastMark, step.a)
      log.truncateTo(seq)
      model.entries = model.entries.slice(0, seq - model.first)
      return
    }
    case 'remap': {
      const from = within(model.first, step.a)
      log.remapSegment(step.segment, moved, from)
      model.entries = model.entries.map((entry, index) => {
        if (entry[0] !== step.segment || model.first + index < from) return entry
        const place = moved(entry[1])
        return place === -1 ? [NO_SEGMENT, 0] : [place.segment, place.row]
      })
    }
  }
}

test('agrees with arrays over any sequence of calls, and no view ever changes', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const log = new DeletionLog()
      const model = new Model()
      const held: { view: DeadPlaces; contents: (readonly [number, number])[] }[] = []
      for (const step of actions) perform(log, model, held, step)
      expect([log.firstSeq, log.endSeq]).toEqual([model.first, model.end])
      expect(pairs(log.entries(log.firstSeq, log.endSeq))).toEqual(model.entries)
      for (let lsn = -1n; lsn <= model.lsn + 1n; lsn++) expect(log.endSeqAt(lsn)).toBe(model.endSeqAt(lsn))
      for (const { view, contents } of held) expect(pairs(view)).toEqual(contents)
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
    expect(() => log.truncateTo(0)).toThrow(/ended transaction/)
    expect(() => log.entries(0, 3)).toThrow(/held/)
    expect(() => log.prune(3)).toThrow(/exist/)
    log.prune(2)
    expect(() => log.entries(1, 2)).toThrow(/held/)
  })
})

test('memory follows the entries held, not those that ever were', () => {
  const log = new DeletionLog()
  for (let round = 0; round < 200; round++) {
    for (let row = 0; row < 2000; row++) {
      log.append(1, row)
      if (row % 100 === 0) log.mark(BigInt(round * 2000 + row))
    }
    log.mark(BigInt(round * 2000 + 1999))
    log.prune(log.endSeq - 100)
  }
  expect(log.endSeq).toBe(400_000)
  expect(log.byteSize).toBeLessThan(64 * 1024)
})
