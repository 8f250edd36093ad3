import { expect, test } from 'vitest'
import { begin, commit, insert, relation } from './reference-encoder.test.support.ts'
import { decoderOf, lines, linesSpec, orders, ordersRelation, ordersSpec, row } from './test-streams.test.support.ts'

test('a decoder goes on where another stopped, without the descriptions that came before', () => {
  const first = decoderOf([orders, lines])
  first.feed(begin(1n), ordersRelation, insert(5, row(1, 'a', 1n)), commit(1n, 2n))
  const state = first.decoder.exportState()
  const second = decoderOf([orders, lines], { startLsn: 2n })
  second.decoder.importState(state)
  const events = second.feed(begin(3n), insert(5, row(2, 'b', 2n)), commit(3n, 4n))
  expect(events).toMatchObject([
    { kind: 'batch', batch: { ops: Uint8Array.of(0), marks: { endLsns: [4n] } } },
    { kind: 'watermark', lsn: 4n },
  ])
})

test('the state is that of the last transaction end, whatever the open transaction described since', () => {
  const { decoder, feed } = decoderOf([orders, lines])
  feed(begin(1n), ordersRelation, insert(5, row(1, 'a', 1n)), commit(1n, 2n))
  const state = decoder.exportState()
  expect(decoder.isCut).toBe(true)
  feed(begin(3n), relation(5, 'orders', ordersSpec.slice(0, 2)), relation(6, 'lines', linesSpec))
  expect(decoder.isCut).toBe(false)
  expect(decoder.exportState()).toEqual(state)
  feed(commit(3n, 4n))
  expect(decoder.exportState()).not.toEqual(state)
})

test('what ended before the start is neither yielded nor reported; where it ended is', () => {
  const { feed } = decoderOf([orders], { startLsn: 4n, skipThrough: () => 4n })
  const old = feed(begin(1n), ordersRelation, insert(5, row(1, 'a', 1n)), commit(1n, 4n))
  expect(old.filter((event) => event.kind === 'batch')).toEqual([])
  expect(old.filter((event) => event.kind === 'watermark').every((event) => event.lsn === 4n)).toBe(true)
  expect(feed(begin(5n), insert(5, row(2, 'b', 2n)), commit(5n, 6n))).toMatchObject([{ kind: 'batch' }, { kind: 'watermark', lsn: 6n }])
})

test('a state of a later version, or none at all, is refused', () => {
  const { decoder } = decoderOf([orders])
  const refused = expect.objectContaining({ kind: 'corrupt', code: 'PGOUTPUT_STATE' })
  for (const text of ['', '{"version":2,"relations":[]}', '{"version":1,"relations":[{"oid":1}]}']) {
    expect(() => decoder.importState(Buffer.from(text))).toThrow(refused)
  }
})
