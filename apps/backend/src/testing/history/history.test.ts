import { parseLsn, type Lsn } from '@moonlink/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { checkHistory, type AppendEvent, type History, type ReadEvent } from './history.ts'

const lsn = (value: number) => parseLsn(`0/${value.toString(16)}`)
const append = (transaction: number, lists: string[], committedAtMs: number | null = transaction): AppendEvent => ({
  transaction,
  lists,
  committedAtMs,
})
const read = (at: number, rows: ReadEvent['rows'], more: Partial<ReadEvent> = {}): ReadEvent => ({
  startedAtMs: 10,
  endedAtMs: 11,
  tables: ['a', 'b'],
  hasAllOfMs: null,
  askedLsn: null,
  lsn: lsn(at),
  rows,
  ...more,
})
const appends = [append(1, ['a.1', 'b.1']), append(2, ['a.1']), append(3, ['a.1', 'b.1'])]
/** Each transaction ends at ten times its number. */
const history = (reads: readonly ReadEvent[], more: Partial<History> = {}): History => ({
  appends,
  reads,
  commits: new Map([1, 2, 3].map((transaction) => [transaction, lsn(transaction * 10)])),
  final: new Map([
    ['a.1', [1, 2, 3]],
    ['b.1', [1, 3]],
  ]),
  ...more,
})
const shown = (a: number[], b: number[]): ReadEvent['rows'] => [
  ['a.1', a],
  ['b.1', b],
]

test('reads of what was committed up to their LSNs are right, in any order where they chose those', () => {
  const reads = [
    read(9, shown([], []), { startedAtMs: 0, endedAtMs: 12 }),
    read(10, shown([1], [1])),
    read(25, shown([1, 2], [1]), { startedAtMs: 20, endedAtMs: 21, hasAllOfMs: 2.5 }),
    read(10, [['b.1', [1]]], { tables: ['b'], startedAtMs: 30, endedAtMs: 31, askedLsn: lsn(10) }),
    read(30, shown([1, 2, 3], [1, 3]), { startedAtMs: 40, endedAtMs: 41, hasAllOfMs: 40 }),
  ]
  expect(checkHistory(history(reads))).toEqual([])
})

test('what a client never learned of happened where the log of the source has it; an id that a crash gave out again is of the last', () => {
  const unknown = [
    append(2, ['b.1'], null),
    append(1, ['a.1', 'b.1']),
    append(2, ['a.1'], null),
    append(3, ['a.1', 'b.1']),
    append(4, ['a.1'], null),
  ]
  expect(checkHistory(history([read(30, shown([1, 2, 3], [1, 3]), { hasAllOfMs: 9 })], { appends: unknown }))).toEqual([])
})

test.each<[string, Partial<History>, readonly ReadEvent[], string]>([
  ['a lost append', { appends: [...appends, append(4, ['b.1'])] }, [], 'transaction 4 was committed, and the source'],
  [
    'a source that is not what its log says',
    {
      final: new Map([
        ['a.1', [1, 3, 2]],
        ['b.1', [1, 3]],
      ]),
    },
    [],
    'list a.1 is not what',
  ],
  ['a lacking append', {}, [read(25, shown([1], [1]))], 'read 0 at 0/19: list a.1 lacks 2'],
  ['an older state than it says', {}, [read(30, shown([1, 2], [1]))], 'list b.1 lacks 3'],
  ['a newer state than it says', {}, [read(20, shown([1, 2, 3], [1, 3]))], 'list a.1 shows 3, which was not there'],
  ['a transaction in part', {}, [read(30, shown([1, 2, 3], [1]))], 'list b.1 lacks 3'],
  ['an append that was rolled back', {}, [read(20, shown([1, -2, 2], [1]))], 'list a.1 shows -2, which was not there'],
  ['a list in another order', {}, [read(20, shown([2, 1], [1]))], 'list a.1 is in another order'],
  ['a value that is there twice', {}, [read(20, shown([1, 2, 2], [1]))], 'list a.1 is in another order, or has values twice: 1 2 2'],
  ['a doubled row', {}, [read(10, [...shown([1], [1]), ['a.1', [1]]])], 'list a.1 has 2 rows'],
  ['an old row beside the new one', {}, [read(20, [...shown([1, 2], [1]), ['a.1', [1]]])], 'list a.1 has 2 rows'],
  ['a missing row', {}, [read(10, [['a.1', [1]]])], 'list b.1 has 0 rows'],
  ['an empty read', {}, [read(10, [])], 'list a.1 has 0 rows'],
  ['a row that never was', {}, [read(10, [...shown([1], [1]), ['a.2', []]])], 'there is no list a.2'],
  ['a read of another LSN', {}, [read(10, shown([1], [1]), { askedLsn: lsn(20) })], 'it was asked for 0/14'],
  ['a read that is older than what it waited for', {}, [read(19, shown([1], [1]), { hasAllOfMs: 2.5 })], 'read 0 waited for transaction 2'],
  [
    'a read that goes back',
    {},
    [read(20, shown([1, 2], [1])), read(10, shown([1], [1]), { startedAtMs: 20, endedAtMs: 21 })],
    'read 1 is of an LSN before the one of read 0',
  ],
  [
    'a read that goes back behind one that another overlapped',
    {},
    [
      read(20, shown([1, 2], [1]), { startedAtMs: 10, endedAtMs: 15 }),
      read(10, shown([1], [1]), { startedAtMs: 11, endedAtMs: 17 }),
      read(10, shown([1], [1]), { startedAtMs: 20, endedAtMs: 21 }),
    ],
    'read 2 is of an LSN before the one of read 0',
  ],
])('%s is found', (_, more, reads, message) => {
  expect(checkHistory(history(reads, more)).join('\n')).toContain(message)
})

/** Of a correct system: when its transactions began, were committed and were learned of; and reads of its states. */
interface Played {
  readonly history: History
  /** Reads that show something. */
  readonly filled: readonly number[]
}
const lists = ['a.1', 'a.2', 'b.1', 'b.2', 'c.1']
const transaction = fc.record({
  lists: fc.uniqueArray(fc.constantFrom(...lists), { minLength: 1 }),
  outcome: fc.constantFrom('committed', 'committed', 'committed', 'unlearned', 'lost'),
  answerMs: fc.double({ min: 0, max: 5, noNaN: true }),
})
const reading = fc.record({
  tables: fc.uniqueArray(fc.constantFrom<string>('a', 'b', 'c'), { minLength: 1 }),
  startedAtMs: fc.double({ min: 0, max: 60, noNaN: true }),
  tookMs: fc.double({ min: 0, max: 20, noNaN: true }),
  how: fc.constantFrom('latest', 'waited', 'past'),
  /** How far within what it may show. */
  part: fc.double({ min: 0, max: 1, noNaN: true }),
})
const played = fc
  .tuple(fc.array(transaction, { maxLength: 30 }), fc.array(reading, { minLength: 1, maxLength: 15 }))
  .map(([transactions, readings]) => {
    // The n-th is committed at n ms and n * 16.
    const commits = new Map(
      transactions.flatMap(({ outcome }, index) => (outcome === 'lost' ? [] : [[index + 1, lsn((index + 1) * 16)] as const])),
    )
    const at = (list: string, until: Lsn) =>
      [...commits].flatMap(([id, end]) => (end <= until && transactions[id - 1].lists.includes(list) ? [id] : []))
    const newest = (ms: number) => Math.min(Math.floor(ms), transactions.length) * 16
    const reads: ReadEvent[] = []
    for (const { how, part, startedAtMs, tables, tookMs } of readings.toSorted((a, b) => a.startedAtMs - b.startedAtMs)) {
      const endedAtMs = startedAtMs + tookMs
      const shownBefore = reads
        .filter((other) => other.askedLsn === null && other.endedAtMs < startedAtMs)
        .map((other) => Number(other.lsn))
      const least = how === 'past' ? 0 : Math.max(0, ...shownBefore, how === 'waited' ? newest(startedAtMs) : 0)
      const state = lsn(Math.round(least + part * (Math.max(newest(endedAtMs), least) - least)))
      reads.push({
        startedAtMs,
        endedAtMs,
        tables,
        hasAllOfMs: how === 'waited' ? startedAtMs : null,
        askedLsn: how === 'past' ? state : null,
        lsn: state,
        rows: lists.filter((list) => tables.includes(list[0])).map((list) => [list, at(list, state)]),
      })
    }
    const events = transactions.map(({ answerMs, lists: touched, outcome }, index) =>
      append(index + 1, touched, outcome === 'committed' ? index + 1 + answerMs : null),
    )
    const final = new Map(lists.map((list) => [list, at(list, lsn(16 * transactions.length))]))
    const filled = [...reads.keys()].filter((index) => reads[index].rows.some(([, values]) => values.length > 0))
    return { history: { appends: events, reads, commits, final }, filled } satisfies Played
  })

test('every history of a system that is right is right', () => {
  fc.assert(
    fc.property(played, ({ history: right }) => {
      expect(checkHistory(right)).toEqual([])
    }),
    { numRuns: 300 },
  )
})

test('no history is right any more once a read shows something else', () => {
  const spoil = fc.constantFrom<(rows: ReadEvent['rows'], at: number) => ReadEvent['rows']>(
    (rows, at) => rows.filter((_, index) => index !== at),
    (rows, at) => [...rows, rows[at]],
    (rows, at) => rows.with(at, [rows[at][0], rows[at][1].slice(0, -1)]),
    (rows, at) => rows.with(at, [rows[at][0], rows[at][1].slice(1)]),
    (rows, at) => rows.with(at, [rows[at][0], [...rows[at][1], 99]]),
    (rows, at) => rows.with(at, [rows[at][0], [...rows[at][1], rows[at][1][0]]]),
  )
  fc.assert(
    fc.property(played, fc.nat(), spoil, ({ filled, history: right }, choice, change) => {
      fc.pre(filled.length > 0)
      const index = filled[choice % filled.length]
      const one = right.reads[index]
      const at = one.rows.findIndex(([, values]) => values.length > 0)
      const reads = right.reads.with(index, { ...one, rows: change(one.rows, at) })
      expect(checkHistory({ ...right, reads })).not.toEqual([])
    }),
    { numRuns: 300 },
  )
})
