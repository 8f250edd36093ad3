import { join } from 'node:path'
import type { Lsn } from '@moonlink/core'
import { applyBatch } from './apply-batch.ts'
import { changeShape } from './change-shape.ts'
import { ChangeSpool } from './change-spool.ts'
import { cutOpenSegment, type EarlyWriteSizes } from './early-write.ts'
import { isBatch, isReshape, type HeldChange } from './held-batches.ts'
import type { MirrorCore } from './mirror-core.ts'
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
  private isSpooling = false

  constructor(core: MirrorCore, earlySizes: EarlyWriteSizes) {
    const { limits, logger, sealedFiles } = core.host
    this.core = core
    this.earlySizes = earlySizes
    this.arriving = new SkipFilter(core.committed.lsn ?? 0n)
    this.spool = new ChangeSpool({
      path: join(sealedFiles.directory, SPOOL_FILE),
      memoryBytes: Math.min(SPOOL_MEMORY_BYTES, limits.memoryLimitBytes * SPOOL_MEMORY_SHARE),
      logger,
    })
  }

  /** True where changes wait that the mirror has to apply. */
  get isHolding(): boolean {
    return this.isWaiting || !this.spool.isEmpty
  }

  /** True where a part of an open transaction waits for its end to tell whether it counts. */
  get isWaiting(): boolean {
    return this.arriving.isWaiting || this.applying.isWaiting
  }

  /** True while what comes has to wait behind what came before. */
  get isBehind(): boolean {
    return this.isSpooling
  }

  /** True where changes that should wait on disk take memory. */
  get isSpoolInTrouble(): boolean {
    return this.spool.isInTrouble
  }

  /** Bytes in memory of changes that wait. */
  get byteSize(): number {
    return this.spool.byteSize + this.arriving.byteSize + this.applying.byteSize
  }

  /** Bytes on disk of changes that wait. */
  get spooledBytes(): number {
    return this.spool.fileBytes
  }

  /** Takes a change of the stream. Under the lock. */
  async take(change: HeldChange): Promise<void> {
    for (const arrived of this.arriving.pass(change)) {
      if (this.isSpooling) await this.spool.append(arrived)
      else await this.apply(arrived)
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
    const change = await this.spool.shift()
    if (change === null) this.isSpooling = false
    else await this.apply(change)
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
    await this.spool.clear()
  }

  /** The stream starts again before `lsn`, which was taken: what comes up to there is skipped. */
  skipTo(lsn: Lsn): void {
    this.arriving.raise(lsn)
  }

  /** The stream was lost: forgets what waits of an open transaction, which comes again. Under the lock. */
  rollBackWaiting(): void {
    this.arriving.dropWaiting()
    this.spool.rollBack()
  }

  async close(): Promise<void> {
    await this.spool.close()
  }

  private async apply(change: HeldChange): Promise<void> {
    for (const passed of this.applying.pass(change)) await this.applyNow(passed)
  }

  private async applyNow(change: HeldChange): Promise<void> {
    const { host, state } = this.core
    if (isReshape(change)) return changeShape(state, change.shape, host.sealedFiles)
    if (!isBatch(change)) return state.truncate()
    cutOpenSegment(state, this.earlySizes)
    await applyBatch(state, change)
  }
}
