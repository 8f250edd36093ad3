import { int32At } from '../types/wire.ts'
import { CopyRows, INCOMPLETE, TRAILER, type CopyRowsOptions, type DecodedRows } from './copy-rows.ts'

/** `PGCOPY\n\377\r\n\0` */
const SIGNATURE = Uint8Array.of(0x50, 0x47, 0x43, 0x4f, 0x50, 0x59, 0x0a, 0xff, 0x0d, 0x0a, 0x00)
const HEADER_BYTES = SIGNATURE.length + 8
const TRAILER_BYTES = 2
const NO_BYTES = new Uint8Array(0)
/** The carry buffer is given back above this size. */
const KEPT_BYTES = 1 << 20

/**
 * Decodes streams of `COPY … TO STDOUT (FORMAT binary)`, one after the other, cut into chunks anywhere.
 *
 * `take` gives the rows so far, of all streams. Throws `BadValueError` naming the column for a value that Iceberg cannot hold,
 * `corrupt`/`COPY_MALFORMED` or `corrupt`/`VALUE_MALFORMED` for bytes that are not such a stream; the decoder is of no use afterwards.
 */
export class CopyBinaryDecoder {
  private readonly rows: CopyRows
  /** The beginning of what a chunk cut off: `carried` bytes of `carry`. */
  private carry: Uint8Array = NO_BYTES
  private carried = 0
  private phase: 'header' | 'rows' | 'done' = 'header'

  constructor(options: CopyRowsOptions) {
    this.rows = new CopyRows(options)
  }

  /** Rows held for the next `take`. */
  get rowsBuffered(): number {
    return this.rows.length
  }

  /** Bytes of the stream that the held rows came in. */
  get bytesBuffered(): number {
    return this.rows.bytes
  }

  /**
   * Takes the next bytes of the stream, `source[start … end)`. `isLasting`: they stay as they are until `flush`, so that many pieces are decoded
   * together; otherwise their memory may be used again at once.
   */
  feed(source: Uint8Array, start = 0, end = source.length, isLasting = false): void {
    if (this.carried > 0) return this.feedBehindCarry(source.subarray(start, end))
    const at = this.decode(source, start, end)
    if (!isLasting) this.rows.flush()
    if (at < end) this.keep(source.subarray(at, end))
  }

  /** Decodes what was fed. */
  flush(): void {
    this.rows.flush()
  }

  /** States that the stream has ended, so that another may begin; throws `corrupt`/`COPY_MALFORMED` if it has not said so itself. */
  finish(): void {
    if (this.phase !== 'done') this.rows.malformed('it ends too early')
    this.phase = 'header'
  }

  /** The first `maxRows` of the rows so far, or null where there are none. They are valid until they are released. */
  take(maxRows = Number.POSITIVE_INFINITY): DecodedRows | null {
    return this.rows.take(maxRows)
  }

  private feedBehindCarry(chunk: Uint8Array): void {
    this.keep(chunk)
    const { carry, carried } = this
    const used = this.decode(carry, 0, carried)
    this.rows.flush()
    if (used > 0) carry.copyWithin(0, used, carried)
    this.carried = carried - used
    // One huge row shall not hold its memory until the end.
    if (this.carried === 0 && carry.length > KEPT_BYTES) this.carry = NO_BYTES
  }

  /** Decodes what is complete of `source[at … end)`; returns where the rest begins. */
  private decode(source: Uint8Array, at: number, end: number): number {
    if (this.phase === 'header') {
      const size = this.headerSize(source, at, end)
      if (size === 0) return at
      at += size
      this.phase = 'rows'
    }
    while (this.phase === 'rows') {
      const next = this.rows.note(source, at, end)
      if (next === INCOMPLETE) return at
      if (next === TRAILER) this.phase = 'done'
      at = next === TRAILER ? at + TRAILER_BYTES : next
    }
    if (at < end) this.rows.malformed('bytes follow its trailer')
    return at
  }

  /** Bytes of the header, or 0 if it is not complete. */
  private headerSize(source: Uint8Array, at: number, end: number): number {
    const size = end - at
    for (let index = 0; index < Math.min(size, SIGNATURE.length); index++) {
      if (source[at + index] !== SIGNATURE[index]) this.rows.malformed('it does not start with the signature of binary COPY')
    }
    if (size < HEADER_BYTES) return 0
    if (int32At(source, at + SIGNATURE.length) !== 0) this.rows.malformed('its header has flags that Postgres does not set')
    const extension = int32At(source, at + SIGNATURE.length + 4)
    if (extension < 0) this.rows.malformed('its header has a negative length')
    return HEADER_BYTES + extension <= size ? HEADER_BYTES + extension : 0
  }

  private keep(chunk: Uint8Array): void {
    const needed = this.carried + chunk.length
    if (needed > this.carry.length) {
      const carry = new Uint8Array(Math.max(needed, this.carry.length * 2, 1024))
      carry.set(this.carry.subarray(0, this.carried))
      this.carry = carry
    }
    this.carry.set(chunk, this.carried)
    this.carried = needed
  }
}
