import type { Lsn } from '@moonlink/core'
import { RecordBuffer } from './record-buffer.ts'
import type { NextSegment } from './segment-format.ts'

const KEPT_BUFFERS = 4

export interface Batch {
  readonly buffer: RecordBuffer
  readonly endLsn: Lsn | null
  /** The segment that follows the one this batch is written to; null where that goes on. */
  readonly next: NextSegment | null
}

/** What was appended and is not written yet: batches, and behind them a buffer that takes what comes. */
export class WriteQueue {
  private readonly bufferBytes: number
  private readonly maxBytes: number
  private buffer: RecordBuffer
  private readonly spareBuffers: RecordBuffer[] = []
  private batches: Batch[] = []
  private batchBytes = 0
  private drainWaiters: (() => void)[] = []

  /** `bufferBytes`: usual size of a batch; `maxBytes`: with more it `isBehind`. */
  constructor(bufferBytes: number, maxBytes: number) {
    this.bufferBytes = bufferBytes
    this.maxBytes = maxBytes
    this.buffer = new RecordBuffer(bufferBytes)
  }

  /** With the batch that was taken last, until it is `written`. */
  get bytes(): number {
    return this.batchBytes + this.buffer.length
  }

  /** Of these, what is in no batch yet. */
  get openBytes(): number {
    return this.buffer.length
  }

  get isBehind(): boolean {
    return this.bytes > this.maxBytes
  }

  /** Resolves once it is not behind. */
  drained(): Promise<void> {
    if (!this.isBehind) return Promise.resolve()
    return new Promise((resolve) => this.drainWaiters.push(resolve))
  }

  append(frames: Uint8Array, endLsn: Lsn | null): void {
    this.buffer.append(frames, endLsn)
  }

  /** Makes a batch of what was appended. */
  endBatch(next: NextSegment | null): void {
    this.buffer.close()
    this.batches.push({ buffer: this.buffer, endLsn: this.buffer.end?.lsn ?? null, next })
    this.batchBytes += this.buffer.length
    this.buffer = this.spareBuffers.pop() ?? new RecordBuffer(this.bufferBytes)
  }

  /** Takes the oldest batch. */
  shift(): Batch | undefined {
    return this.batches.shift()
  }

  /** The buffer is used again. */
  written({ buffer }: Batch): void {
    this.batchBytes -= buffer.length
    buffer.clear()
    if (this.spareBuffers.length < KEPT_BUFFERS) this.spareBuffers.push(buffer)
    this.wakeDrained()
  }

  /** Forgets all of it. */
  clear(): void {
    this.batches = []
    this.batchBytes = 0
    this.buffer.clear()
    this.wakeDrained()
  }

  private wakeDrained(): void {
    if (this.isBehind) return
    for (const wake of this.drainWaiters.splice(0)) wake()
  }
}
