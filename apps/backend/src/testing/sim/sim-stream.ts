import { maxLsn, type ChangeLog, type ChangeStream, type Lsn, type ResumePoint, type SourceEvent } from '@moonlink/core'
import { nextTurn } from './sim-clock.ts'
import type { SimDatabase, SimTransaction } from './sim-database.ts'
import { eventsOfPart } from './sim-events.ts'
import { SimFollowed } from './sim-followed.ts'
import type { SimProcess } from './sim-process.ts'

export interface SimStreamOptions {
  readonly database: SimDatabase
  readonly process: SimProcess
  readonly log: ChangeLog | null
  /** As in `SimProfile`. */
  readonly transactionBytes: number
  /** Up to here the log has what comes; it is replayed from `after` on. Where nothing is, the same as `after`. */
  readonly after: Lsn
  readonly from: Lsn
  /** Where tables stand. */
  readonly resume: readonly ResumePoint[]
  /** Looks at what it connects to; returns the timeline. */
  readonly connect: () => Promise<number>
  readonly signal: AbortSignal
}

/** A stream as Postgres's would be: first what the log has, then what the database sends, which is appended to the log before it is yielded. */
export class SimStream implements ChangeStream {
  private readonly options: SimStreamOptions
  private readonly followed: SimFollowed
  private position: Lsn
  private told: Lsn | null = null
  private isClosed = false
  private beginning: Promise<void> | null = null
  /** Of the server that it is connected to. */
  private timeline: number | null = null
  /** How far the source has said it is. */
  sourceLsn: Lsn = 0n

  constructor(options: SimStreamOptions) {
    this.options = options
    this.followed = new SimFollowed(options.database, options.resume)
    this.position = options.after
  }

  /** Nothing more comes, as when a connection is lost or its server process ended. */
  end(): void {
    this.isClosed = true
  }

  acknowledge(durable: Lsn): void {
    const { database, process } = this.options
    // Whoever is dead or stands still says nothing.
    if (this.isClosed || this.timeline === null) return
    void process.call(async () => {
      if (this.timeline === database.timeline) database.acknowledge(durable)
    })
  }

  async close(): Promise<void> {
    this.isClosed = true
    await this.beginning?.catch(() => undefined)
  }

  /** Connects to the server, to go on there where the log ends. */
  begin(): Promise<void> {
    return (this.beginning ??= this.beginOnce())
  }

  private async beginOnce(): Promise<void> {
    const { connect, from, log } = this.options
    this.timeline = await connect()
    await log?.begin(from, () => Buffer.from(String(this.position)))
    this.position = from
  }

  private hear(lsn: Lsn): void {
    this.sourceLsn = maxLsn(this.sourceLsn, lsn)
    this.options.database.told(lsn)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SourceEvent, void, undefined> {
    const { after, database, from, log } = this.options
    this.sourceLsn = after
    if (log !== null && after < from) yield* this.replayed(log)
    if (this.isOver) return
    await this.begin()
    while (!this.isOver) {
      // A server process that is told to end says so.
      await this.options.process.unreliably('the stream', async () => undefined)
      if (this.isOver) return
      const next = database.after(this.position)
      if (next !== undefined) {
        this.hear(database.endLsn)
        if (log !== null && !(await this.appendTo(log, next))) return
        for (const event of this.eventsOf(next)) {
          yield event
          // A connection may be lost anywhere.
          if (next.endLsn % 4n === 0n) await this.options.process.unreliably('the stream', async () => undefined)
        }
        continue
      }
      await nextTurn()
      await this.options.process.clock.sleep(5)
      if (this.isOver) return
      // Keepalives say where a source is that has nothing to send; a stream that begins at its end hears nothing else.
      const { endLsn } = database
      if (database.after(this.position) !== undefined || this.told === endLsn) continue
      if (this.position < endLsn) log?.append(frameOf(null), endLsn, true)
      this.position = this.told = endLsn
      this.hear(endLsn)
      yield { kind: 'watermark', lsn: endLsn, sourceLsn: endLsn, commitTimeMs: null }
    }
  }

  /** In two halves, as bytes come in pieces; false where the stream was closed in between. */
  private async appendTo(log: ChangeLog, transaction: SimTransaction): Promise<boolean> {
    const bytes = encodeTransaction(transaction, this.options.transactionBytes)
    const half = Math.floor(bytes.length / 2)
    log.append(frameOf(bytes.subarray(0, half)), null, false)
    if (transaction.endLsn % 5n === 0n) await nextTurn()
    // The log may have another session by now.
    if (this.isOver) return false
    log.append(frameOf(bytes.subarray(half)), transaction.endLsn, true)
    if (log.isBehind) await log.drained()
    return true
  }

  private get isOver(): boolean {
    const isGone = this.timeline !== null && this.timeline !== this.options.database.timeline
    return this.isClosed || isGone || this.options.signal.aborted
  }

  private async *replayed(log: ChangeLog): AsyncGenerator<SourceEvent, void, undefined> {
    let halves: Buffer[] = []
    for await (const entry of log.replay(this.options.after)) {
      if (this.isOver) return
      if (entry.kind === 'session') halves = []
      if (entry.kind !== 'frames') continue
      for (const frame of framesIn(entry.bytes)) {
        if (frame.length === 0) continue
        halves.push(frame)
        if (halves.length < 2) continue
        const transaction = decodeTransaction(Buffer.concat(halves))
        halves = []
        if (transaction.endLsn > this.position) yield* this.eventsOf(transaction)
      }
    }
  }

  private *eventsOf(transaction: SimTransaction): Generator<SourceEvent> {
    const { database } = this.options
    for (const part of transaction.parts) yield* eventsOfPart(part, database, this.followed, transaction)
    this.position = this.told = transaction.endLsn
    this.sourceLsn = maxLsn(this.sourceLsn, transaction.endLsn)
    yield { kind: 'watermark', lsn: transaction.endLsn, sourceLsn: this.sourceLsn, commitTimeMs: null }
  }
}

/** In two frames, so that a log may end between them. */
function frameOf(bytes: Uint8Array | null): Uint8Array {
  const frame = Buffer.alloc(4 + (bytes?.length ?? 0))
  frame.writeUInt32LE(bytes?.length ?? 0)
  if (bytes !== null) frame.set(bytes, 4)
  return frame
}

function* framesIn(bytes: Uint8Array): Generator<Buffer> {
  const run = Buffer.from(bytes)
  for (let at = 0; at < run.length;) {
    const length = run.readUInt32LE(at)
    yield run.subarray(at + 4, at + 4 + length)
    at += 4 + length
  }
}

function encodeTransaction({ beginLsn, endLsn, parts }: SimTransaction, leastBytes: number): Buffer {
  return Buffer.from(JSON.stringify({ beginLsn: String(beginLsn), endLsn: String(endLsn), parts }).padEnd(leastBytes))
}

function decodeTransaction(bytes: Buffer): SimTransaction {
  const read = JSON.parse(bytes.toString()) as { beginLsn: string; endLsn: string; parts: SimTransaction['parts'] }
  return { beginLsn: BigInt(read.beginLsn), endLsn: BigInt(read.endLsn), parts: read.parts }
}
