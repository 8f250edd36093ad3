import { MoonlinkError, type Lsn } from '@moonlink/core'
import { int16At, int32At, uint64At } from '../types/wire.ts'

const TWO_32 = 0x1_0000_0000
const EPOCH_2000_MS = 946_684_800_000

/** Bytes that the replication protocol does not allow at this place. */
export function malformedMessage(what: string, context: Readonly<Record<string, unknown>> = {}): never {
  throw new MoonlinkError('corrupt', 'PGOUTPUT_MALFORMED', `the replication stream is malformed: ${what}`, { context })
}

/** Postgres' µs since 2000 as whole ms since 1970. */
export function timestampMsAt(source: Uint8Array, at: number): number {
  const micros = int32At(source, at) * TWO_32 + (int32At(source, at + 4) >>> 0)
  return Math.floor(micros / 1000) + EPOCH_2000_MS
}

const utf8 = new TextDecoder()

/** Reads a control message field by field, never past its end. For what is rare; rows are read in place. */
export class MessageReader {
  private readonly source: Uint8Array
  private at: number

  constructor(source: Uint8Array, at: number) {
    this.source = source
    this.at = at
  }

  byte(): number {
    return this.source[this.advance(1)]
  }

  int16(): number {
    return int16At(this.source, this.advance(2))
  }

  int32(): number {
    return int32At(this.source, this.advance(4))
  }

  oid(): number {
    return this.int32() >>> 0
  }

  lsn(): Lsn {
    return uint64At(this.source, this.advance(8))
  }

  timestampMs(): number {
    return timestampMsAt(this.source, this.advance(8))
  }

  /** A NUL-terminated string. */
  text(): string {
    const end = this.source.indexOf(0, this.at)
    if (end < 0) malformedMessage('a name does not end')
    const text = utf8.decode(this.source.subarray(this.at, end))
    this.at = end + 1
    return text
  }

  get remaining(): number {
    return this.source.length - this.at
  }

  finish(message: string): void {
    if (this.remaining !== 0) malformedMessage(`${this.remaining} bytes too many in ${message}`)
  }

  private advance(size: number): number {
    const at = this.at
    if (this.source.length - at < size) malformedMessage('a message is cut off')
    this.at = at + size
    return at
  }
}
