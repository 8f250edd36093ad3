import type { ChangeBatch, SourceEvent } from '@moonlink/core'
import * as fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { MemorySpoolFiles } from '../spool/memory-spool-files.test.support.ts'
import {
  begin,
  beginPrepare,
  commit,
  commitPrepared,
  insert,
  keepalive,
  prepare,
  relation,
  remove,
  rollbackPrepared,
  streamAbort,
  streamCommit,
  streamStart,
  streamStop,
  truncate,
  within,
} from './reference-encoder.test.support.ts'
import { decoderOf, key, lines, linesSpec, orders, ordersRelation, ordersSpec, row } from './test-streams.test.support.ts'
import { rowsOf } from './test-tables.test.support.ts'

/** What a consumer makes of the events: the changes of each table in each transaction, by its end. */
class Story {
  readonly ended: Record<string, Record<string, string[]>> = {}
  private readonly open: Record<string, string[]> = {}

  add(events: readonly SourceEvent[]): this {
    for (const event of events) {
      if (event.kind === 'truncate') for (const { name } of event.tables) (this.open[name] ??= []).push('truncate')
      else if (event.kind === 'batch') this.addBatch(event.batch)
    }
    return this
  }

  private addBatch({ ops, rows, old, marks, table: { name } }: ChangeBatch): void {
    const [news, olds] = [rowsOf(rows), rowsOf(old)]
    let next = 0
    let oldNext = 0
    for (let index = 0; index <= ops.length; index++) {
      marks.changeCounts.forEach((count, mark) => {
        if (count !== index) return
        const transaction = (this.ended[String(marks.endLsns[mark])] ??= {})
        transaction[name] = this.open[name] ?? []
        this.open[name] = []
      })
      if (index === ops.length) return
      const text = (values: unknown) => JSON.stringify(values, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))
      ;(this.open[name] ??= []).push(`${ops[index]} ${ops[index] === 3 ? text(olds[oldNext++]) : text(news[next++])}`)
    }
  }
}

interface Change {
  kind: 'insert' | 'delete' | 'other' | 'truncate'
  id: number
  size: number
}
type Act = Change | { kind: 'savepoint' | 'rollback' | 'release' | 'pause' }

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('insert' as const, 'insert' as const, 'delete' as const, 'other' as const, 'truncate' as const),
      id: fc.nat(1000),
      size: fc.oneof(fc.nat(20), fc.nat(3000)),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('savepoint' as const, 'rollback' as const, 'release' as const, 'pause' as const) }),
  },
)
const transactionArbitrary = fc.record({
  acts: fc.array(act, { maxLength: 25 }),
  end: fc.constantFrom('commit', 'commit', 'commit', 'abort', 'prepare', 'prepare and roll back'),
  isStreamed: fc.boolean(),
})

/**
 * Plays transactions side by side, as a server would send them, and says what they come to. Subtransactions get their ids when they first
 * write, parents first; one that is rolled back has one abort for each that wrote, children first.
 */
class Server {
  readonly frames: Buffer[] = []
  /** The same as one transaction after the other. */
  readonly plain: Buffer[] = [ordersRelation, relation(6, 'lines', linesSpec)]
  private lsn = 1000n
  private nextXid = 10

  nextLsn(): bigint {
    return (this.lsn += 10n)
  }

  *play({ acts, end, isStreamed }: { acts: readonly Act[]; end: string; isStreamed: boolean }): Generator<void> {
    const xid = this.nextXid++
    /** Savepoints: the xid, once one is given, and where the transaction's changes stood. */
    const levels: { xid: number | null; from: number; children: number[] }[] = [{ xid, from: 0, children: [] }]
    const kept: Buffer[] = []
    let isFirst = true
    let isDescribed = false
    let block: Buffer[] = []
    const flush = () => {
      if (!isStreamed || block.length === 0) return
      this.frames.push(streamStart(xid, isFirst), ...block, streamStop())
      isFirst = false
      block = []
    }
    for (const next of acts) {
      if ('size' in next) {
        for (const level of levels) level.xid ??= this.nextXid++
        const message = this.message(next)
        kept.push(message)
        const subxid = levels.at(-1)!.xid!
        if (!isDescribed) block.push(within(subxid, ordersRelation), within(subxid, relation(6, 'lines', linesSpec)))
        if (!isDescribed) block.push(within(subxid, relation(7, 'unknown', linesSpec)))
        isDescribed = true
        block.push(within(subxid, message), within(subxid, insert(7, row(1, 'x'.repeat(next.size), 1n))))
      } else if (next.kind === 'savepoint') levels.push({ xid: null, from: kept.length, children: [] })
      else if (next.kind === 'release') {
        if (levels.length === 1) continue
        const level = levels.pop()!
        levels.at(-1)!.children.push(...level.children, ...(level.xid === null ? [] : [level.xid]))
      } else if (next.kind === 'rollback') {
        if (levels.length === 1) continue
        const level = levels.pop()!
        kept.length = level.from
        flush()
        if (isStreamed && !isFirst)
          for (const subxid of [...level.children, ...(level.xid === null ? [] : [level.xid])])
            this.frames.push(streamAbort(xid, subxid, xid % 2 === 0))
        // The server describes its relations again after an abort.
        isDescribed = false
        yield
      } else {
        flush()
        yield
      }
    }
    flush()
    yield
    const gid = `g${xid}`
    const prepareLsn = this.nextLsn()
    if (end.startsWith('prepare')) {
      if (isStreamed && !isFirst) this.frames.push(prepare(xid, gid, prepareLsn, true))
      else this.frames.push(beginPrepare(xid, gid, prepareLsn), ...this.plain.slice(0, 2), ...kept, prepare(xid, gid, prepareLsn))
      yield
    }
    const lsn = this.nextLsn()
    if (end === 'abort') {
      if (isStreamed && !isFirst) this.frames.push(streamAbort(xid, xid))
    } else if (end === 'prepare and roll back') this.frames.push(rollbackPrepared(xid, gid))
    else {
      if (end === 'prepare') this.frames.push(commitPrepared(xid, gid, lsn, lsn + 5n))
      else if (isStreamed && !isFirst) this.frames.push(streamCommit(xid, lsn, lsn + 5n))
      else this.frames.push(begin(lsn), ...this.plain.slice(0, 2), ...kept, commit(lsn, lsn + 5n))
      this.plain.push(begin(lsn), ...kept, commit(lsn, lsn + 5n))
    }
    if (lsn % 30n === 0n) this.frames.push(keepalive(lsn + 6n))
  }

  private message({ kind, id, size }: Change): Buffer {
    if (kind === 'truncate') return truncate(5, 6)
    if (kind === 'delete') return remove(5, key(id))
    if (kind === 'other') return insert(6, row(id, 'o'.repeat(size), 1n).slice(0, 2))
    return insert(5, row(id, 'i'.repeat(size), BigInt(size)))
  }
}

test('transactions sent side by side come out one after the other, less what was rolled back', () => {
  fc.assert(
    fc.property(
      fc.array(transactionArbitrary, { minLength: 1, maxLength: 6 }),
      fc.infiniteStream(fc.nat()),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(1, 5000, 1_000_000),
      (transactions, choices, takeEvery, spoolMemoryBytes) => {
        const server = new Server()
        let running = transactions.map((transaction) => server.play(transaction))
        while (running.length > 0) {
          const [choice] = choices.take(1)
          const chosen = running[choice % running.length]
          if (chosen.next().done === true) running = running.filter((other) => other !== chosen)
        }
        const spoolFiles = new MemorySpoolFiles()
        const streamed = decoderOf([orders, lines], { spoolFiles, spoolMemoryBytes, openTransactionBytes: takeEvery * 500 })
        const told = new Story()
        server.frames.forEach((frame, index) => {
          if (index % takeEvery === 0) told.add(streamed.feed(frame))
          else streamed.decoder.feed(frame)
        })
        for (let events = streamed.decoder.take(); events.length > 0; events = streamed.decoder.take()) told.add(events)
        expect(told.ended).toEqual(new Story().add(decoderOf([orders, lines]).feed(...server.plain)).ended)
        expect(streamed.decoder.isCut).toBe(true)
        expect(streamed.decoder.bytesBuffered).toBe(0)
        expect(spoolFiles.count).toBe(0)
        if (spoolMemoryBytes === 1 && server.frames.some((frame) => frame[25] === 0x53)) expect(spoolFiles.written).toBeGreaterThan(0)
      },
    ),
    { numRuns: 400 },
  )
})

describe('a large transaction', () => {
  const rows = 4000
  const streamIn = (decoder: ReturnType<typeof decoderOf>) => {
    decoder.feed(streamStart(10, true), within(10, ordersRelation))
    for (let id = 0; id < rows; id++) decoder.decoder.feed(within(10, insert(5, row(id, 'x'.repeat(1000), 1n))))
    decoder.feed(streamStop())
  }

  it('is decoded in parts, while what is fed meanwhile waits', () => {
    const spoolFiles = new MemorySpoolFiles()
    const streamed = decoderOf([orders], { spoolFiles, spoolMemoryBytes: 100_000, openTransactionBytes: 100_000 })
    streamIn(streamed)
    const { decoder } = streamed
    expect(decoder.bytesBuffered).toBe(0)
    expect(decoder.isCut).toBe(false)
    decoder.feed(streamCommit(10, 100n, 110n))
    decoder.feed(begin(120n))
    decoder.feed(insert(5, row(9999, 'after', 1n)))
    decoder.feed(commit(120n, 130n))
    decoder.feed(keepalive(140n, true))
    expect(decoder.lastKeepalive).toEqual({ walEnd: 140n, replyRequested: true })
    expect(decoder.bytesBuffered).toBeGreaterThan(rows * 1000)
    let parts = 0
    let changes = 0
    while (decoder.isReplaying) {
      const before = decoder.bytesBuffered
      for (const event of decoder.take()) {
        if (event.kind === 'batch') changes += event.batch.ops.length
        if (event.kind === 'watermark') expect(event.lsn).toBe(140n)
      }
      expect(decoder.bytesBuffered).toBeLessThan(before)
      parts++
    }
    for (const event of decoder.take()) if (event.kind === 'batch') changes += event.batch.ops.length
    expect(parts).toBeGreaterThan(1)
    expect(changes).toBe(rows + 1)
    expect(decoder.position).toBe(140n)
    expect(spoolFiles.count).toBe(0)
  })

  it('that nothing mirrors is not kept', () => {
    const streamed = decoderOf([lines], { spoolFiles: new MemorySpoolFiles() })
    streamIn(streamed)
    streamed.decoder.feed(streamCommit(10, 100n, 110n))
    expect(streamed.decoder.bytesBuffered).toBeLessThan(1000)
    expect(streamed.feed()).toMatchObject([{ kind: 'watermark', lsn: 110n }])
  })

  it('is followed by what was fed of its session before the next one begins', () => {
    const streamed = decoderOf([orders], { openTransactionBytes: 100_000 })
    const { decoder } = streamed
    const other = (id: number) => [
      streamStart(20, id === 1),
      within(20, ordersRelation),
      within(20, insert(5, row(id, 'a', 1n))),
      streamStop(),
    ]
    for (const frame of other(1)) decoder.feed(frame)
    streamIn(streamed)
    decoder.feed(streamCommit(10, 100n, 110n))
    for (const frame of [...other(2), streamCommit(20, 120n, 130n)]) decoder.feed(frame)
    decoder.beginSession()
    // The server may say again what ended before.
    for (const frame of [begin(120n), ordersRelation, insert(5, row(1, 'a', 1n)), insert(5, row(2, 'a', 1n)), commit(120n, 130n)])
      decoder.feed(frame)
    const told = new Story()
    for (let events = decoder.take(); events.length > 0; events = decoder.take()) told.add(events)
    expect(Object.entries(told.ended).map(([lsn, { orders: changes }]) => [lsn, changes.length])).toEqual([
      ['110', rows],
      ['130', 2],
    ])
    expect(decoder.isCut).toBe(true)
  })

  it('begins again with a new session', () => {
    const streamed = decoderOf([orders])
    streamIn(streamed)
    streamed.decoder.beginSession()
    expect(streamed.decoder.isCut).toBe(true)
    const events = streamed.feed(
      streamStart(10, true),
      within(10, ordersRelation),
      within(10, insert(5, row(1, 'a', 1n))),
      streamStop(),
      streamCommit(10, 100n, 110n),
    )
    expect(new Story().add(events).ended).toMatchObject({ 110: { orders: [expect.stringContaining('0 ')] } })
  })
})

describe('prepared transactions', () => {
  const ends = (events: readonly SourceEvent[]) => Object.keys(new Story().add(events).ended)
  const prepared = [beginPrepare(10, 'a', 50n), ordersRelation, insert(5, row(1, 'a', 1n)), prepare(10, 'a', 50n)]

  it('hold back what may be acknowledged until their commit is safe', () => {
    const { decoder, feed } = decoderOf([orders])
    feed(...prepared, begin(60n), insert(5, row(2, 'b', 1n)), commit(60n, 70n))
    expect(decoder.acknowledgeable(70n)).toBe(50n)
    feed(commitPrepared(10, 'a', 80n, 90n))
    expect(decoder.acknowledgeable(70n)).toBe(50n)
    expect(decoder.acknowledgeable(89n)).toBe(50n)
    expect(decoder.acknowledgeable(90n)).toBe(90n)
    feed(beginPrepare(11, 'a', 91n), prepare(11, 'a', 91n))
    expect(decoder.acknowledgeable(99n)).toBe(91n)
    feed(rollbackPrepared(11, 'a'))
    expect(decoder.acknowledgeable(99n)).toBe(99n)
  })

  it('may come again in a new session, and so may what ended before it', () => {
    const { decoder, feed } = decoderOf([orders])
    const other = [begin(60n), insert(5, row(2, 'b', 1n)), commit(60n, 70n)]
    expect(ends(feed(...prepared, ...other))).toEqual(['70'])
    decoder.beginSession()
    expect(ends(feed(...prepared, ...other))).toEqual([])
    expect(ends(feed(commitPrepared(10, 'a', 80n, 90n)))).toEqual(['90'])
    decoder.beginSession()
    expect(ends(feed(commitPrepared(10, 'a', 80n, 90n), begin(95n), insert(5, row(3, 'c', 1n)), commit(95n, 99n)))).toEqual(['99'])
  })

  it('whose commit is known already, and comes again without them, are none that are lost', () => {
    const { feed } = decoderOf([orders], { startLsn: 90n })
    const again = [commitPrepared(10, 'a', 80n, 90n), begin(95n), ordersRelation, insert(5, row(3, 'c', 1n)), commit(95n, 99n)]
    expect(ends(feed(...again))).toEqual(['99'])
    expect(() => feed(commitPrepared(11, 'b', 100n, 110n))).toThrow(expect.objectContaining({ code: 'PG_PREPARED_LOST' }))
  })

  it('are lost where the source does not have them any more, which is said', () => {
    expect(() => decoderOf([orders]).feed(commitPrepared(10, 'a', 80n, 90n))).toThrow(expect.objectContaining({ code: 'PG_PREPARED_LOST' }))
  })
})

describe('malformed streams', () => {
  const open = [streamStart(10, true), within(10, relation(5, 'orders', ordersSpec))]
  it.each<[string, Buffer[]]>([
    ['two Stream Starts', [streamStart(10, true), streamStart(11, true)]],
    ['a Stream Start within a transaction', [begin(1n), streamStart(10, true)]],
    ['a Stream Start of no transaction', [streamStart(0, true)]],
    ['a Stream Stop alone', [streamStop()]],
    ['a Begin in a block', [...open, begin(1n)]],
    ['a Stream Commit in a block', [...open, streamCommit(10, 1n, 2n)]],
    ['a Stream Commit of something else', [...open, streamStop(), streamCommit(11, 1n, 2n)]],
    ['a Stream Commit that ends before it', [...open, streamStop(), streamCommit(10, 2n, 2n)]],
    ['a Stream Abort in a block', [...open, streamAbort(10, 10)]],
    ['a Stream Abort with half a place', [streamAbort(10, 10, true).subarray(0, -8)]],
    ['another Prepare', [beginPrepare(10, 'a', 1n), prepare(10, 'b', 1n)]],
    ['a Stream Prepare of nothing', [prepare(10, 'a', 1n, true)]],
    ['a Begin in a Begin Prepare', [beginPrepare(10, 'a', 1n), begin(2n)]],
    ['a gid that does not end', [beginPrepare(10, 'a', 1n).subarray(0, -1)]],
    ['an unknown relation', [streamStart(10, true), within(10, insert(5, row(1, 'a', 1n))), streamStop(), streamCommit(10, 1n, 2n)]],
  ])('%s is refused', (_, frames) => {
    expect(() => decoderOf([orders]).feed(...frames)).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })
})

test('messages about schema changes are kept until their transaction ends, each a second time as doubtful where a subtransaction was taken back', () => {
  const heard: string[] = []
  const { feed } = decoderOf([orders], {
    alterations: {
      prefix: 'ddl',
      read: (content, _skips, isDoubtful) => {
        heard.push(isDoubtful ? `${content}?` : content)
        return []
      },
    },
  })
  const told = (content: string) => {
    const size = Buffer.alloc(4)
    size.writeInt32BE(content.length)
    return within(
      10,
      Buffer.concat([
        Buffer.from('w'),
        Buffer.alloc(24),
        Buffer.from('M\x01'),
        Buffer.alloc(8),
        Buffer.from('ddl\0'),
        size,
        Buffer.from(content),
      ]),
    )
  }
  feed(streamStart(10, true), told('one'), told('two'), streamStop(), streamAbort(10, 11), streamCommit(10, 100n, 110n))
  expect(heard).toEqual(['one', 'two', 'one?', 'two?'])
})
