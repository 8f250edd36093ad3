import { isMoonlinkError } from '@moonlink/core'
import { fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StreamDecoder } from './stream-decoder.ts'
import { MemorySpoolFiles } from '../spool/memory-spool-files.test.support.ts'
import {
  absent,
  array,
  begin,
  beginPrepare,
  binary,
  commit,
  commitPrepared,
  f64,
  i32,
  i64,
  insert,
  keepalive,
  numeric,
  prepare,
  relation,
  remove,
  rollbackPrepared,
  streamAbort,
  streamCommit,
  streamStart,
  streamStop,
  text,
  truncate,
  unchanged,
  update,
  within,
  type Cell,
  type ColumnSpec,
} from './reference-encoder.test.support.ts'
import { vectorFrames, vectorTable, vectorVersions } from './vectors.test.support.ts'
import type { PgoutputDecoderOptions } from './pgoutput-decoder-options.ts'
import { mirror, rowsOf } from './test-tables.test.support.ts'

const spec: ColumnSpec[] = [
  { name: 'id', oid: 20, isKey: true },
  { name: 'note', oid: 25 },
  { name: 'amount', oid: 1700, typmod: ((20 << 16) | 3) + 4 },
  { name: 'at', oid: 1184 },
  { name: 'ratio', oid: 701 },
  { name: 'tags', oid: 1009 },
]
const keyed = mirror('keyed', spec)
const keyless = mirror(
  'keyless',
  spec.map((column) => ({ ...column, isKey: false })),
)
const full = spec.map((column) => ({ ...column, isKey: true }))

const binaryRow = (id: bigint): Cell[] => [
  binary(i64(id)),
  binary(Buffer.from('note')),
  binary(numeric(id * 1001n, 3)),
  binary(i64(id * 1_000_000n)),
  binary(f64(1.5)),
  binary(array(25, [Buffer.from('a'), null])),
]
const textRow = (id: bigint): Cell[] => [
  text(String(id)),
  text('note'),
  text('-12.345'),
  text('2024-01-01 00:00:00.5+00'),
  text('1e+20'),
  text('{a,"b c",NULL}'),
]
const key = (id: bigint): Cell[] => [binary(i64(id)), absent, absent, absent, absent, absent]
const toasted = (id: bigint): Cell[] => [binary(i64(id)), unchanged, absent, absent, absent, unchanged]

const session = [
  keepalive(5n),
  begin(10n),
  relation(5, 'keyed', spec),
  insert(5, binaryRow(1n)),
  insert(5, textRow(2n)),
  update(5, toasted(1n)),
  update(5, binaryRow(3n), key(1n)),
  remove(5, key(2n)),
  commit(10n, 20n),
  begin(30n),
  relation(6, 'keyless', full, 'f'),
  insert(6, textRow(1n)),
  truncate(5),
  update(6, toasted(1n), textRow(1n), 'O'),
  remove(6, binaryRow(1n), 'O'),
  commit(30n, 40n, 1_700_000_000_000),
  streamStart(70, true),
  within(70, relation(5, 'keyed', spec)),
  within(70, insert(5, binaryRow(7n))),
  within(71, insert(5, binaryRow(8n))),
  streamStop(),
  begin(50n),
  insert(5, binaryRow(9n)),
  commit(50n, 60n),
  streamAbort(70, 71),
  streamStart(80, true),
  within(80, relation(6, 'keyless', full, 'f')),
  within(80, truncate(6)),
  streamStop(),
  streamStart(70, false),
  within(72, update(5, toasted(7n))),
  streamStop(),
  streamAbort(80, 80),
  streamCommit(70, 70n, 80n),
  keepalive(85n),
  beginPrepare(90, 'a', 85n),
  insert(5, binaryRow(10n)),
  prepare(90, 'a', 85n),
  streamStart(91, true),
  within(91, relation(5, 'keyed', spec)),
  within(91, remove(5, key(7n))),
  streamStop(),
  prepare(91, 'b', 87n, true),
  rollbackPrepared(91, 'b'),
  commitPrepared(90, 'a', 88n, 90n),
]

/** Frames of what is rolled back, which is never decoded. */
const dropped = session.filter(
  (frame) => frame.length > 30 && ![0x41, 0x53].includes(frame[25]) && [71, 80, 91].includes(frame.readInt32BE(26)),
)

const resolveSession = ({ name }: { readonly name: string }) => (name === 'keyed' ? keyed : name === 'keyless' ? keyless : null)

/** Feeds until an error; returns how many changes came out. Anything but a MoonlinkError about the stream passes through. */
function run(frames: readonly Buffer[], takeEvery: number, resolve: PgoutputDecoderOptions['resolve'] = resolveSession): number {
  const decoder = new StreamDecoder({
    spoolMemoryBytes: 2000,
    spoolFiles: new MemorySpoolFiles(),
    resolve,
    openTransactionBytes: takeEvery % 2 === 0 ? 0 : 100,
  })
  let changes = 0
  const take = () => {
    for (const event of decoder.take()) {
      if (event.kind !== 'batch') continue
      const { ops, rows, old, marks, unchanged: cells } = event.batch
      changes += ops.length
      for (const batch of [rows, old]) for (const column of batch.columns) expect(column.length).toBe(batch.length)
      expect(rows.length).toBe(ops.filter((op) => op !== 3).length)
      expect(old.length).toBe(ops.filter((op) => op >= 2).length)
      for (const { rows: missing } of cells) expect([...missing].every((row) => row < rows.length)).toBe(true)
      expect(marks.changeCounts.length).toBe(marks.endLsns.length)
      rowsOf(rows)
      rowsOf(old)
    }
  }
  try {
    frames.forEach((frame, index) => {
      decoder.feed(frame)
      if (index % takeEvery === 0) take()
    })
    while (decoder.isReplaying) take()
    take()
  } catch (error) {
    if (!isMoonlinkError(error, 'corrupt') && !(isMoonlinkError(error) && error.code === 'PG_PREPARED_LOST')) throw error
  }
  return changes
}

describe('damaged frames', () => {
  it('are none in the session that is damaged below', () => {
    expect(run(session, 1)).toBe(12)
    expect(run(session, 100)).toBe(12)
  })

  it('give a corrupt error or a valid parse, never anything else', () => {
    const flips = fc.array(fc.tuple(fc.nat(session.length - 1), fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(flips, fc.integer({ min: 1, max: 6 }), (changes, takeEvery) => {
        const frames = session.map((frame) => Buffer.from(frame))
        for (const [frame, at, value] of changes) frames[frame][at % frames[frame].length] = value
        run(frames, takeEvery)
      }),
      fuzzing(5000),
    )
  })

  it('cut off anywhere are refused', () => {
    for (let cut = 0; cut < session.length; cut++) {
      const frame = session[cut]
      for (let size = 0; size < frame.length; size++) {
        const frames = session.map((whole, index) => (index === cut ? whole.subarray(0, size) : whole))
        if (size >= 34 && dropped.includes(frame)) continue
        const decoder = new StreamDecoder({ resolve: ({ name }) => (name === 'keyed' ? keyed : keyless) })
        expect(() => {
          // What is in progress is decoded when it commits.
          for (const part of frames) {
            decoder.feed(part)
            decoder.take()
          }
        }, `frame ${cut} cut to ${size} bytes`).toThrow(expect.objectContaining({ kind: 'corrupt' }))
      }
    }
  })

  it('swapped, repeated or left out give a corrupt error or a valid parse', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(session.length - 1), { maxLength: 30 }), (order) => {
        run(
          order.map((index) => session[index]),
          3,
        )
      }),
      fuzzing(1000),
    )
  })
})

describe.each(vectorVersions)('what Postgres %i sent, damaged', (version) => {
  const sent = vectorFrames(version)

  it('gives a corrupt error or a valid parse, whether bytes are flipped, cut off or put in another place', () => {
    const whole = run(sent, 1, vectorTable)
    const place = fc.tuple(fc.nat(sent.length - 1), fc.nat())
    const damage = fc.oneof(
      fc.record({ kind: fc.constant('flip' as const), place, value: fc.nat(255) }),
      fc.record({ kind: fc.constant('cut' as const), place, value: fc.nat(0) }),
      fc.record({ kind: fc.constant('swap' as const), place, value: fc.nat(sent.length - 1) }),
    )
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), fc.integer({ min: 20, max: 60 }), (damages, takeEvery) => {
        const frames = [...sent]
        for (const {
          kind,
          place: [index, at],
          value,
        } of damages) {
          const frame = Buffer.from(frames[index])
          if (kind === 'flip') frame[at % frame.length] = value
          frames[index] = kind === 'cut' ? frame.subarray(0, at % frame.length) : kind === 'swap' ? frames[value] : frame
        }
        // Changes are never made up: a transaction decoded twice is one that was sent twice.
        expect(run(frames, takeEvery, vectorTable)).toBeLessThanOrEqual(whole * 2)
      }),
      fuzzing(40),
    )
  })
})

it('a row of int4 read as bytes of another kind is malformed, not misread', () => {
  const decoder = new StreamDecoder({ resolve: () => keyed })
  decoder.feed(begin(1n))
  decoder.feed(relation(5, 'keyed', spec))
  expect(() => decoder.feed(insert(5, [binary(i32(1)), absent, absent, absent, absent, absent]))).toThrow(
    expect.objectContaining({ code: 'VALUE_MALFORMED' }),
  )
})
