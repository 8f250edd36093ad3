import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { assert, MoonlinkError, systemClock, type Clock } from '@moonlink/core'
import pg from 'pg'
import { LendingSocket, LENT_READ_BYTES } from './lending-socket.ts'
import { ReadPacer } from './read-pacer.ts'

/** What arrives on a connection that was taken over. All calls happen while the socket's chunk is at hand: copy what must outlive them. */
export interface RawHandler {
  /**
   * Payload of a CopyData message: `bytes[start … end)`; the message's five-byte header stands before it. `isLasting`: the memory stays as it is until
   * `chunkEnd`, rather than only until this returns.
   */
  copyData(bytes: Buffer, start: number, end: number, isLasting: boolean): void
  /** Any other message that ends or starts something: CopyBoth/CopyOut response `W`/`H`, CopyDone `c`, CommandComplete `C`, ReadyForQuery `Z`. */
  control(type: number): void
  /** After every chunk, once all its whole messages were handed over. */
  chunkEnd(): void
  /** An ErrorResponse, a broken connection, or what `copyData` threw. Nothing follows after a broken connection. */
  failed(error: unknown): void
}

/** Bytes of a message before its payload: its type, and its length with these four. */
export const HEADER = 5
const MAX_MESSAGE = 0x4000_0000
/** The carry buffer is given back above this size. */
const KEPT_BYTES = 4 * 2 ** 20
const GOODBYE_MS = 1000
/** What one read of a socket of Node's own brings at most. */
const OWN_READ_BYTES = 64 * 1024
const Code = { copyData: 0x64, error: 0x45, notice: 0x4e, parameter: 0x53, notification: 0x41, query: 0x51, copyDone: 0x63 } as const

/**
 * A `pg` connection whose socket (TLS or not, already authenticated) we read and write ourselves from now on. `pg` would make an object and
 * a copy of every message; here a message is a range of the chunk it came in, and only one that spans chunks is put together.
 */
export class RawConnection {
  private readonly client: pg.Client
  private readonly stream: Duplex
  private readonly clock: Clock
  private readonly pacer: ReadPacer | null
  private handler: RawHandler | null = null
  /** The handler wants nothing for now. */
  private isPaused = false
  /** The socket is left alone for a moment. */
  private isResting = false
  /** Bytes that came between the decision to rest and its effect; they are handed out first. */
  private leftOver = 0
  private isEnded = false
  /** Why it broke, also where nobody was there to be told. */
  private broken: Error | null = null
  /** The message that was cut off by the end of the last chunk; `carryLength` bytes of it are there. */
  private carry: Buffer = Buffer.alloc(0)
  private carryLength = 0

  /**
   * Takes the socket away from an idle client. With `isPaced`, a busy socket is left alone for moments (see `ReadPacer`): for TCP. A socket of
   * this machine holds too few messages for that. Such a stream is a `LendingSocket` or has a high-water mark of 1 byte, or a rest begins as much later.
   */
  constructor(client: pg.Client, options: { readonly isPaced?: boolean; readonly clock?: Clock } = {}) {
    this.client = client
    this.clock = options.clock ?? systemClock
    const inner = (client as unknown as { connection?: { stream?: Duplex } }).connection?.stream
    assert(inner !== undefined && typeof inner.pause === 'function', "pg's client has a connection with a stream")
    this.stream = inner
    this.stream.removeAllListeners('data')
    const isLending = inner instanceof LendingSocket
    if (isLending) inner.lend()
    this.pacer = options.isPaced ? new ReadPacer(isLending ? LENT_READ_BYTES : OWN_READ_BYTES) : null
    this.stream.on('data', (chunk: Buffer) => this.receive(chunk))
    this.stream.on('error', (error: Error) => this.end(error))
    this.stream.on('close', () => this.end(new Error('the connection was closed')))
  }

  /** Starts a command of the simple protocol; what comes back goes to `handler`: of a connection that has broken before, that it has, before this returns. */
  start(sql: string, handler: RawHandler): void {
    this.handler = handler
    if (this.broken !== null) return handler.failed(this.broken)
    const text = Buffer.from(`${sql}\0`, 'utf8')
    this.send(Code.query, text)
  }

  sendCopyData(payload: Uint8Array): void {
    this.send(Code.copyData, payload)
  }

  sendCopyDone(): void {
    this.send(Code.copyDone, Buffer.alloc(0))
  }

  get isReading(): boolean {
    return !this.isPaused
  }

  /** Stops reading the socket; the server feels it once the buffers between us are full. */
  pause(): void {
    if (this.isPaused) return
    this.isPaused = true
    this.stream.pause()
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    if (!this.isResting) this.stream.resume()
  }

  /** Says goodbye and closes. What is still on its way to us is thrown away; what we wrote before still goes out. */
  async close(): Promise<void> {
    this.handler = null
    this.isEnded = true
    if (this.stream.destroyed) return
    const closed = once(this.stream, 'close').catch(() => {})
    const patience = new AbortController()
    const late = systemClock.sleep(GOODBYE_MS, patience.signal).then(
      () => this.stream.destroy(),
      () => {},
    )
    // `pg` writes Terminate, then ends the stream; our listener reads on, or the end would never come.
    this.stream.resume()
    void this.client.end().catch(() => {})
    await closed
    patience.abort()
    await late
  }

  private send(type: number, payload: Uint8Array): void {
    if (!this.stream.writable) return
    const message = Buffer.allocUnsafe(HEADER + payload.length)
    message[0] = type
    message.writeInt32BE(payload.length + 4, 1)
    message.set(payload, HEADER)
    this.stream.write(message)
  }

  private end(error: Error): void {
    if (this.isEnded) return
    this.isEnded = true
    this.broken = error
    this.handler?.failed(error)
  }

  private receive(chunk: Buffer): void {
    try {
      this.frame(chunk)
      this.handler?.chunkEnd()
      if (this.pacer !== null) this.pace(this.pacer, chunk.length)
    } catch (error) {
      // Where messages begin is lost: nothing on this connection can be understood any more.
      this.handler?.failed(error)
      this.stream.destroy()
    }
  }

  private pace(pacer: ReadPacer, bytes: number): void {
    if (this.leftOver > 0) {
      this.leftOver -= bytes
      return
    }
    if (this.isResting || this.isEnded) return
    const restMs = pacer.restAfter(bytes, this.clock.nowMs())
    if (restMs === 0) return
    this.isResting = true
    this.stream.pause()
    void this.clock.sleep(restMs).then(() => {
      this.isResting = false
      pacer.rested(this.clock.nowMs())
      this.leftOver = this.stream.readableLength
      if (!this.isPaused || this.isEnded) this.stream.resume()
    })
  }

  private frame(chunk: Buffer): void {
    let at = this.carryLength > 0 ? this.completeCarry(chunk) : 0
    if (at < 0) return
    const end = chunk.length
    while (at + HEADER <= end) {
      const size = 1 + chunk.readInt32BE(at + 1)
      if (size < HEADER || size > MAX_MESSAGE) throw malformed(chunk[at], size)
      if (at + size > end) break
      this.message(chunk, at, at + size, true)
      at += size
    }
    if (at < end) this.keep(chunk, at, end)
  }

  /** Completes the cut-off message from the chunk; returns where the next one starts, or -1 where it is still incomplete. */
  private completeCarry(chunk: Buffer): number {
    let at = 0
    if (this.carryLength < HEADER) {
      at = Math.min(HEADER - this.carryLength, chunk.length)
      this.keep(chunk, 0, at)
      if (this.carryLength < HEADER) return -1
    }
    const size = 1 + this.carry.readInt32BE(1)
    if (size < HEADER || size > MAX_MESSAGE) throw malformed(this.carry[0], size)
    const missing = size - this.carryLength
    const take = Math.min(missing, chunk.length - at)
    // As it comes: a size that is made up must not cost memory.
    if (this.carry.length < this.carryLength + take) this.growCarry(Math.min(size, 4 * (this.carryLength + take)))
    this.keep(chunk, at, at + take)
    if (take < missing) return -1
    this.carryLength = 0
    this.message(this.carry, 0, size, false)
    if (this.carry.length > KEPT_BYTES) this.carry = Buffer.alloc(0)
    return at + take
  }

  private keep(chunk: Buffer, start: number, end: number): void {
    const length = this.carryLength + end - start
    if (this.carry.length < length) this.growCarry(Math.max(length, HEADER))
    chunk.copy(this.carry, this.carryLength, start, end)
    this.carryLength = length
  }

  private growCarry(size: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(size, 64 * 1024))
    this.carry.copy(grown, 0, 0, this.carryLength)
    this.carry = grown
  }

  private message(bytes: Buffer, start: number, end: number, isLasting: boolean): void {
    const type = bytes[start]
    const handler = this.handler
    if (handler === null) return
    if (type === Code.copyData) {
      try {
        handler.copyData(bytes, start + HEADER, end, isLasting)
      } catch (error) {
        handler.failed(error)
      }
    } else if (type === Code.error) handler.failed(readError(bytes, start + HEADER, end))
    else if (type !== Code.notice && type !== Code.parameter && type !== Code.notification) handler.control(type)
  }
}

/** Fields of an ErrorResponse: a letter and a NUL-terminated text each. */
function readError(bytes: Buffer, start: number, end: number): pg.DatabaseError {
  const fields = new Map<string, string>()
  for (let at = start; at < end && bytes[at] !== 0;) {
    const found = bytes.indexOf(0, at + 1)
    const stop = found < 0 || found > end ? end : found
    fields.set(String.fromCharCode(bytes[at]), bytes.toString('utf8', at + 1, stop))
    at = stop + 1
  }
  const error = new pg.DatabaseError(fields.get('M') ?? 'unknown error', end - start, 'error')
  error.code = fields.get('C')
  error.severity = fields.get('S')
  error.detail = fields.get('D')
  error.hint = fields.get('H')
  return error
}

function malformed(type: number, size: number): MoonlinkError {
  return new MoonlinkError(
    'corrupt',
    'PG_PROTOCOL',
    `Postgres sent a message of type ${type} and ${size} bytes, which can't be. Check what lies between us and the server (a proxy?).`,
  )
}

export const READY = 0x5a
export const COPY_BOTH = 0x57
export const COPY_DONE = Code.copyDone
