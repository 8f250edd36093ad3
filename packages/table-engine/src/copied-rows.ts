import {
  BatchBuilder,
  batchByteSize,
  type ColumnBatch,
  type CopyRange,
  type DataFileWriter,
  type StagedFile,
  type TableSchema,
  type TableStorage,
} from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import type { CopiedFile, CopyRun } from './copy-record.ts'
import type { EngineLimits } from './limits.ts'
import { keysOf, type Identity } from './identity.ts'
import { joinedHashes } from './joined-hashes.ts'
import { GROUP_ROWS } from './row-groups.ts'
import type { SealedFiles } from './sealed-files.ts'

/** A file of copied rows is complete at this share of the memory limit, or this many rows, if not before. */
const FILE_MEMORY_SHARE = 16
const FILE_ROWS = 8 * GROUP_ROWS
/** Rows that are held for a whole row group take about this much at most. */
const HELD_BYTES = 8 * 1024 * 1024

export interface CopiedRowsSpec {
  readonly schema: TableSchema
  readonly storage: TableStorage
  /** Null for a table without key indexes. */
  readonly identity: Identity | null
  readonly limits: EngineLimits
  readonly sealedFiles: SealedFiles
  /** Puts a file once its path is known to be. */
  readonly write: (path: string, put: () => Promise<StagedFile>) => Promise<StagedFile>
  /** Called once a file and its index are written. */
  readonly onFile: (file: CopiedFile) => Promise<void>
  /** Called once every row of a finished range is in a written file, after `onFile` of that. */
  readonly onDone: (range: CopyRange) => Promise<void>
}

/**
 * The rows of a table's initial copy on their way into staged files, each beside its sealed key index. Rows are encoded as they come, but for the short
 * ends of ranges, which share row groups; so what is held are encoded bytes and key hashes. Commits nothing.
 */
export class CopiedRows {
  private readonly spec: CopiedRowsSpec
  private readonly fileBytes: number
  private current: FileInMaking | null = null
  /** Files that hold memory. */
  private readonly open = new Set<FileInMaking>()
  /** Ranges that were read to the end. */
  private readonly finished = new Set<CopyRange>()
  private writing: Promise<void> = Promise.resolve()
  /** Bytes of batches that are being encoded. */
  private batchBytes = 0
  /** Rows appended so far. */
  rowCount = 0

  constructor(spec: CopiedRowsSpec) {
    this.spec = spec
    this.fileBytes = Math.min(spec.limits.copyFileBytes, spec.limits.memoryLimitBytes / FILE_MEMORY_SHARE)
  }

  /** Rows whose file is not written yet. */
  get bufferedRows(): number {
    let rows = 0
    for (const file of this.open) rows += file.rowCount
    return rows
  }

  get byteSize(): number {
    let size = this.batchBytes
    for (const file of this.open) size += file.byteSize
    return size
  }

  /** Encodes rows of a range, which are not needed any more once this resolves; waits while one file is being written and another is complete. */
  async append(batch: ColumnBatch, range: CopyRange): Promise<void> {
    if (batch.length === 0) return
    const file = (this.current ??= this.newFile())
    this.rowCount += batch.length
    const bytes = batchByteSize(batch)
    this.batchBytes += bytes
    const appended = file.append(batch, range).finally(() => {
      this.batchBytes -= bytes
    })
    // Others who append meanwhile begin the next one.
    const completed = file.rowCount >= FILE_ROWS ? this.complete(file) : null
    await Promise.all([appended, completed])
    if (file === this.current && file.byteSize >= this.fileBytes) await this.complete(file)
  }

  /** Every row of the range was appended. */
  async finishRange(range: CopyRange): Promise<void> {
    this.finished.add(range)
    await this.reportDone()
  }

  /** Writes what is left. */
  async finish(): Promise<void> {
    if (this.current !== null) await this.complete(this.current)
    await this.writing
  }

  private async reportDone(): Promise<void> {
    for (const range of this.finished) {
      if ([...this.open].some((file) => file.has(range))) continue
      if (this.finished.delete(range)) await this.spec.onDone(range)
    }
  }

  private newFile(): FileInMaking {
    const file = new FileInMaking(this.spec)
    this.open.add(file)
    return file
  }

  /** Writes a file that gets no more rows, behind the one before it. */
  private async complete(file: FileInMaking): Promise<void> {
    this.current = null
    const before = this.writing
    const write = async () => {
      const written = await file.finish()
      await this.spec.onFile(written)
      this.open.delete(file)
      await this.reportDone()
    }
    this.writing = Promise.all([before, write()]).then(() => undefined)
    this.writing.catch(() => undefined)
    await before
  }
}

/** One file in the making, and the hashes of its keys. */
class FileInMaking {
  private readonly spec: CopiedRowsSpec
  private readonly writer: DataFileWriter
  private hashes: KeyHashes[] = []
  private appends: Promise<void>[] = []
  private readonly runs: CopyRun[] = []
  /** Rows that are not a row group yet. They come behind all that was encoded when they are. */
  private held: BatchBuilder
  private heldRuns: CopyRun[] = []

  constructor(spec: CopiedRowsSpec) {
    this.spec = spec
    this.writer = spec.storage.createFile(spec.schema.fields)
    this.held = new BatchBuilder(spec.schema.fields)
  }

  get rowCount(): number {
    return this.writer.recordCount + this.held.length
  }

  get byteSize(): number {
    return this.writer.byteSize + this.held.byteSize + (this.spec.identity ? this.rowCount * 8 : 0)
  }

  has(range: CopyRange): boolean {
    return [...this.runs, ...this.heldRuns].some((run) => run.range === range)
  }

  async append(batch: ColumnBatch, range: CopyRange): Promise<void> {
    if (batch.length >= GROUP_ROWS || batchByteSize(batch) > HELD_BYTES) return this.encode(batch, [{ range, count: batch.length }])
    const ended: Promise<void>[] = []
    for (let from = 0; from < batch.length;) {
      const to = Math.min(batch.length, from + GROUP_ROWS - this.held.length)
      this.held.appendRange(batch, from, to)
      addRun(this.heldRuns, { range, count: to - from })
      if (this.held.length === GROUP_ROWS || this.held.usedBytes > HELD_BYTES) ended.push(this.endGroup())
      from = to
    }
    await Promise.all(ended)
  }

  async finish(): Promise<CopiedFile> {
    if (this.held.length > 0) void this.endGroup()
    await Promise.all(this.appends)
    const { identity, sealedFiles, write } = this.spec
    const put = async (): Promise<StagedFile> => {
      const sealing = identity ? sealedFiles.write(this.writer.path, identity, joinedHashes(this.hashes, this.rowCount), null) : null
      // Both, so that neither works on behind our back.
      const [staged, sealed] = await Promise.allSettled([this.writer.finish(), sealing])
      if (staged.status === 'rejected') throw staged.reason
      if (sealed.status === 'rejected') throw sealed.reason
      return staged.value
    }
    return { staged: await write(this.writer.path, put), runs: this.runs }
  }

  private endGroup(): Promise<void> {
    const [rows, runs] = [this.held.view(), this.heldRuns]
    this.held = new BatchBuilder(this.spec.schema.fields)
    this.heldRuns = []
    return this.encode(rows, runs)
  }

  private encode(batch: ColumnBatch, runs: readonly CopyRun[]): Promise<void> {
    const { identity } = this.spec
    for (const run of runs) addRun(this.runs, run)
    if (identity) this.hashes.push(identity.hasher.hash(keysOf(identity, batch), 0, batch.length))
    const append = this.writer.append(batch)
    this.appends.push(append)
    return append
  }
}

function addRun(runs: CopyRun[], { range, count }: CopyRun): void {
  const last = runs.at(-1)
  if (last?.range === range) runs[runs.length - 1] = { range, count: last.count + count }
  else runs.push({ range, count })
}
