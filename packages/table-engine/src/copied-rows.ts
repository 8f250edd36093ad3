import { BatchBuilder, type ColumnBatch, type StagedFile, type TableSchema, type TableStorage } from '@moonlink/core'
import type { EngineLimits } from './limits.ts'
import { keysOf, type Identity } from './identity.ts'
import type { SealedFiles } from './sealed-files.ts'

/** Copied rows are written in files of about this size, so that reading goes on while one is encoded. */
const COPY_FILE_BYTES = 64 * 1024 * 1024

export interface CopiedRowsSpec {
  readonly schema: TableSchema
  readonly storage: TableStorage
  /** Null for a table without key indexes. */
  readonly identity: Identity | null
  readonly limits: EngineLimits
  readonly sealedFiles: SealedFiles
}

/** The rows of a table's initial copy on their way into staged files, each beside its sealed key index. Commits nothing. */
export class CopiedRows {
  private readonly spec: CopiedRowsSpec
  private buffer: BatchBuilder | null = null
  private files: StagedFile[] = []
  private write: Promise<void> = Promise.resolve()
  /** Rows appended so far. */
  rowCount = 0

  constructor(spec: CopiedRowsSpec) {
    this.spec = spec
  }

  /** Rows that wait for their file. */
  get bufferedRows(): number {
    return this.buffer?.length ?? 0
  }

  get byteSize(): number {
    return this.buffer?.byteSize ?? 0
  }

  /** Copies the rows; waits while a file is being written and another is full. */
  async append(batch: ColumnBatch): Promise<void> {
    this.buffer ??= new BatchBuilder(this.spec.schema.fields)
    this.buffer.appendRange(batch)
    this.rowCount += batch.length
    const { flushRows, flushBytes } = this.spec.limits
    if (this.buffer.length >= flushRows || this.buffer.usedBytes >= Math.min(flushBytes, COPY_FILE_BYTES)) await this.startFile()
  }

  /** Writes what is left. Resolves with every file, to be committed. */
  async finish(): Promise<readonly StagedFile[]> {
    if (this.bufferedRows > 0) await this.startFile()
    await this.write
    return this.files
  }

  /** Lets go of memory; what was written stays. */
  release(): void {
    this.buffer = null
    this.files = []
  }

  private async startFile(): Promise<void> {
    const builder = this.buffer!
    this.buffer = new BatchBuilder(this.spec.schema.fields)
    await this.write
    const write = this.writeFile(builder.view())
    this.write = write
    write.catch(() => undefined)
  }

  private async writeFile(rows: ColumnBatch): Promise<void> {
    const { identity, storage, sealedFiles } = this.spec
    const hashes = identity && identity.hasher.hash(keysOf(identity, rows), 0, rows.length)
    const staged = await storage.writeFile({ rows, rowIds: null, lastUpdated: null })
    if (identity && hashes) await sealedFiles.write(staged.path, identity, hashes, null)
    this.files.push(staged)
  }
}
