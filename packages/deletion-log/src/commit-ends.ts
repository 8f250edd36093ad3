import { assert, type Lsn } from '@moonlink/core'

const MIN_MARKS = 64

/**
 * Where transactions end in the log: parallel arrays of end LSNs and sequence numbers, both ascending, 16 bytes a transaction. One
 * that added no entry takes no room.
 */
export class CommitEnds {
  private lsns = new BigUint64Array(MIN_MARKS)
  private seqs = new Float64Array(MIN_MARKS)
  private start = 0
  private end = 0

  get byteSize(): number {
    return this.lsns.byteLength + this.seqs.byteLength
  }

  /** Sequence number up to which entries belong to ended transactions; -1 where none is known. */
  get lastSeq(): number {
    return this.end > this.start ? this.seqs[this.end - 1] : -1
  }

  push(endLsn: Lsn, endSeq: number): void {
    if (endSeq === this.lastSeq) return
    assert(this.end === this.start || endLsn >= this.lsns[this.end - 1], 'transactions end in LSN order', { endLsn })
    if (this.end === this.lsns.length) this.makeRoom()
    this.lsns[this.end] = endLsn
    this.seqs[this.end] = endSeq
    this.end++
  }

  /** Sequence number where the last transaction with an end LSN ≤ `lsn` ends; -1 where none does. O(log transactions). */
  endSeqAt(lsn: Lsn): number {
    let from = this.start
    let to = this.end
    while (from < to) {
      const middle = (from + to) >> 1
      if (this.lsns[middle] <= lsn) from = middle + 1
      else to = middle
    }
    return from > this.start ? this.seqs[from - 1] : -1
  }

  /** Forgets transactions that end at or before `seq`. */
  prune(seq: number): void {
    while (this.start < this.end && this.seqs[this.start] <= seq) this.start++
  }

  private makeRoom(): void {
    const count = this.end - this.start
    // With half of it free, moving to the front is enough; the cost is that of the pushes since the last time.
    const capacity = count > this.lsns.length / 2 ? this.lsns.length * 2 : this.lsns.length
    const lsns = new BigUint64Array(capacity)
    const seqs = new Float64Array(capacity)
    lsns.set(this.lsns.subarray(this.start, this.end))
    seqs.set(this.seqs.subarray(this.start, this.end))
    this.lsns = lsns
    this.seqs = seqs
    this.start = 0
    this.end = count
  }
}
