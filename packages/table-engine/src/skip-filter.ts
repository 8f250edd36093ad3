import { maxLsn, type Lsn } from '@moonlink/core'
import { batchBytes, copyBatch, dropThrough, isBatch, type HeldChange } from './held-batches.ts'

/** Lets changes through but for those of transactions that end at or before an LSN. */
export class SkipFilter {
  /** Transactions that end here or before do not pass. */
  throughLsn: Lsn
  /** False once a change behind `throughLsn` was seen: none before it follows. */
  private isSkipping = true
  /** Of an open transaction of which nothing tells whether it counts. */
  private waiting: HeldChange[] = []
  private waitingBytes = 0

  constructor(throughLsn: Lsn) {
    this.throughLsn = throughLsn
  }

  get isWaiting(): boolean {
    return this.waiting.length > 0
  }

  get byteSize(): number {
    return this.waitingBytes
  }

  /** What may pass now: of this change, and of those that waited. Valid as long as the change is. */
  pass(change: HeldChange): readonly HeldChange[] {
    if (!this.isSkipping) return [change]
    const firstEnd = isBatch(change) ? change.marks.endLsns[0] : undefined
    if (!isBatch(change) || firstEnd === undefined) {
      if (change.openLsn === undefined) return this.hold(change)
      // No transaction ends within another, so one that ends behind `throughLsn` has no position before it.
      if (change.openLsn < this.throughLsn) return []
      this.isSkipping = false
      return [change]
    }
    const waited = this.takeWaiting()
    if (firstEnd > this.throughLsn) {
      this.isSkipping = false
      return [...waited, change]
    }
    const rest = dropThrough(change, this.throughLsn)
    if (rest === null) return []
    if (rest.marks.endLsns.length === 0) return this.pass(rest)
    this.isSkipping = false
    return [rest]
  }

  /** From here on, what ends at or before `lsn` is dropped too. */
  raise(lsn: Lsn): void {
    this.throughLsn = maxLsn(this.throughLsn, lsn)
    this.isSkipping = true
  }

  /** Begins anew: the stream brings everything after `lsn` again. */
  restartAt(lsn: Lsn): void {
    this.takeWaiting()
    this.throughLsn = lsn
    this.isSkipping = true
  }

  /** Forgets the open transaction: the stream brings it again. */
  dropWaiting(): void {
    this.takeWaiting()
  }

  private hold(change: HeldChange): readonly HeldChange[] {
    const kept = isBatch(change) ? copyBatch(change) : change
    this.waiting.push(kept)
    if (isBatch(kept)) this.waitingBytes += batchBytes(kept)
    return []
  }

  private takeWaiting(): HeldChange[] {
    this.waitingBytes = 0
    return this.waiting.splice(0)
  }
}
