import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { NO_ROW_ID } from '@moonlink/arrow-buffer'
import { MoonlinkError, selectFields, type DataFile, type LocalDisk, type TableStorage } from '@moonlink/core'
import { BlockCache, SealedKeyIndex, writeSealedIndex, type KeyHashes } from '@moonlink/pk-index'
import type { FilterMemory } from './filter-memory.ts'
import type { Identity } from './identity.ts'
import type { Semaphore } from './semaphore.ts'
import { stateDiskError } from './state-disk-error.ts'

const INDEX_SUFFIX = '.idx'
/** Rows whose keys are in memory at a time where indexes are made again. */
export const REBUILT_ROWS = 4_000_000
/** Bytes of the files that these are read from, and how many files: those wait for their store, which may be far. */
const REBUILT_BYTES = 512 * 1024 * 1024
const REBUILT_FILES = 64

/** The sealed key indexes of one mirror's data files, on local disk. They can always be made again from the data. What can't be written or opened is `retry`/`STATE_FULL` or `STATE_FAILED`. */
export class SealedFiles {
  readonly directory: string
  readonly disk: LocalDisk
  private readonly cache: BlockCache
  private readonly filters: FilterMemory
  private readonly rebuilding: Semaphore

  constructor(disk: LocalDisk, directory: string, cache: BlockCache, filters: FilterMemory, rebuilding: Semaphore) {
    this.disk = disk
    this.directory = directory
    this.cache = cache
    this.filters = filters
    this.rebuilding = rebuilding
  }

  async prepare(): Promise<void> {
    await this.disk.makeDirectory(this.directory).catch((error: unknown) => {
      throw stateDiskError(error, 'written', this.directory)
    })
  }

  async write(dataFile: string, identity: Identity, hashes: KeyHashes, rowIds: Float64Array | null): Promise<void> {
    const path = this.pathOf(dataFile, identity)
    await writeSealedIndex({ path, dataFile, hashes, rowIds, disk: this.disk }).catch((error: unknown) => {
      throw stateDiskError(error, 'written', path)
    })
  }

  async open(file: Pick<DataFile, 'path' | 'recordCount'>, identity: Identity): Promise<SealedKeyIndex | null> {
    const expected = { dataFile: file.path, recordCount: file.recordCount }
    const path = this.pathOf(file.path, identity)
    const index = await SealedKeyIndex.open(path, expected, this.cache, { disk: this.disk }).catch((error: unknown) => {
      throw stateDiskError(error, 'read', path)
    })
    if (index) this.filters.add(index)
    return index
  }

  /** Opens the file's index, or reads the file's keys and makes it. */
  async openOrRebuild(file: DataFile, identity: Identity, storage: TableStorage): Promise<SealedKeyIndex> {
    const found = await this.open(file, identity)
    if (found) return found
    return this.remake(file, identity, storage)
  }

  /** The indexes of files, in their order; those to be made are made side by side. Where one fails, none stays open. */
  async openOrRebuildAll(files: readonly DataFile[], identity: Identity, storage: TableStorage): Promise<SealedKeyIndex[]> {
    const opened = await Promise.allSettled(files.map((file) => this.openOrRebuild(file, identity, storage)))
    const failed = opened.find(({ status }) => status === 'rejected')
    const indexes = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    if (failed === undefined) return indexes
    for (const index of indexes) index.close()
    throw (failed as PromiseRejectedResult).reason
  }

  /** Reads the file's keys and makes its index, whatever there was before. */
  async remake(file: DataFile, identity: Identity, storage: Pick<TableStorage, 'scanFile'>): Promise<SealedKeyIndex> {
    const share = Math.max(file.recordCount / REBUILT_ROWS, file.sizeBytes / REBUILT_BYTES, 1 / REBUILT_FILES)
    await this.rebuilding.run(Math.ceil(REBUILT_ROWS * share), () => this.rebuild(file, identity, storage))
    return this.opened(file, identity)
  }

  /** Opens an index that was just written. Throws `retry`/`STATE_FAILED` where it is damaged already. */
  async opened(file: Pick<DataFile, 'path' | 'recordCount'>, identity: Identity): Promise<SealedKeyIndex> {
    const index = await this.open(file, identity)
    if (index) return index
    const message = `the key index of ${file.path} is damaged as soon as it is written: check the disk of ${this.directory}. It is tried again until then.`
    throw new MoonlinkError('retry', 'STATE_FAILED', message, { context: { path: this.pathOf(file.path, identity) } })
  }

  /** An index of the file by another key, from the file's rows; `_row_id`s are those that `before` has. */
  async rekey(
    file: DataFile,
    identity: Identity,
    storage: Pick<TableStorage, 'scanFile'>,
    before: SealedKeyIndex,
  ): Promise<SealedKeyIndex> {
    const low = new Uint32Array(file.recordCount)
    const high = new Uint32Array(file.recordCount)
    const rowIds = Float64Array.from({ length: file.recordCount }, (_, row) => before.rowIdAt(row))
    for await (const scanned of storage.scanFile(file, identity.fields)) {
      const hashes = identity.hasher.hash(scanned.rows, 0, scanned.rows.length)
      low.set(hashes.low.subarray(0, hashes.length), scanned.firstRow)
      high.set(hashes.high.subarray(0, hashes.length), scanned.firstRow)
    }
    const storesRowIds = rowIds.some((rowId) => rowId >= 0)
    await this.write(file.path, identity, { low, high, length: file.recordCount }, storesRowIds ? rowIds : null)
    return this.opened(file, identity)
  }

  /** As well as that goes: what stays goes with `removeOthers`. */
  async remove(dataFile: string, identity: Identity): Promise<void> {
    await SealedKeyIndex.remove(this.pathOf(dataFile, identity), this.disk).catch(() => undefined)
  }

  /** Removes indexes of files that the table no longer has, and those by another key. */
  async removeOthers(dataFiles: readonly string[], identity: Identity): Promise<void> {
    const keep = new Set(dataFiles.map((path) => basename(this.pathOf(path, identity))))
    try {
      for (const name of await this.disk.list(this.directory)) {
        if (name.includes(INDEX_SUFFIX) && !keep.has(name)) await SealedKeyIndex.remove(join(this.directory, name), this.disk)
      }
    } catch (error) {
      throw stateDiskError(error, 'written', this.directory)
    }
  }

  private async rebuild(file: DataFile, identity: Identity, storage: Pick<TableStorage, 'scanFile'>): Promise<void> {
    const low = new Uint32Array(file.recordCount)
    const high = new Uint32Array(file.recordCount)
    const rowIds = new Float64Array(file.recordCount)
    let storesRowIds = false
    // Iceberg numbers the rows of a file once that is committed: until then, what they would inherit is told from what they store.
    const isCommitted = file.firstRowId >= 0
    const numbered = isCommitted ? file : { ...file, firstRowId: -file.recordCount }
    for await (const scanned of storage.scanFile(numbered, identity.fields, { lineage: true })) {
      const hashes = identity.hasher.hash(selectFields(scanned.rows, identity.fieldIds), 0, scanned.rows.length)
      low.set(hashes.low.subarray(0, hashes.length), scanned.firstRow)
      high.set(hashes.high.subarray(0, hashes.length), scanned.firstRow)
      for (let row = 0; row < scanned.rows.length; row++) {
        const rowId = scanned.rowIds![row]
        const isStored = rowId !== numbered.firstRowId + scanned.firstRow + row
        rowIds[scanned.firstRow + row] = isCommitted || isStored ? rowId : NO_ROW_ID
        if (isStored) storesRowIds = true
      }
    }
    await this.write(file.path, identity, { low, high, length: file.recordCount }, storesRowIds ? rowIds : null)
  }

  private pathOf(dataFile: string, identity: Identity): string {
    const name = createHash('sha256').update(`${identity.fingerprint}\n${dataFile}`).digest('hex').slice(0, 32)
    return join(this.directory, `${name}${INDEX_SUFFIX}`)
  }
}
