import { describe, expect, it } from 'vitest'
import {
  absent,
  begin,
  binary,
  commit,
  i32,
  insert,
  keepalive,
  relation,
  remove,
  text,
  truncate,
  update,
  wal,
  type ColumnSpec,
} from './reference-encoder.test.support.ts'
import { TYPMOD_10_2, decoderOf, key, lines, linesSpec, orders, ordersRelation, ordersSpec, row } from './test-streams.test.support.ts'
import { mirror, onlyBatch, plain } from './test-tables.test.support.ts'

describe('rows that cannot be mirrored', () => {
  it('are undone, close their table and leave others alone', () => {
    const { feed } = decoderOf([orders, lines])
    const nan = binary(Buffer.from('00000000c0000000', 'hex'))
    const events = feed(
      begin(1n),
      ordersRelation,
      relation(6, 'lines', linesSpec, 'n'),
      insert(5, row(1, 'a', 1n)),
      insert(5, [binary(i32(2)), text('partial'), nan]),
      insert(5, row(3, 'c', 1n)),
      insert(6, [text('1'), text('x')]),
      commit(1n, 2n),
    )
    expect(events.map((event) => event.kind)).toEqual(['batch', 'unmirrorable', 'batch', 'watermark'])
    expect(events[0]?.kind === 'batch' && plain(events[0].batch)).toMatchObject({ rows: [[1, 'a', 1n]], endLsns: [] })
    expect(events[1]).toEqual({
      kind: 'unmirrorable',
      table: orders.table,
      code: 'VALUE_UNREPRESENTABLE',
      reason:
        'public.orders: column "amount" holds NaN in the row with id=2, which decimal(10, 2) cannot hold. Change the value; or choose what becomes of such values with source.columns: {public.orders: {amount: {onUnfit: text}}} (or null), or map the column as string, and start again; then moonlink tables resume public.orders goes on',
      openLsn: 1n,
    })
  })

  it('name the column of an old row, too', () => {
    const spec: ColumnSpec[] = [
      { name: 'day', oid: 1082 },
      { name: 'n', oid: 23 },
    ]
    const flagged = spec.map((column) => ({ ...column, isKey: true }))
    const { feed } = decoderOf([mirror('days', spec)])
    const infinite = binary(i32(0x7fffffff))
    const events = feed(begin(1n), relation(5, 'days', flagged, 'f'), remove(5, [infinite, text('1')], 'O'), commit(1n, 2n))
    expect(events[0]).toMatchObject({ kind: 'unmirrorable', reason: expect.stringContaining('column "day" holds infinity') })
  })

  it('close the table as changed where a required column holds a null', () => {
    const { feed } = decoderOf([orders])
    const events = feed(begin(1n), ordersRelation, insert(5, [absent, text('a'), absent]), commit(1n, 2n))
    expect(events[0]).toMatchObject({
      kind: 'unmirrorable',
      code: 'SCHEMA_CHANGED',
      reason: expect.stringContaining('column "id" allows nulls now'),
    })
    // It may do so for longer.
    expect(events[0]).not.toHaveProperty('openLsn')
  })

  it('can be mirrored again after a refresh', () => {
    const { feed, decoder } = decoderOf([orders])
    feed(begin(1n), ordersRelation, insert(5, [absent, text('a'), absent]), commit(1n, 2n))
    decoder.refresh(orders.table)
    const events = feed(begin(3n), insert(5, row(1, 'a', 1n)), commit(3n, 4n))
    expect(onlyBatch(events)).toMatchObject({ rows: [[1, 'a', 1n]], endLsns: [4n] })
  })
})

describe('changes of shape', () => {
  const [id, note, amount] = ordersSpec as [ColumnSpec, ColumnSpec, ColumnSpec]
  it.each<[string, ColumnSpec[], string, string]>([
    ['an added column', [id, note, amount, { name: 'extra', oid: 25 }], 'd', 'column "extra" was added'],
    ['a dropped column', [id, note], 'd', 'column "amount" was dropped or renamed'],
    ['a renamed column', [id, { ...note, name: 'remark' }, amount], 'd', 'column "note" was renamed to "remark"'],
    ['another type', [id, { ...note, oid: 1043 }, amount], 'd', 'column "note" changed from type text to varchar'],
    ['another scale', [id, note, { ...amount, typmod: TYPMOD_10_2 + 1 }], 'd', 'from type numeric(10,2) to numeric(10,3)'],
    ['another key', [{ ...id, isKey: false }, { ...note, isKey: true }, amount], 'i', 'changed from "id" to "note"'],
    ['no key', [{ ...id, isKey: false }, note, amount], 'd', 'changed from "id" to no columns'],
  ])('%s closes the table before its next change', (_, columns, identity, reason) => {
    const { feed } = decoderOf([orders])
    const events = feed(
      begin(1n),
      ordersRelation,
      insert(5, row(1, 'a', 1n)),
      relation(5, 'orders', columns, identity),
      insert(
        5,
        columns.map(() => absent),
      ),
      commit(1n, 2n),
    )
    expect(events.map((event) => event.kind)).toEqual(['batch', 'unmirrorable', 'watermark'])
    expect(events[1]).toMatchObject({ table: orders.table, code: 'SCHEMA_CHANGED', reason: expect.stringContaining(reason) })
  })

  it('the same shape again, in another order or with a longer varchar, changes nothing', () => {
    const spec: ColumnSpec[] = [
      { name: 'id', oid: 23, isKey: true },
      { name: 'v', oid: 1043, typmod: 14 },
    ]
    const { feed } = decoderOf([mirror('t', spec)])
    const events = feed(
      begin(1n),
      relation(5, 't', spec),
      insert(5, [text('1'), text('a')]),
      relation(5, 't', [{ name: 'v', oid: 1043, typmod: 24 }, spec[0]]),
      insert(5, [text('b'), text('2')]),
      commit(1n, 2n),
    )
    expect(onlyBatch(events).rows).toEqual([
      [1, 'a'],
      [2, 'b'],
    ])
  })

  it('notices another table under the name, and another name of the table', () => {
    const { feed } = decoderOf([{ ...orders, relationOid: 4 }])
    const swapped = feed(begin(1n), ordersRelation, insert(5, row(1, 'a', 1n)), commit(1n, 2n))
    expect(swapped[0]).toMatchObject({ code: 'SCHEMA_CHANGED', reason: expect.stringContaining('another has its name') })

    const other = decoderOf([orders])
    const renamed = other.feed(
      begin(1n),
      ordersRelation,
      insert(5, row(1, 'a', 1n)),
      relation(5, 'archive', ordersSpec),
      insert(5, row(2, 'a', 1n)),
      commit(1n, 2n),
    )
    expect(renamed[1]).toMatchObject({ table: orders.table, reason: expect.stringContaining('calls the table public.archive now') })
  })
})

describe('truncate', () => {
  it('stands between the batches of its transaction', () => {
    const { feed } = decoderOf([orders, lines])
    const events = feed(
      begin(1n),
      ordersRelation,
      relation(6, 'lines', linesSpec, 'n'),
      insert(5, row(1, 'a', 1n)),
      truncate(5, 6),
      insert(5, row(2, 'b', 1n)),
      commit(1n, 2n),
    )
    expect(events.map((event) => event.kind)).toEqual(['batch', 'truncate', 'batch', 'batch', 'watermark'])
    expect(events[1]).toEqual({ kind: 'truncate', tables: [orders.table, lines.table], openLsn: 1n })
    expect(events[3]?.kind === 'batch' && plain(events[3].batch)).toMatchObject({ rows: [], endLsns: [2n], changeCounts: [0] })
    expect(events[2]?.kind === 'batch' && plain(events[2].batch)).toMatchObject({ rows: [[2, 'b', 1n]], endLsns: [2n], changeCounts: [1] })
  })

  it('goes out in the middle of a large transaction, whose end is marked all the same', () => {
    const { feed } = decoderOf([orders, lines])
    const events = feed(begin(1n), ordersRelation, relation(6, 'lines', linesSpec, 'n'), insert(5, row(1, 'a', 1n)), truncate(5, 6))
    expect(events.map((event) => event.kind)).toEqual(['batch', 'truncate'])
    expect(feed(insert(5, row(2, 'b', 1n))).map((event) => event.kind)).toEqual(['batch'])
    const ended = feed(commit(1n, 9n))
    expect(ended.map((event) => event.kind)).toEqual(['batch', 'batch', 'watermark'])
    expect(ended.flatMap((event) => (event.kind === 'batch' ? [plain(event.batch)] : []))).toMatchObject([
      { rows: [], endLsns: [9n] },
      { rows: [], endLsns: [9n] },
    ])
  })
})

describe('malformed streams', () => {
  const open = [begin(1n), ordersRelation]
  const cut = (frame: Buffer) => frame.subarray(0, frame.length - 1)
  const longer = (frame: Buffer) => Buffer.concat([frame, Buffer.of(0)])
  it.each<[string, Buffer[]]>([
    ['nothing', [Buffer.alloc(0)]],
    ['another payload', [Buffer.from('x')]],
    ['no message', [wal(Buffer.alloc(0))]],
    ['a message of streaming mode', [wal(Buffer.from('S'))]],
    ['a short keepalive', [cut(keepalive(1n))]],
    ['a short Begin', [cut(begin(1n))]],
    ['two Begins', [begin(1n), begin(2n)]],
    ['a Commit alone', [commit(1n, 2n)]],
    ['another Commit', [begin(1n), commit(2n, 3n)]],
    ['a Commit that ends before it', [begin(2n), commit(2n, 2n)]],
    ['a change outside of a transaction', [ordersRelation, insert(5, row(1, 'a', 1n))]],
    ['an unknown relation', [begin(1n), insert(5, row(1, 'a', 1n))]],
    ['a short Relation', [begin(1n), cut(ordersRelation)]],
    ['a long Relation', [begin(1n), longer(ordersRelation)]],
    ['two columns of a name', [begin(1n), relation(5, 'orders', [ordersSpec[0], ordersSpec[0]])]],
    ['a short Insert', [...open, cut(insert(5, row(1, 'a', 1n)))]],
    ['a long Insert', [...open, longer(insert(5, row(1, 'a', 1n)))]],
    ['too few columns', [...open, insert(5, [absent])]],
    ['a short Update', [...open, cut(update(5, row(1, 'a', 1n)))]],
    ['a long Update', [...open, longer(update(5, row(1, 'a', 1n), key(1)))]],
    ['a short Delete', [...open, cut(remove(5, key(1)))]],
    ['a short Truncate', [...open, cut(truncate(5))]],
    ['a Truncate of something else', [...open, truncate(8)]],
    ['an int4 of one byte', [...open, insert(5, [binary(Buffer.of(1)), absent, absent])]],
  ])('%s is refused', (_, frames) => {
    expect(() => decoderOf([orders]).feed(...frames)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})
