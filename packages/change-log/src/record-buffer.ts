import type { Lsn } from '@moonlink/core'
import { RECORD_HEADER, sealRecord, writeRecordHeader } from './record-format.ts'

/** A record is ended at this size, at the latest when it goes out; larger runs of frames are not split. */
const RECORD_BYTES = 64 * 1024

/** Records laid out as they will be on disk. One is open for appending at a time. */
export class RecordBuffer {
  private bytes: Buffer
  private used = 0
  /** Where the open record starts; -1 while none is open. */
  private openAt = -1
  /** Where the last transaction within the open record ends. */
  private openEnd: { offset: number; lsn: Lsn } | null = null
  private cleanLength = 0
  private lastEnd: Lsn | null = null

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity)
  }

  get length(): number {
    return this.used
  }

  /** End of the last transaction that ends in a closed record, and where that record ends; null where none does. */
  get end(): { readonly lsn: Lsn; readonly length: number } | null {
    return this.lastEnd === null ? null : { lsn: this.lastEnd, length: this.cleanLength }
  }

  append(frames: Uint8Array, endLsn: Lsn | null): void {
    this.reserve(frames.length + 2 * RECORD_HEADER)
    if (this.openAt < 0) {
      this.openAt = this.used
      this.used += RECORD_HEADER
    }
    this.bytes.set(frames, this.used)
    this.used += frames.length
    if (endLsn !== null) this.openEnd = { offset: this.used, lsn: endLsn }
    if (this.used - this.openAt >= RECORD_BYTES) this.close()
  }

  /** Ends the open record: as two, where a transaction ends in its middle, so that what follows that can be told apart. */
  close(): void {
    if (this.openAt < 0) return
    const { openAt, openEnd } = this
    if (openEnd === null) this.complete(openAt, this.used, null)
    else {
      const rest = this.used - openEnd.offset
      this.complete(openAt, openEnd.offset, openEnd.lsn)
      if (rest > 0) {
        this.bytes.copyWithin(openEnd.offset + RECORD_HEADER, openEnd.offset, this.used)
        this.used += RECORD_HEADER
        this.complete(openEnd.offset, this.used, null)
      }
    }
    this.openAt = -1
    this.openEnd = null
  }

  /** The closed records, sealed for a file that is safe up to `syncedLength`. */
  seal(syncedLength: number): Uint8Array {
    for (let at = 0; at < this.used;) at = sealRecord(this.bytes, at, syncedLength)
    return this.bytes.subarray(0, this.used)
  }

  clear(): void {
    this.used = this.cleanLength = 0
    this.openAt = -1
    this.openEnd = this.lastEnd = null
  }

  private complete(from: number, to: number, endLsn: Lsn | null): void {
    writeRecordHeader(this.bytes, from, to - from - RECORD_HEADER, endLsn)
    if (endLsn === null) return
    this.lastEnd = endLsn
    this.cleanLength = to
  }

  private reserve(more: number): void {
    const needed = this.used + more
    if (needed <= this.bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2))
    grown.set(this.bytes.subarray(0, this.used))
    this.bytes = grown
  }
}
