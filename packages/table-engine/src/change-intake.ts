import { maxLsn, type Lsn } from '@moonlink/core'
import { applyBatch } from './apply-batch.ts'
import { changeShape } from './change-shape.ts'
import { cutOpenSegment, type EarlyWriteSizes } from './early-write.ts'
import { batchBytes, copyBatch, dropThrough, isBatch, isReshape, type HeldChange } from './held-batches.ts'
import type { MirrorCore } from './mirror-core.ts'

/** Lets the stream's changes into a mirror, in order and each once: what Iceberg has is dropped, what is too soon waits. */
export class ChangeIntake {
  private readonly core: MirrorCore
  private readonly earlySizes: EarlyWriteSizes
  /** Changes of transactions that end at or before this are in Iceberg already. */
  private skipThroughLsn: Lsn
  private isCatchingUp = true
  private held: HeldChange[] = []
  private heldByteSize = 0

  constructor(core: MirrorCore, earlySizes: EarlyWriteSizes) {
    this.core = core
    this.earlySizes = earlySizes
    this.skipThroughLsn = core.committed.lsn ?? 0n
  }

  get isHolding(): boolean {
    return this.held.length > 0
  }

  /** Bytes of changes that wait. */
  get byteSize(): number {
    return this.heldByteSize
  }

  /** Keeps a copy of the change until `startAt`. */
  hold(change: HeldChange): void {
    if (!isBatch(change)) return void this.held.push(change)
    const copy = copyBatch(change)
    this.held.push(copy)
    this.heldByteSize += batchBytes(copy)
  }

  /** Drops what Iceberg has already; an open transaction of which nothing tells that waits for its end. Under the lock. */
  async apply(change: HeldChange): Promise<void> {
    if (!this.isCatchingUp) return this.applyNow(change)
    const firstEnd = isBatch(change) ? change.marks.endLsns[0] : undefined
    if (!isBatch(change) || firstEnd === undefined) {
      if (change.openLsn === undefined) return this.hold(change)
      // Nothing committed lies within a transaction, so one that ends behind `skipThroughLsn` has no position before it.
      if (change.openLsn < this.skipThroughLsn) return
      this.isCatchingUp = false
      return this.applyNow(change)
    }
    const waiting = this.takeHeld()
    if (firstEnd > this.skipThroughLsn) {
      this.isCatchingUp = false
      for (const earlier of waiting) await this.applyNow(earlier)
      return this.applyNow(change)
    }
    const rest = dropThrough(change, this.skipThroughLsn)
    if (rest === null) return
    if (rest.marks.endLsns.length === 0) return this.apply(rest)
    this.isCatchingUp = false
    return this.applyNow(rest)
  }

  /** Everything up to `lsn` is in Iceberg: what was held is applied, and what comes. Under the lock. */
  async startAt(lsn: Lsn): Promise<void> {
    this.skipThroughLsn = lsn
    this.isCatchingUp = true
    for (const change of this.takeHeld()) await this.apply(change)
  }

  /** Forgets what waits; the stream brings everything after `lsn` again. */
  restartAt(lsn: Lsn): void {
    this.takeHeld()
    this.skipThroughLsn = lsn
    this.isCatchingUp = true
  }

  /** The stream starts again before `lsn`, which is applied: what comes up to there is skipped. */
  skipTo(lsn: Lsn): void {
    this.skipThroughLsn = maxLsn(this.skipThroughLsn, lsn)
    this.isCatchingUp = true
  }

  private takeHeld(): HeldChange[] {
    this.heldByteSize = 0
    return this.held.splice(0)
  }

  private async applyNow(change: HeldChange): Promise<void> {
    const { host, state } = this.core
    if (isReshape(change)) return changeShape(state, change.shape, host.sealedFiles)
    if (!isBatch(change)) return state.truncate()
    cutOpenSegment(state, this.earlySizes)
    await applyBatch(state, change)
  }
}
