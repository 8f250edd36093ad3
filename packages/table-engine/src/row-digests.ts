import { selectFields, type DataFile, type TableSchema, type TableStorage } from '@moonlink/core'
import type { KeyHasher } from '@moonlink/pk-index'

/** A 64-bit digest of each row of a file. */
export interface FileDigests {
  readonly low: Uint32Array
  readonly high: Uint32Array
}

const BYTES_PER_ROW = 8

/** Digests of whole rows of files, made when first asked for; the files asked for longest ago are let go of beyond a bound. */
export class RowDigests {
  private readonly storage: TableStorage
  private readonly schema: TableSchema
  private readonly hasher: KeyHasher
  private readonly maxBytes: number
  private readonly known = new Map<string, FileDigests>()
  byteSize = 0

  constructor(storage: TableStorage, schema: TableSchema, hasher: KeyHasher, maxBytes: number) {
    this.storage = storage
    this.schema = schema
    this.hasher = hasher
    this.maxBytes = maxBytes
  }

  async of(file: DataFile): Promise<FileDigests> {
    const known = this.known.get(file.path)
    if (known !== undefined) {
      if (this.known.size > 1) {
        this.known.delete(file.path)
        this.known.set(file.path, known)
      }
      return known
    }
    const made = await this.digest(file)
    this.known.set(file.path, made)
    this.byteSize += file.recordCount * BYTES_PER_ROW
    for (const [path, digests] of this.known) {
      if (this.byteSize <= this.maxBytes || path === file.path) break
      this.known.delete(path)
      this.byteSize -= digests.low.length * BYTES_PER_ROW
    }
    return made
  }

  private async digest(file: DataFile): Promise<FileDigests> {
    const { fields } = this.schema
    const fieldIds = fields.map((field) => field.id)
    const digests = { low: new Uint32Array(file.recordCount), high: new Uint32Array(file.recordCount) }
    for await (const { firstRow, rows } of this.storage.scanFile(file, fields)) {
      const hashes = this.hasher.hash(selectFields(rows, fieldIds), 0, rows.length)
      digests.low.set(hashes.low.subarray(0, rows.length), firstRow)
      digests.high.set(hashes.high.subarray(0, rows.length), firstRow)
    }
    return digests
  }
}
