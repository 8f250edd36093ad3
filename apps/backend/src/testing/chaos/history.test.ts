import { expect, test } from 'vitest'
import { checkHistory, type AppendEvent, type ReadEvent } from './history.ts'

const append = (transaction: number, lists: number[], committedAtMs: number | null = transaction): AppendEvent => ({
  transaction,
  lists,
  startedAtMs: transaction - 0.5,
  committedAtMs,
})
const read = (startedAtMs: number, lists: Record<number, number[]>): ReadEvent => ({
  startedAtMs,
  endedAtMs: startedAtMs + 1,
  lists: new Map(Object.entries(lists).map(([list, values]) => [Number(list), values])),
})
const final = new Map([
  [1, [1, 2, 3]],
  [2, [1, 3]],
])
const appends = [append(1, [1, 2]), append(2, [1]), append(3, [1, 2])]

test('a history of states in order is right', () => {
  expect(
    checkHistory(appends, [read(10, { 1: [], 2: [] }), read(20, { 1: [1, 2], 2: [1] }), read(30, { 1: [1, 2, 3], 2: [1, 3] })], final),
  ).toEqual([])
})

test.each([
  ['a lost append', [...appends, append(4, [2])], [], 'transaction 4 was committed and is lost'],
  ['a state that never was', appends, [read(10, { 1: [2], 2: [] })], 'read 0: list 1 is no state'],
  ['a transaction in part', appends, [read(10, { 1: [1, 2, 3], 2: [1] })], 'read 0 shows transaction 3 in part'],
  [
    'a transaction of other lists that is passed over',
    [append(1, [1, 2]), append(2, [1]), append(3, [2])],
    [read(10, { 1: [1], 2: [1, 3] })],
    'read 0 lacks transaction 2, and shows one that began after',
  ],
  ['a read that goes back', appends, [read(10, { 1: [1, 2], 2: [1] }), read(20, { 1: [1], 2: [1] })], 'read 1 lacks transaction 2'],
])('%s is found', (_, events, reads, message) => {
  expect(checkHistory(events, reads, final).join('\n')).toContain(message)
})
