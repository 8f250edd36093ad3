import { join } from 'node:path'
import { maxLsn, type Lsn, type TableShape } from '@moonlink/core'
import { applyBatch } from './apply-batch.ts'
import { changeShape } from './change-shape.ts'
import { ChangeSpool } from './change-spool.ts'
import { cutOpenSegment, type EarlyWriteSizes } from './early-write.ts'
import { isBatch, isRecopy, isReshape, type HeldChange } from './held-batches.ts'
import type { MirrorCore } from './mirror-core.ts'
import { Patience } from './patience.ts'
import { SkipFilter } from './skip-filter.ts'

/** Changes that wait for a copy take this share of the memory limit, or so many bytes, before they go to disk. */
const SPOOL_MEMORY_SHARE = 1 / 256
const SPOOL_MEMORY_BYTES = 4 * 1024 * 1024
const SPOOL_FILE = 'waiting-changes'

/**
 * Lets the stream's changes into a mirror, in order and each once. What is too soon, since the table is being copied, waits in a spool; so does
 * what comes until all of that is applied.
 */
export class ChangeIntake {
  private readonly core: MirrorCore
  private readonly earlySizes: EarlyWriteSizes
  private readonly spool: ChangeSpool
  /** Drops what was taken already. */
  private readonly arriving: SkipFilter
  /** Drops what Iceberg has. */
  private readonly applying = new SkipFilter(0n)
  /** With a disk that takes no key indexes. */
  private readonly patience: Patience
  private isSpooling = false
  /** The shape that the spool ends with, after the open transaction and before it; null where nothing in it changes the shape. */
  private spooledShape: TableShape | null = null
  private closedShape: TableShape | null = null
  private lastTakenLsn: Lsn
  /** The source was looked at as of there, and nothing was read up to there. */
  private lookedAtLsn: Lsn | null
  private readonly pause: (code: string, reason: string, openLsn: Lsn | undefined) => void

  /** `pause`: called, without waiting, where the table has to be copied again. */
  constructor(core: MirrorCore, earlySizes: EarlyWriteSizes, pause: (code: string, reason: string, openLsn: Lsn | undefined) => void) {
    const { clock, limits, logger, sealedFiles } = core.host
    this.core = core
    this.earlySizes = earlySizes
    this.pause = pause
    this.patience = new Patience({
      clock,
      isEnding: () => core.isImpatient,
      onWait: ({ code, message }) =>
        logger.warn('key indexes could not be made anew; changes wait until they can be', { table: core.name, code, error: message }),
    })
    this.lookedAtLsn = core.committed.lsn === null ? (core.spec.asOfLsn ?? null) : null
    this.lastTakenLsn = core.committed.lsn ?? this.lookedAtLsn ?? 0n
    this.arriving = new SkipFilter(this.lastTakenLsn)
    this.spool = new ChangeSpool({
      disk: sealedFiles.disk,
      path: join(sealedFiles.directory, SPOOL_FILE),
      memoryBytes: Math.min(SPOOL_MEMORY_BYTES, limits.memoryLimitBytes * SPOOL_MEMORY_SHARE),
      logger,
    })
  }

  /** True where changes wait that the mirror has to apply, or the last of them is being applied. */
  get isHolding(): boolean {
    return this.isWaiting || this.isSpooling || !this.spool.isEmpty
  }

  /** True where a part of an open transaction waits for its end to tell whether it counts. */
  get isWaiting(): boolean {
    return this.arriving.isWaiting || this.applying.isWaiting
  }

  /** True while what comes has to wait behind what came before. */
  get isBehind(): boolean {
    return this.isSpooling
  }

  /** Why changes that should wait on disk take memory; null where they do not. */
  get trouble(): string | null {
    return this.spool.trouble
  }

  /** Where there is trouble, tries again. Under the lock. */
  async retrySpool(): Promise<void> {
    await this.spool.retry()
  }

  /** Forgets what waits, for good: the mirror takes nothing any more until it begins anew, and is behind until then. Under the lock. */
  async letGo(): Promise<void> {
    // Its memory is free whatever the disk says.
    await this.spool.clear().catch(() => undefined)
  }

  /** Bytes in memory of changes that wait. */
  get byteSize(): number {
    return this.spool.byteSize + this.arriving.byteSize + this.applying.byteSize
  }

  /** Bytes on disk of changes that wait. */
  get spooledBytes(): number {
    return this.spool.fileBytes
  }

  /** The shape of the rows that come next. */
  get shape(): TableShape {
    return (this.isSpooling ? this.spooledShape : null) ?? this.core.state.shape
  }

  /** No change of a transaction that ends here or before is wanted any more. */
  get takenThroughLsn(): Lsn {
    return maxLsn(this.arriving.throughLsn, this.lastTakenLsn)
  }

  /** Up to here changes were read, or are in Iceberg. */
  get readThroughLsn(): Lsn {
    const { takenThroughLsn } = this
    return takenThroughLsn === this.lookedAtLsn ? (this.core.committed.lsn ?? 0n) : takenThroughLsn
  }

  /** Takes a change of the stream. Under the lock. */
  async take(change: HeldChange): Promise<void> {
    for (const arrived of this.arriving.pass(change)) {
      if (this.isSpooling) await this.spoolChange(arrived)
      else await this.apply(arrived)
      const lastEnd = isBatch(arrived) ? arrived.marks.endLsns.at(-1) : undefined
      if (lastEnd !== undefined) this.lastTakenLsn = maxLsn(this.lastTakenLsn, lastEnd)
    }
  }

  /** From here on, changes wait. */
  holdBack(): void {
    this.isSpooling = true
  }

  /** Everything up to `lsn` is in Iceberg; the rest of what waits is to be applied (`applyNext`). Under the lock. */
  startAt(lsn: Lsn): void {
    this.applying.raise(lsn)
    this.isSpooling = !this.spool.isEmpty
  }

  /** Applies the first change that waits; null where none does, and what comes is applied at once from here on. Under the lock. */
  async applyNext(): Promise<HeldChange | null> {
    const change = await this.core.state.reads.patiently(() => this.spool.shift())
    if (change === null) {
      this.isSpooling = false
      this.spooledShape = this.closedShape = null
    } else await this.apply(change)
    return change
  }

  /** Every whole transaction that waits, which stays. */
  waiting(): AsyncIterable<HeldChange> {
    return this.spool.read()
  }

  /** Forgets what waits; the stream brings everything after `lsn` again. */
  async restartAt(lsn: Lsn): Promise<void> {
    this.arriving.restartAt(lsn)
    this.applying.restartAt(lsn)
    this.isSpooling = false
    this.spooledShape = this.closedShape = null
    this.lastTakenLsn = lsn
    await this.spool.clear()
  }

  /** What changed up to `lsn` is not wanted: the source was looked at as of there. */
  skipToLook(lsn: Lsn): void {
    if (lsn > this.takenThroughLsn) this.lookedAtLsn = lsn
    this.skipTo(lsn)
  }

  /** The stream starts again before `lsn`, which was taken: what comes up to there is skipped. */
  skipTo(lsn: Lsn): void {
    this.arriving.raise(lsn)
  }

  /**
   * The stream was lost: forgets what waits of an open transaction, which comes again. So do whole transactions that were taken, where the stream
   * ended before it told its position: those are skipped. Under the lock.
   */
  rollBackWaiting(): void {
    this.arriving.dropWaiting()
    this.arriving.raise(this.lastTakenLsn)
    this.spool.rollBack()
    this.spooledShape = this.closedShape
  }

  async close(): Promise<void> {
    await this.spool.close()
  }

  private async spoolChange(change: HeldChange): Promise<void> {
    if (isReshape(change)) this.spooledShape = change.shape
    else if (isBatch(change) && change.marks.endLsns.length > 0) this.closedShape = this.spooledShape
    await this.spool.append(change)
  }

  private async apply(change: HeldChange): Promise<void> {
    for (const passed of this.applying.pass(change)) await this.applyNow(passed)
  }

  private async applyNow(change: HeldChange): Promise<void> {
    const { host, phase, state } = this.core
    if (phase !== 'streaming') return
    if (isRecopy(change)) return this.pause(change.code, change.reason, change.openLsn)
    if (isReshape(change)) return this.patience.with(() => changeShape(state, change.shape, host.sealedFiles))
    if (!isBatch(change)) return state.truncate()
    cutOpenSegment(state, this.earlySizes)
    await applyBatch(state, change)
  }
}
