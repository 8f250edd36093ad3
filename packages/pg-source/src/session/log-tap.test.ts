import { Duplex } from 'node:stream'
import type { ChangeLog, Lsn, SourceEvent } from '@moonlink/core'
import * as fc from 'fast-check'
import type pg from 'pg'
import { expect, test } from 'vitest'
import { StreamDecoder } from '../decode/index.ts'
import { begin, beginPrepare, commit, insert, keepalive, prepare } from '../decode/reference-encoder.test.support.ts'
import { decoderOf, orders, ordersRelation, row } from '../decode/test-streams.test.support.ts'
import { copyData } from './fake-server.test.support.ts'
import { feedRun, LogTap } from './log-tap.ts'
import { RawConnection } from './raw-connection.ts'

/** What a tap appended. */
class Appended {
  readonly runs: { bytes: Buffer; endLsn: Lsn | null; isCut: boolean }[] = []

  append(frames: Uint8Array, endLsn: Lsn | null, isCut: boolean): void {
    this.runs.push({ bytes: Buffer.from(frames), endLsn, isCut })
  }
}

const kinds = (events: readonly SourceEvent[]) =>
  events.flatMap((event) => (event.kind === 'batch' ? [[event.batch.ops.length, [...event.batch.marks.endLsns]]] : []))

test('however the socket cuts the stream, the log gets it whole, with the ends of its transactions', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ rows: fc.nat(5), note: fc.nat(3000), alive: fc.boolean() }), { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 30 }),
      (transactions, chunks) => {
        const messages: Buffer[] = []
        const ends: Lsn[] = []
        let lsn = 10n
        for (const { rows, note, alive } of transactions) {
          messages.push(begin((lsn += 10n)), ordersRelation)
          for (let index = 0; index < rows; index++) messages.push(insert(5, row(index, 'x'.repeat(note), 1n)))
          messages.push(commit(lsn, lsn + 1n))
          ends.push(lsn + 1n)
          if (alive) messages.push(keepalive(lsn + 5n), keepalive(lsn + 5n))
        }
        const stream = Buffer.concat(messages.map(copyData))
        const log = new Appended()
        const { decoder } = decoderOf([orders])
        const tap = new LogTap(log as unknown as ChangeLog, decoder)
        const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done: () => void) => done() })
        const connection = new RawConnection({ connection: { stream: socket }, end: async () => {} } as unknown as pg.Client)
        connection.start('START', {
          copyData: (bytes, start, end, isLasting) => {
            decoder.feed(bytes.subarray(start, end))
            tap.fed(bytes, start, end, isLasting)
          },
          control: () => {},
          chunkEnd: () => tap.flush(),
          failed: (error) => {
            throw error
          },
        })
        for (let at = 0, index = 0; at < stream.length; index++) {
          const chunk = Buffer.from(stream.subarray(at, (at += chunks[index % chunks.length])))
          socket.emit('data', chunk)
          chunk.fill(0xdd)
        }
        const live = decoder.take()
        const again = decoderOf([orders])
        const reached: Lsn[] = []
        for (const { bytes, endLsn, isCut } of log.runs) {
          feedRun(again.decoder, bytes)
          expect(isCut).toBe(endLsn !== null)
          expect(again.decoder.isCut).toBe(isCut)
          if (endLsn !== null) expect(again.decoder.position).toBe(endLsn)
          if (endLsn !== null) reached.push(endLsn)
        }
        expect(kinds(again.decoder.take())).toEqual(kinds(live))
        expect(reached).toEqual(reached.toSorted((a, b) => Number(a - b)))
        expect(reached.at(-1)).toBeGreaterThanOrEqual(ends.at(-1)!)
        expect(again.decoder.position).toBe(decoder.position)
      },
    ),
    { numRuns: 200 },
  )
})

test('a keepalive that says nothing new is not logged', () => {
  const log = new Appended()
  const decoder = new StreamDecoder({ resolve: () => null, startLsn: 50n })
  const tap = new LogTap(log as unknown as ChangeLog, decoder)
  for (const walEnd of [40n, 50n, 60n, 60n]) {
    const message = copyData(keepalive(walEnd))
    decoder.feed(message.subarray(5))
    tap.fed(message, 5, message.length, true)
    tap.flush()
  }
  expect(log.runs.map(({ endLsn }) => endLsn)).toEqual([60n])
})

/** Feeds a run of messages as the socket does, and has the log told of it. */
function receive(live: ReturnType<typeof decoderOf>, tap: LogTap, messages: readonly Buffer[]): void {
  const run = Buffer.concat(messages.map(copyData))
  for (let at = 0; at < run.length;) {
    const next = at + 1 + run.readInt32BE(at + 1)
    live.decoder.feed(run.subarray(at + 5, next))
    tap.fed(run, at + 5, next, true)
    at = next
  }
  tap.flush()
}

test('transactions that wait to be decoded are whole in the log, each from its commit on, so that none is shown before', () => {
  const live = decoderOf([orders], { asks: () => true })
  const log = new Appended()
  const tap = new LogTap(log as unknown as ChangeLog, live.decoder)
  const transaction = (lsn: bigint) => [begin(lsn), insert(5, row(Number(lsn), 'x', 1n)), commit(lsn, lsn + 1n)]
  receive(live, tap, [begin(20n), ordersRelation, insert(5, row(1, 'x', 1n)), commit(20n, 21n), ...transaction(30n)])
  receive(live, tap, [begin(40n), ordersRelation, insert(5, row(2, 'x', 1n))])
  expect(live.decoder.position).toBe(0n)
  const ends = () => log.runs.flatMap(({ endLsn, isCut }) => (endLsn === null ? [] : [[endLsn, isCut]]))
  expect(ends()).toEqual([
    [21n, false],
    [31n, false],
  ])
  // Two are shown, and amid the third there is another question.
  live.decoder.answer([])
  tap.settled()
  expect(live.decoder).toMatchObject({ position: 31n, inTransaction: true })
  expect(ends().at(-1)![0]).toBe(31n)
  live.decoder.answer([])
  receive(live, tap, [commit(40n, 41n)])
  expect(ends().slice(2)).toEqual([[41n, true]])
  const again = decoderOf([orders])
  for (const { bytes } of log.runs) feedRun(again.decoder, bytes)
  expect(kinds(again.decoder.take())).toEqual(kinds(live.decoder.take()))
})

test('what waits behind the preparing of a transaction has ended for the log once it is decoded, also where nothing comes behind it', () => {
  const live = decoderOf([orders], { asks: () => true })
  const log = new Appended()
  const tap = new LogTap(log as unknown as ChangeLog, live.decoder)
  const ends = () => log.runs.flatMap(({ endLsn, isCut }) => (endLsn === null ? [] : [[endLsn, isCut]]))
  const first = [begin(20n), ordersRelation, insert(5, row(1, 'x', 1n)), commit(20n, 21n)]
  const prepared = [beginPrepare(7, 'p', 25n), insert(5, row(2, 'x', 1n)), prepare(7, 'p', 25n)]
  receive(live, tap, [...first, ...prepared, begin(30n), insert(5, row(3, 'x', 1n)), commit(30n, 31n)])
  tap.settled()
  expect(ends()).toEqual([[21n, false]])
  live.decoder.answer([])
  const events = live.decoder.take()
  tap.settled()
  tap.settled()
  expect(ends().slice(1)).toEqual([[31n, false]])
  const again = decoderOf([orders])
  for (const { bytes } of log.runs) feedRun(again.decoder, bytes)
  expect(again.decoder).toMatchObject({ position: 31n, isCut: false })
  expect(kinds(again.decoder.take())).toEqual(kinds(events))
})
