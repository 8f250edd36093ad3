import { batchByteSize, type ColumnBatch, type DataFileWriter, type StagedFile, type TableSchema, type TableStorage } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import type { EngineLimits } from './limits.ts'
import { keysOf, type Identity } from './identity.ts'
import type { SealedFiles } from './sealed-files.ts'

/** A file of copied rows is complete at this many encoded bytes, or this share of the memory limit, or this many rows. */
const FILE_BYTES = 64 * 1024 * 1024
const FILE_MEMORY_SHARE = 16
const FILE_ROWS = 8 * 122_880

export interface CopiedRowsSpec {
  readonly schema: TableSchema
  readonly storage: TableStorage
  /** Null for a table without key indexes. */
  readonly identity: Identity | null
  readonly limits: EngineLimits
  readonly sealedFiles: SealedFiles
}

/**
 * The rows of a table's initial copy on their way into staged files, each beside its sealed key index. Rows are encoded as they come, so what is held
 * are encoded bytes and key hashes. Commits nothing.
 */
export class CopiedRows {
  private readonly spec: CopiedRowsSpec
  private readonly fileBytes: number
  private current: CopiedFile | null = null
  /** Files that hold memory. */
  private readonly open = new Set<CopiedFile>()
  private files: StagedFile[] = []
  private writing: Promise<void> = Promise.resolve()
  /** Bytes of batches that are being encoded. */
  private batchBytes = 0
  /** Rows appended so far. */
  rowCount = 0

  constructor(spec: CopiedRowsSpec) {
    this.spec = spec
    this.fileBytes = Math.min(FILE_BYTES, spec.limits.memoryLimitBytes / FILE_MEMORY_SHARE)
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

  /** Encodes the rows, which are not needed any more once this resolves; waits while one file is being written and another is complete. */
  async append(batch: ColumnBatch): Promise<void> {
    if (batch.length === 0) return
    const file = (this.current ??= this.newFile())
    this.rowCount += batch.length
    const bytes = batchByteSize(batch)
    this.batchBytes += bytes
    const appended = file.append(batch).finally(() => {
      this.batchBytes -= bytes
    })
    // Others who append meanwhile begin the next one.
    const completed = file.rowCount >= FILE_ROWS ? this.complete(file) : null
    await Promise.all([appended, completed])
    if (file === this.current && file.byteSize >= this.fileBytes) await this.complete(file)
  }

  /** Writes what is left. Resolves with every file, to be committed. */
  async finish(): Promise<readonly StagedFile[]> {
    if (this.current !== null) await this.complete(this.current)
    await this.writing
    return this.files
  }

  /** Lets go of memory; what was written stays. */
  release(): void {
    this.open.clear()
    this.files = []
  }

  private newFile(): CopiedFile {
    const file = new CopiedFile(this.spec)
    this.open.add(file)
    return file
  }

  /** Writes a file that gets no more rows, behind the one before it. */
  private async complete(file: CopiedFile): Promise<void> {
    this.current = null
    const before = this.writing
    const write = async () => {
      this.files.push(await file.finish())
      this.open.delete(file)
    }
    this.writing = Promise.all([before, write()]).then(() => undefined)
    this.writing.catch(() => undefined)
    await before
  }
}

/** One file in the making, and the hashes of its keys. */
class CopiedFile {
  private readonly spec: CopiedRowsSpec
  private readonly writer: DataFileWriter
  private hashes: KeyHashes[] = []
  private appends: Promise<void>[] = []

  constructor(spec: CopiedRowsSpec) {
    this.spec = spec
    this.writer = spec.storage.createFile(spec.schema.fields)
  }

  get rowCount(): number {
    return this.writer.recordCount
  }

  get byteSize(): number {
    return this.writer.byteSize + (this.spec.identity ? this.rowCount * 8 : 0)
  }

  append(batch: ColumnBatch): Promise<void> {
    const { identity } = this.spec
    if (identity) this.hashes.push(identity.hasher.hash(keysOf(identity, batch), 0, batch.length))
    const append = this.writer.append(batch)
    this.appends.push(append)
    return append
  }

  async finish(): Promise<StagedFile> {
    await Promise.all(this.appends)
    const { identity, sealedFiles } = this.spec
    const sealing = identity ? sealedFiles.write(this.writer.path, identity, joined(this.hashes, this.rowCount), null) : null
    // Both, so that neither works on behind our back.
    const [staged, sealed] = await Promise.allSettled([this.writer.finish(), sealing])
    if (staged.status === 'rejected') throw staged.reason
    if (sealed.status === 'rejected') throw sealed.reason
    return staged.value
  }
}

function joined(parts: readonly KeyHashes[], length: number): KeyHashes {
  const low = new Uint32Array(length)
  const high = new Uint32Array(length)
  let at = 0
  for (const part of parts) {
    low.set(part.low.subarray(0, part.length), at)
    high.set(part.high.subarray(0, part.length), at)
    at += part.length
  }
  return { low, high, length }
}
