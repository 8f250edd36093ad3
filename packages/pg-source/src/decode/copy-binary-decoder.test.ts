import { isMoonlinkError } from '@moonlink/core'
import { fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CopyBinaryDecoder } from './copy-binary-decoder.ts'
import { array, copyStream, i32, i64, numeric, type ColumnSpec } from './reference-encoder.test.support.ts'
import { mirror, rowsOf } from './test-tables.test.support.ts'

const spec: ColumnSpec[] = [
  { name: 'id', oid: 20, isKey: true },
  { name: 'note', oid: 25 },
  { name: 'amount', oid: 1700, typmod: ((10 << 16) | 2) + 4 },
  { name: 'tags', oid: 1009 },
]
const mirrored = mirror('t', spec)
const decoderOf = () => new CopyBinaryDecoder({ table: mirrored.table, columns: mirrored.columns })
const nullable = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary)
const rowArbitrary = fc.tuple(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  nullable(fc.string({ unit: 'binary', maxLength: 80 })),
  nullable(fc.bigInt({ min: -9_999_999_999n, max: 9_999_999_999n })),
  nullable(fc.array(nullable(fc.string({ maxLength: 5 })))),
)
type Row = [bigint, string | null, bigint | null, (string | null)[] | null]

function encode([id, note, amount, tags]: Row): (Buffer | null)[] {
  const elements = tags?.map((tag) => (tag === null ? null : Buffer.from(tag)))
  return [
    i64(id),
    note === null ? null : Buffer.from(note),
    amount === null ? null : numeric(amount, 2),
    elements ? array(25, elements) : null,
  ]
}

/** Feeds the stream in chunks of the given sizes, each from memory that is overwritten afterwards. */
function feedChunks(decoder: CopyBinaryDecoder, stream: Buffer, sizes: readonly number[], afterEach: () => void): void {
  let at = 0
  for (let index = 0; at < stream.length; index++) {
    const chunk = Buffer.from(stream.subarray(at, (at += sizes[index % sizes.length])))
    decoder.feed(chunk)
    chunk.fill(0xdd)
    afterEach()
  }
}

function takeRows(decoder: CopyBinaryDecoder, maxRows?: number): unknown[] {
  const taken = decoder.take(maxRows)
  if (taken === null) return []
  expect(taken.rows.length).toBeLessThanOrEqual(maxRows ?? Number.POSITIVE_INFINITY)
  const rows = rowsOf(taken.rows)
  taken.release()
  return rows
}

describe('CopyBinaryDecoder', () => {
  it('reads any rows over any chunk boundaries', () => {
    fc.assert(
      fc.property(
        fc.array(rowArbitrary, { maxLength: 30 }),
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
        fc.nat(20),
        fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }),
        (rows, sizes, limit, maxRows) => {
          const decoder = decoderOf()
          const read: unknown[] = []
          feedChunks(decoder, copyStream(rows.map(encode)), sizes, () => {
            if (decoder.rowsBuffered > limit) read.push(...takeRows(decoder, maxRows))
          })
          decoder.finish()
          read.push(...takeRows(decoder))
          expect(read).toEqual(rows)
          expect(decoder.take()).toBeNull()
        },
      ),
    )
  })

  it('keeps what was taken until it is released, and then uses its memory again', () => {
    const decoder = decoderOf()
    const stream = copyStream(Array.from({ length: 300 }, (_, id) => encode([BigInt(id), 'x', null, null])))
    decoder.feed(stream.subarray(0, 100))
    const first = decoder.take()!
    const before = rowsOf(first.rows)
    decoder.feed(stream.subarray(100))
    expect(rowsOf(first.rows)).toEqual(before)
    expect(decoder.rowsBuffered).toBe(300 - before.length)
    expect(decoder.bytesBuffered).toBeGreaterThan(0)
    first.release()
    const second = decoder.take()!
    expect(second.rows.columns[0].values.buffer).not.toBe(first.rows.columns[0].values.buffer)
    decoder.finish()
    decoder.feed(copyStream([encode([7n, null, null, null])]))
    const third = decoder.take()!
    expect(third.rows.columns[0].values.buffer).toBe(first.rows.columns[0].values.buffer)
    expect(rowsOf(third.rows)).toEqual([[7n, null, null, null]])
  })

  it('names the column of a value that cannot be held', () => {
    const nan = Buffer.from('00000000c0000000', 'hex')
    expect(() => decoderOf().feed(copyStream([[i64(1n), null, nan, null]]))).toThrow(
      expect.objectContaining({
        code: 'VALUE_UNREPRESENTABLE',
        message: expect.stringMatching(/public\.t: column "amount" holds NaN.*moonlink tables resume public\.t/),
      }),
    )
    expect(() => decoderOf().feed(copyStream([[null, null, null, null]]))).toThrow(
      expect.objectContaining({ code: 'VALUE_UNREPRESENTABLE', message: expect.stringContaining('column "id" holds null') }),
    )
  })

  it('refuses a stream that is not whole', () => {
    const stream = copyStream([encode([1n, 'a', null, null])])
    for (let size = 0; size < stream.length; size++) {
      const decoder = decoderOf()
      decoder.feed(stream.subarray(0, size))
      expect(() => decoder.finish()).toThrow(expect.objectContaining({ kind: 'corrupt', code: 'COPY_MALFORMED' }))
    }
  })

  it.each<[string, Buffer]>([
    ['another signature', Buffer.from('PGCOPX\n')],
    ['bytes behind the trailer', Buffer.concat([copyStream([]), Buffer.of(0)])],
    ['another number of columns', copyStream([[i64(1n)]])],
    ['a negative length', Buffer.concat([copyStream([]).subarray(0, 19), Buffer.of(0, 4), i32(-2)])],
    ['oids', Buffer.concat([copyStream([]).subarray(0, 11), i32(0x10000), i32(0)])],
  ])('refuses %s', (_, stream) => {
    expect(() => decoderOf().feed(stream)).toThrow(expect.objectContaining({ kind: 'corrupt', code: 'COPY_MALFORMED' }))
  })

  it('gives rows or a MoonlinkError for any damaged stream', () => {
    fc.assert(
      fc.property(
        fc.array(rowArbitrary, { minLength: 1, maxLength: 5 }),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 100 }),
        (rows, flips, size) => {
          const stream = copyStream(rows.map(encode))
          for (const [at, value] of flips) stream[at % stream.length] = value
          const decoder = decoderOf()
          try {
            feedChunks(decoder, stream, [size], () => {})
            decoder.finish()
          } catch (error) {
            if (!isMoonlinkError(error, 'corrupt') && !isMoonlinkError(error, 'invalid')) throw error
          }
          const taken = decoder.take()?.rows
          expect(taken?.columns.every((column) => column.length === taken.length) ?? true).toBe(true)
        },
      ),
      fuzzing(1000),
    )
  })
})
