import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { assert, MoonlinkError, type ColumnBatch, type Field, type RowsToWrite, type ScannedBatch, type TableSchema } from '@moonlink/core'
import { FileInParts } from './file-in-parts.ts'
import { transferList } from './transfer-list.ts'
import type { EncodedParquet, EncodeOptions, FileLineage, ParquetFileWriter, ParquetSource } from './types.ts'
import { isWrite, toError, type JobKind, type Jobs, type WorkerRequest, type WorkerResponse } from './worker-messages.ts'

export interface ParquetWorkerPoolOptions {
  /** Threads at most; default: one per core, at most 4. Of two or more, one is always left to reads. */
  readonly workers?: number
  /** A thread whose WebAssembly memory (it never shrinks) has grown beyond this is replaced; default 1 GiB. */
  readonly maxWorkerBytes?: number
}

export interface ScanRequest {
  readonly fields: readonly Field[]
  /** What rows inherit; null where lineage is not asked for. */
  readonly lineage: FileLineage | null
}

interface Job {
  readonly request: WorkerRequest
  readonly transfer: readonly ArrayBuffer[]
  resolve(result: Jobs[JobKind]['result']): void
  reject(error: Error): void
}

interface Slot {
  readonly worker: Worker
  job: Job | null
}

const DEFAULT_MAX_WORKER_BYTES = 1024 ** 3

/**
 * Writes and reads Parquet files in worker threads, which are started when first needed and do not keep the process alive while idle.
 * Reads go before writes. What comes back is the caller's own memory.
 *
 * Not promised: any order of completion; fields of a file that has no field ids (such a file is refused).
 */
export class ParquetWorkerPool {
  private readonly workers: number
  private readonly maxWorkerBytes: number
  private readonly slots = new Set<Slot>()
  private readonly reads: Job[] = []
  private readonly writes: Job[] = []
  private isClosed = false

  constructor(options: ParquetWorkerPoolOptions = {}) {
    this.workers = Math.max(1, options.workers ?? Math.min(4, availableParallelism()))
    this.maxWorkerBytes = options.maxWorkerBytes ?? DEFAULT_MAX_WORKER_BYTES
  }

  /**
   * Writes rows as one file: the schema's fields in order, by field id. Takes over the memory of `rows`: its arrays must not be used any
   * more. Throws `invalid` where a required field has nulls.
   */
  encode(rows: RowsToWrite, schema: TableSchema, options: EncodeOptions = {}): Promise<EncodedParquet> {
    return this.run('encode', { rows, schema, options }, transferList(rows))
  }

  createFile(fields: readonly Field[], options: EncodeOptions = {}): ParquetFileWriter {
    const schema = { fields, identifierFieldIds: [] }
    return new FileInParts(fields, options, (rows) => {
      return this.run('groups', { rows, schema, options }, transferList(rows))
    })
  }

  /**
   * Reads whole columns by field id, in row order, in batches of bounded size, one read ahead; a field that the file lacks
   * holds its initial default.
   * Iceberg's type promotions are applied. Throws `corrupt` for a file that is damaged, `invalid` for one of another schema.
   */
  async *scan(source: ParquetSource, { fields, lineage }: ScanRequest): AsyncIterable<ScannedBatch> {
    const shared = shareBytes(source)
    const windows = await this.run('plan', { source: shared, fields, lineage })
    const read = (index: number): Promise<ScannedBatch> | null => {
      const window = windows[index]
      if (window === undefined) return null
      const batch = this.run('read', { source: shared, fields, lineage, window })
      // A batch that is read ahead may fail before anybody waits for it, or after the consumer has left.
      batch.catch(() => undefined)
      return batch
    }
    let next = read(0)
    for (let index = 1; next !== null; index++) {
      const current = next
      next = read(index)
      yield await current
    }
  }

  /** Reads the rows at `positions` (ascending, distinct), touching only the row groups and columns they are in. As `scan` otherwise. */
  fetch(source: ParquetSource, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    return this.run('fetch', { source: shareBytes(source), positions, fields })
  }

  /** Stops the threads. Jobs that have not ended are rejected. */
  async close(): Promise<void> {
    this.isClosed = true
    const slots = [...this.slots]
    this.slots.clear()
    const jobs = [...this.reads.splice(0), ...this.writes.splice(0), ...slots.flatMap(({ job }) => (job === null ? [] : [job]))]
    for (const job of jobs) job.reject(closedError())
    await Promise.all(slots.map(({ worker }) => worker.terminate()))
  }

  private run<K extends JobKind>(kind: K, request: Jobs[K]['request'], transfer: readonly ArrayBuffer[] = []): Promise<Jobs[K]['result']> {
    if (this.isClosed) return Promise.reject(closedError())
    return new Promise((resolve, reject) => {
      // The worker answers a request of kind K with K's result; the compiler cannot follow that through the queue.
      const job = { request: { kind, ...request } as unknown as WorkerRequest, transfer, resolve: resolve as Job['resolve'], reject }
      ;(isWrite(kind) ? this.writes : this.reads).push(job)
      this.dispatch()
    })
  }

  private dispatch(): void {
    for (;;) {
      const isWriteAllowed = this.busyWriters() < Math.max(1, this.workers - 1)
      const queue = this.reads.length > 0 ? this.reads : isWriteAllowed ? this.writes : []
      if (queue.length === 0) return
      const slot = this.idleSlot()
      if (slot === null) return
      this.start(slot, queue.shift()!)
    }
  }

  private start(slot: Slot, job: Job): void {
    slot.job = job
    slot.worker.ref()
    try {
      slot.worker.postMessage(job.request, job.transfer)
    } catch (cause) {
      slot.job = null
      slot.worker.unref()
      job.reject(new MoonlinkError('bug', 'PARQUET_TRANSFER', `rows could not be handed to a worker: ${String(cause)}`, { cause }))
    }
  }

  private busyWriters(): number {
    let count = 0
    for (const { job } of this.slots) if (job !== null && isWrite(job.request.kind)) count++
    return count
  }

  private idleSlot(): Slot | null {
    for (const slot of this.slots) if (slot.job === null) return slot
    if (this.slots.size >= this.workers) return null
    const slot: Slot = { worker: new Worker(workerUrl(), { execArgv: [], name: 'moonlink-parquet' }), job: null }
    slot.worker.unref()
    slot.worker.on('message', (response: WorkerResponse) => this.finish(slot, response))
    slot.worker.on('error', (cause) => this.lose(slot, cause))
    slot.worker.on('exit', (code) => this.lose(slot, new Error(`exit code ${code}`)))
    this.slots.add(slot)
    return slot
  }

  private finish(slot: Slot, response: WorkerResponse): void {
    const { job } = slot
    if (!this.slots.has(slot)) return
    assert(job !== null, 'a worker answers a job')
    slot.job = null
    slot.worker.unref()
    // After a failure of the codec its memory is in doubt; a thread of its own is cheap.
    if (response.memoryBytes > this.maxWorkerBytes || (!response.ok && response.error.code === 'PARQUET_FAILED')) {
      this.slots.delete(slot)
      void slot.worker.terminate()
    }
    if (response.ok) job.resolve(response.result)
    else job.reject(toError(response.error))
    this.dispatch()
  }

  private lose(slot: Slot, cause: Error): void {
    if (!this.slots.delete(slot)) return
    slot.job?.reject(new MoonlinkError('retry', 'PARQUET_WORKER_LOST', `a Parquet worker ended: ${cause.message}`, { cause }))
    this.dispatch()
  }
}

/** The worker's file beside this one: TypeScript in the repository (Node strips the types), JavaScript in the package. */
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? './parquet-worker.ts' : './parquet-worker.js', import.meta.url)
}

/** A file in memory is copied once into memory that all threads see, instead of once per job. */
function shareBytes(source: ParquetSource): ParquetSource {
  if ('path' in source || source.bytes.buffer instanceof SharedArrayBuffer) return source
  const shared = new Uint8Array(new SharedArrayBuffer(source.bytes.length))
  shared.set(source.bytes)
  return { bytes: shared }
}

function closedError(): MoonlinkError {
  return new MoonlinkError('invalid', 'PARQUET_POOL_CLOSED', 'the Parquet worker pool is closed; nothing can be written or read any more')
}
