import { describe, expect, it } from 'vitest'
import {
  absent,
  begin,
  binary,
  commit,
  i32,
  insert,
  keepalive,
  numeric,
  relation,
  remove,
  text,
  truncate,
  unchanged,
  update,
  wal,
  type ColumnSpec,
} from './reference-encoder.test.support.ts'
import { decoderOf, fullSpec, key, lines, linesSpec, orders, ordersRelation, ordersSpec, row } from './test-streams.test.support.ts'
import { mirror, onlyBatch, plain } from './test-tables.test.support.ts'

describe('transactions', () => {
  it('turns inserts, updates and deletes into one batch with marks, then a watermark', () => {
    const { feed } = decoderOf([orders])
    const events = feed(
      begin(100n),
      ordersRelation,
      insert(5, row(1, 'a', 150n)),
      insert(5, row(2, null, -1n)),
      commit(100n, 120n, 1_700_000_000_000),
      begin(130n),
      update(5, row(1, 'b', 0n)),
      update(5, row(3, 'c', 7n), key(2)),
      remove(5, key(3)),
      commit(130n, 140n, 1_700_000_001_000),
    )
    expect(events).toHaveLength(2)
    expect(onlyBatch(events)).toEqual({
      ops: ['insert', 'insert', 'update', 'updateOld', 'delete'],
      rows: [
        [1, 'a', 150n],
        [2, null, -1n],
        [1, 'b', 0n],
        [3, 'c', 7n],
      ],
      old: [[2], [3]],
      unchanged: [],
      endLsns: [120n, 140n],
      changeCounts: [2, 5],
    })
    expect(events[0]).toMatchObject({ batch: { marks: { commitTimesMs: [1_700_000_000_000, 1_700_000_001_000] } } })
    expect(events[1]).toEqual({ kind: 'watermark', lsn: 140n, sourceLsn: 140n, commitTimeMs: 1_700_000_001_000 })
  })

  it('can be taken in the middle; a table without new changes still gets its mark', () => {
    const { feed, decoder } = decoderOf([orders])
    const first = feed(begin(100n), ordersRelation, insert(5, row(1, 'a', 1n)))
    expect(first.map((event) => event.kind)).toEqual(['batch'])
    expect(onlyBatch(first)).toMatchObject({ rows: [[1, 'a', 1n]], endLsns: [], changeCounts: [] })
    expect(decoder.inTransaction).toBe(true)
    const second = feed(insert(5, row(2, 'b', 2n)))
    // The first batch's memory is in use again only now.
    expect(onlyBatch(second)).toMatchObject({ rows: [[2, 'b', 2n]] })
    const third = feed(commit(100n, 120n))
    expect(onlyBatch(third)).toEqual({ ops: [], rows: [], old: [], unchanged: [], endLsns: [120n], changeCounts: [0] })
    expect(third[1]).toMatchObject({ kind: 'watermark', lsn: 120n })
    expect(feed()).toEqual([])
  })

  it('keeps what was taken while more is fed, until the next take', () => {
    const { feed, decoder } = decoderOf([orders])
    const [event] = feed(begin(100n), ordersRelation, insert(5, row(1, 'first', 1n)))
    for (let id = 2; id < 500; id++) decoder.feed(insert(5, row(id, 'other', 2n)))
    expect(event?.kind === 'batch' && plain(event.batch).rows).toEqual([[1, 'first', 1n]])
    expect(decoder.rowsBuffered).toBe(498)
    expect(decoder.bytesBuffered).toBeGreaterThan(498 * 30)
    expect(onlyBatch(decoder.take()).rows).toHaveLength(498)
    expect(decoder.rowsBuffered).toBe(0)
  })

  it('gives ended transactions and a watermark while another is open, and keeps that for later', () => {
    const { feed, decoder } = decoderOf([orders, lines], { openTransactionBytes: 10_000 })
    const cents = binary(numeric(1n, 2))
    const first = feed(
      begin(1n),
      ordersRelation,
      relation(6, 'lines', linesSpec, 'n'),
      insert(5, row(1, 'a', 1n)),
      update(5, [binary(i32(1)), unchanged, cents]),
      commit(1n, 2n),
      begin(3n),
      insert(5, row(2, 'b', 2n)),
      update(5, row(3, 'c', 3n), key(1)),
      update(5, [binary(i32(2)), unchanged, unchanged]),
      insert(6, [text('7'), text('x')]),
    )
    expect(first.map((event) => event.kind)).toEqual(['batch', 'watermark'])
    expect(onlyBatch(first)).toEqual({
      ops: ['insert', 'update'],
      rows: [
        [1, 'a', 1n],
        [1, null, 1n],
      ],
      old: [],
      unchanged: [{ column: 1, rows: [1] }],
      endLsns: [2n],
      changeCounts: [2],
    })
    expect(first[1]).toMatchObject({ lsn: 2n })
    expect(decoder.rowsBuffered).toBe(4)
    expect(feed()).toEqual([])
    const second = feed(remove(5, key(3)), commit(3n, 4n))
    expect(second.map((event) => (event.kind === 'batch' ? event.batch.table.name : event.kind))).toEqual(['orders', 'lines', 'watermark'])
    expect(onlyBatch(second.slice(0, 1))).toEqual({
      ops: ['insert', 'updateOld', 'update', 'delete'],
      rows: [
        [2, 'b', 2n],
        [3, 'c', 3n],
        [2, null, null],
      ],
      old: [[1], [3]],
      unchanged: [
        { column: 1, rows: [2] },
        { column: 2, rows: [2] },
      ],
      endLsns: [4n],
      changeCounts: [4],
    })
    expect(decoder.rowsBuffered).toBe(0)
  })

  it('separates tables, in the order in which they changed', () => {
    const { feed } = decoderOf([orders, lines])
    const events = feed(
      begin(1n),
      relation(6, 'lines', linesSpec, 'n'),
      insert(6, [text('1'), text('x')]),
      ordersRelation,
      insert(5, row(1, 'a', 1n)),
      insert(6, [text('2'), absent]),
      commit(1n, 2n),
    )
    expect(events.map((event) => (event.kind === 'batch' ? event.batch.table.name : event.kind))).toEqual(['lines', 'orders', 'watermark'])
  })

  it('takes columns by name, leaves excluded ones out and skips tables that are not mirrored', () => {
    const mirrored = { ...orders, excluded: new Set(['secret']) }
    const { feed } = decoderOf([mirrored])
    const events = feed(
      begin(1n),
      relation(5, 'orders', [ordersSpec[2], { name: 'secret', oid: 600 }, ordersSpec[0], ordersSpec[1]]),
      relation(9, 'other', linesSpec),
      insert(9, [text('1'), text('x')]),
      insert(5, [text('1.50'), text('(1,2)'), text('7'), text('a')]),
      truncate(9),
      commit(1n, 2n),
    )
    expect(onlyBatch(events).rows).toEqual([[7, 'a', 150n]])
  })

  it('moves the watermark by keepalives, but never within a transaction', () => {
    const { feed, decoder } = decoderOf([orders])
    expect(feed(keepalive(50n, true))).toEqual([{ kind: 'watermark', lsn: 50n, sourceLsn: 50n, commitTimeMs: null }])
    expect(decoder.lastKeepalive).toEqual({ walEnd: 50n, replyRequested: true })
    expect(feed(begin(60n), keepalive(70n))).toEqual([])
    expect(feed(commit(60n, 65n))).toEqual([{ kind: 'watermark', lsn: 65n, sourceLsn: 70n, commitTimeMs: 946_684_800_000 }])
    expect(feed(keepalive(40n))).toEqual([])
  })

  it('drops what the copy of a table has already', () => {
    const { feed } = decoderOf([orders, lines], { skipThrough: ({ name }) => (name === 'orders' ? 120n : 0n) })
    const before = feed(
      begin(100n),
      // A shape that no longer exists does not matter as long as nothing of it is wanted.
      relation(5, 'orders', linesSpec),
      relation(6, 'lines', linesSpec, 'n'),
      insert(5, [text('1'), text('old')]),
      insert(6, [text('1'), text('x')]),
      truncate(5),
      commit(100n, 120n),
    )
    expect(onlyBatch(before).rows).toEqual([[1, 'x']])
    const after = feed(begin(120n), ordersRelation, insert(5, row(1, 'a', 1n)), commit(120n, 130n))
    expect(onlyBatch(after).rows).toEqual([[1, 'a', 1n]])
  })

  it('ignores origins, types and logical messages', () => {
    const { feed } = decoderOf([])
    expect(feed(begin(1n), wal(Buffer.from('Oxxxxxxxxy\0')), wal(Buffer.from('Y')), wal(Buffer.from('M')), commit(1n, 2n))).toHaveLength(1)
  })
})

describe('identity', () => {
  it('is an update where the old key equals the new one', () => {
    const { feed } = decoderOf([orders])
    const events = feed(begin(1n), ordersRelation, update(5, row(1, 'a', 1n), key(1)), commit(1n, 2n))
    expect(onlyBatch(events)).toMatchObject({ ops: ['update'], old: [] })
  })

  it('takes the key from a whole old row under REPLICA IDENTITY FULL', () => {
    const { feed } = decoderOf([orders])
    const events = feed(
      begin(1n),
      relation(5, 'orders', fullSpec, 'f'),
      update(5, row(1, 'b', 2n), row(1, 'a', 1n), 'O'),
      update(5, row(2, 'b', 2n), row(1, 'b', 2n), 'O'),
      remove(5, row(2, 'b', 2n), 'O'),
      commit(1n, 2n),
    )
    expect(onlyBatch(events)).toMatchObject({ ops: ['update', 'updateOld', 'delete'], old: [[1], [2]] })
  })

  it('gives whole old rows for a table without a key', () => {
    const { feed } = decoderOf([lines])
    const flagged = linesSpec.map((column) => ({ ...column, isKey: true }))
    const events = feed(
      begin(1n),
      relation(6, 'lines', flagged, 'f'),
      insert(6, [text('1'), text('x')]),
      update(6, [text('1'), text('y')], [text('1'), text('x')], 'O'),
      remove(6, [text('1'), absent], 'O'),
      commit(1n, 2n),
    )
    expect(onlyBatch(events)).toMatchObject({
      ops: ['insert', 'updateOld', 'delete'],
      rows: [
        [1, 'x'],
        [1, 'y'],
      ],
      old: [
        [1, 'x'],
        [1, null],
      ],
    })
  })

  it('orders the old key as the schema does', () => {
    const spec: ColumnSpec[] = [
      { name: 'region', oid: 25, isKey: true },
      { name: 'id', oid: 23, isKey: true },
    ]
    const mirrored = mirror('pair', spec)
    const swapped = { ...mirrored, schema: { ...mirrored.schema, identifierFieldIds: [2, 1] } }
    const { feed } = decoderOf([swapped])
    const events = feed(begin(1n), relation(5, 'pair', spec), remove(5, [text('eu'), text('7')]), commit(1n, 2n))
    expect(onlyBatch(events).old).toEqual([[7, 'eu']])
  })

  it('closes a table whose changes do not say which row they mean', () => {
    const { feed } = decoderOf([lines])
    const events = feed(
      begin(1n),
      relation(6, 'lines', linesSpec, 'n'),
      insert(6, [text('1'), text('x')]),
      update(6, [text('1'), text('y')]),
      insert(6, [text('2'), text('z')]),
      commit(1n, 2n),
    )
    expect(onlyBatch(events).rows).toEqual([[1, 'x']])
    expect(events[1]).toMatchObject({ kind: 'unmirrorable', code: 'IDENTITY_MISSING' })
    expect(events.map((event) => event.kind)).toEqual(['batch', 'unmirrorable', 'watermark'])
  })
})

describe('unchanged TOAST values', () => {
  it('count as the room that they will take at least', () => {
    const { feed, decoder } = decoderOf([orders], { openTransactionBytes: 10_000 })
    feed(begin(1n), ordersRelation)
    const before = decoder.bytesBuffered
    feed(update(5, [binary(i32(2)), unchanged, unchanged]))
    expect(decoder.bytesBuffered - before).toBeGreaterThan(4000)
  })

  it('are named by cell', () => {
    const { feed } = decoderOf([orders])
    const cents = binary(numeric(1n, 2))
    const events = feed(
      begin(1n),
      ordersRelation,
      update(5, row(1, 'a', 1n)),
      update(5, [binary(i32(2)), unchanged, cents]),
      update(5, [binary(i32(3)), unchanged, unchanged]),
      commit(1n, 2n),
    )
    expect(onlyBatch(events)).toMatchObject({
      rows: [
        [1, 'a', 1n],
        [2, null, 1n],
        [3, null, null],
      ],
      unchanged: [
        { column: 1, rows: [1, 2] },
        { column: 2, rows: [2] },
      ],
    })
  })

  it('come from the whole old row where there is one, a null among them', () => {
    const { feed } = decoderOf([orders])
    const events = feed(
      begin(1n),
      relation(5, 'orders', fullSpec, 'f'),
      update(5, [binary(i32(1)), unchanged, unchanged], [binary(i32(1)), text('kept'), absent], 'O'),
      commit(1n, 2n),
    )
    expect(onlyBatch(events)).toMatchObject({ ops: ['update'], rows: [[1, 'kept', null]], unchanged: [] })
  })

  it('come from the old key for key columns only', () => {
    const spec: ColumnSpec[] = [
      { name: 'k', oid: 25, isKey: true },
      { name: 'v', oid: 25 },
    ]
    const { feed } = decoderOf([mirror('big', spec)])
    const events = feed(begin(1n), relation(5, 'big', spec), update(5, [unchanged, unchanged], [text('key'), absent]), commit(1n, 2n))
    expect(onlyBatch(events)).toMatchObject({ ops: ['update'], rows: [['key', null]], unchanged: [{ column: 1, rows: [0] }] })
  })

  it('close the table in an insert, where no earlier row has them', () => {
    const { feed } = decoderOf([orders])
    const events = feed(begin(1n), ordersRelation, insert(5, [binary(i32(4)), unchanged, absent]), commit(1n, 2n))
    expect(events[0]).toMatchObject({ kind: 'unmirrorable', code: 'TOAST_VALUE_MISSING', reason: expect.stringContaining('id=4') })
  })
})
