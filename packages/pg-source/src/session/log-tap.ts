import { maxLsn, type ChangeLog, type Lsn } from '@moonlink/core'
import { committedBy, isPrepare, KEEPALIVE, type StreamDecoder } from '../decode/index.ts'
import { HEADER } from './raw-connection.ts'

const COPY_DATA = 0x64

/**
 * Hands what a decoder was fed to a log: runs of whole CopyData messages as they lie in the socket's chunk, header and all, so that one
 * copy takes hundreds of them. `feedRun` is the way back.
 */
export class LogTap {
  private readonly log: ChangeLog
  private readonly decoder: StreamDecoder
  private run: Buffer | null = null
  private start = 0
  private end = 0
  /** Up to here, the run has only transactions that have ended; -1 where it has none. */
  private cutEnd = -1
  private isCut = false
  private loggedLsn: Lsn
  /** Something that waits to be decoded prepares a transaction: the decoder does not know yet that nothing behind it may be acknowledged. */
  private isPrepareHeld = false

  constructor(log: ChangeLog, decoder: StreamDecoder) {
    this.log = log
    this.decoder = decoder
    this.loggedLsn = decoder.position
  }

  /** Notes the message whose payload, `bytes[start … end)`, was just fed. */
  fed(bytes: Buffer, start: number, end: number, isLasting: boolean): void {
    const { decoder } = this
    if (bytes[start] === KEEPALIVE && decoder.position === this.loggedLsn) return
    if (this.run !== bytes || this.end !== start - HEADER) {
      this.flush()
      this.run = bytes
      this.start = start - HEADER
    }
    this.end = end
    if (decoder.isHeldBack) this.held(bytes, start, end)
    else this.isPrepareHeld = false
    if (!decoder.inTransaction) {
      this.cutEnd = end
      this.isCut = decoder.isCut
    }
    if (!isLasting) this.flush()
  }

  /** Appends what was noted. Before anybody sees what was decoded from it: else a reader could be ahead of the log. `heldEndLsn`: the transaction that it ends with waits to be decoded. */
  flush(heldEndLsn: Lsn | null = null): void {
    const { cutEnd, decoder, end, run, start } = this
    if (run === null) return
    this.run = null
    this.cutEnd = -1
    // In two, where a transaction ends within. What follows its end left the decoder's position alone.
    if (cutEnd > start) this.log.append(run.subarray(start, cutEnd), decoder.position, this.isCut)
    if (cutEnd < end) this.log.append(run.subarray(Math.max(start, cutEnd), end), heldEndLsn, false)
    this.loggedLsn = maxLsn(this.loggedLsn, heldEndLsn ?? decoder.position)
  }

  /**
   * Tells the log of transactions whose messages it has and that were decoded only now: a question had to be answered first, or their spool to be read. Else a stream
   * that is lost before anything more comes would leave a gap behind, as far as the log can tell.
   */
  settled(): void {
    const { decoder, loggedLsn, run } = this
    if (run !== null || decoder.inTransaction || decoder.position <= loggedLsn) return
    this.log.append(keepaliveAt(decoder.position), decoder.position, decoder.isCut)
    this.loggedLsn = decoder.position
  }

  /**
   * Once a transaction is whole in the log, it is so for good, decoded or not. What is decoded of those that wait may be shown while one behind them waits still, and
   * a stream that is lost then would be ahead of the log.
   */
  private held(bytes: Buffer, start: number, end: number): void {
    const payload = bytes.subarray(start, end)
    this.isPrepareHeld ||= isPrepare(payload)
    const endLsn = this.isPrepareHeld ? null : committedBy(payload)
    if (endLsn !== null) this.flush(endLsn)
  }
}

/** A server's message that says no more than where it is (`WalSndKeepalive`, src/backend/replication/walsender.c). */
function keepaliveAt(lsn: Lsn): Buffer {
  const message = Buffer.alloc(HEADER + 18)
  message[0] = COPY_DATA
  message.writeInt32BE(message.length - 1, 1)
  message[HEADER] = KEEPALIVE
  message.writeBigUInt64BE(lsn, HEADER + 1)
  return message
}

/** Feeds a run of CopyData messages that a log gave back. */
export function feedRun(decoder: StreamDecoder, bytes: Uint8Array): void {
  const run = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = 0; at < run.length;) {
    const next = at + 1 + run.readInt32BE(at + 1)
    decoder.feed(run.subarray(at + HEADER, next))
    at = next
  }
}
