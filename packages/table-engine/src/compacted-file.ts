import { BatchBuilder, type DataFileWriter, type Field, type ScannedBatch, type StagedFile, type TableStorage } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import { keysOf, type Identity } from './identity.ts'
import { joinedHashes } from './joined-hashes.ts'
import { GROUP_ROWS } from './row-groups.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'

/** Hash, `_row_id` and new place of a row. */
const ROW_BYTES = 24

export interface CompactedFileSpec {
  readonly storage: TableStorage
  readonly fields: readonly Field[]
  /** Null for a table without key indexes. */
  readonly identity: Identity | null
  /** A row group is encoded once its rows take so many bytes. */
  readonly groupBytes: number
}

/** The data file that rows of others move to, lineage kept. Rows are encoded a row group at a time, so what is held are encoded bytes. */
export class CompactedFile {
  private readonly spec: CompactedFileSpec
  private readonly writer: DataFileWriter
  private group: BatchBuilder
  private groupLineage: { rowIds: number[]; lastUpdated: number[] } = { rowIds: [], lastUpdated: [] }
  private readonly hashes: KeyHashes[] = []
  private readonly rowIds: Float64Array[] = []

  constructor(spec: CompactedFileSpec) {
    this.spec = spec
    this.writer = spec.storage.createFile(spec.fields)
    this.group = new BatchBuilder(spec.fields)
  }

  /** Rows so far: the next one has this position. */
  get recordCount(): number {
    return this.writer.recordCount + this.group.length
  }

  /** Bytes held. */
  get byteSize(): number {
    return this.writer.byteSize + this.group.byteSize + this.recordCount * ROW_BYTES
  }

  /** Appends these rows of the batch, with their lineage. */
  async append({ lastUpdated, rowIds, rows }: ScannedBatch, live: Uint32Array): Promise<void> {
    for (let from = 0; from < live.length;) {
      const taken = live.subarray(from, from + GROUP_ROWS - this.group.length)
      this.group.appendGather(rows, taken)
      for (const row of taken) {
        this.groupLineage.rowIds.push(rowIds![row])
        this.groupLineage.lastUpdated.push(lastUpdated![row])
      }
      if (this.group.length === GROUP_ROWS || this.group.usedBytes >= this.spec.groupBytes) await this.endGroup()
      from += taken.length
    }
  }

  /** Writes the file and its sealed index; null where it has no row. */
  async finish(sealedFiles: SealedFiles, stagedFiles: StagedFiles): Promise<StagedFile | null> {
    if (this.group.length > 0) await this.endGroup()
    if (this.recordCount === 0) return null
    const { identity } = this.spec
    const staged = await stagedFiles.write(async (onPath) => {
      await onPath(this.writer.path)
      return this.writer.finish()
    })
    if (identity) {
      const hashes = joinedHashes(this.hashes, this.recordCount)
      await sealedFiles.write(staged.path, identity, hashes, joined(this.rowIds)).catch((error: unknown) => {
        stagedFiles.abandon([staged.path])
        throw error
      })
    }
    return staged
  }

  private async endGroup(): Promise<void> {
    const { fields, identity } = this.spec
    const rows = this.group.view()
    const rowIds = Float64Array.from(this.groupLineage.rowIds)
    const lastUpdated = Float64Array.from(this.groupLineage.lastUpdated)
    this.group = new BatchBuilder(fields)
    this.groupLineage = { rowIds: [], lastUpdated: [] }
    if (identity) {
      this.hashes.push(identity.hasher.hash(keysOf(identity, rows), 0, rows.length))
      // The writer takes over the array that it is given.
      this.rowIds.push(rowIds.slice())
    }
    await this.writer.append(rows, { rowIds, lastUpdated })
  }
}

function joined(parts: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
