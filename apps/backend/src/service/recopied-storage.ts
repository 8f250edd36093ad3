import type {
  ColumnBatch,
  DataFile,
  DataFileWriter,
  ExpirePolicy,
  ExpireResult,
  Field,
  FileGroup,
  RetainedSnapshot,
  RowsToWrite,
  ScannedBatch,
  StagedFile,
  TableCommit,
  TableName,
  TableSchema,
  TableSnapshot,
  TableStorage,
} from '@moonlink/core'
import { PAUSED_PROPERTY, RESYNC_PROPERTY } from '@moonlink/table-engine'

/** Table property: what the table holds is old, and the copy that shall replace it is not committed yet. */
export const COPY_PENDING_PROPERTY = 'moonlink.copy-pending'

/**
 * An Iceberg table that is copied again: it looks as if nothing were committed until the copy is, which replaces all files in one
 * commit. Readers elsewhere see the old rows until then.
 */
export class RecopiedStorage implements TableStorage {
  readonly #inner: TableStorage
  #pending = true

  private constructor(inner: TableStorage) {
    this.#inner = inner
  }

  /**
   * Remembers in the table that it is to be copied again, so that a restart does not take it for complete. `isAskedFor`: rather than going on with what an earlier
   * process began, so that a pause amid that ends.
   */
  static async begin(inner: TableStorage, isAskedFor: boolean): Promise<RecopiedStorage> {
    const { properties } = inner.snapshot
    if (properties[COPY_PENDING_PROPERTY] !== 'true' || (isAskedFor && properties[PAUSED_PROPERTY])) {
      await inner.setProperties({ [COPY_PENDING_PROPERTY]: 'true', [PAUSED_PROPERTY]: '' })
    }
    return new RecopiedStorage(inner)
  }

  get table(): TableName {
    return this.#inner.table
  }

  get snapshot(): TableSnapshot {
    return this.#pending ? { ...this.#inner.snapshot, committedLsn: null } : this.#inner.snapshot
  }

  writeFile(rows: RowsToWrite, onPath?: (path: string) => Promise<void>): Promise<StagedFile> {
    return this.#inner.writeFile(rows, onPath)
  }

  createFile(fields: readonly Field[]): DataFileWriter {
    return this.#inner.createFile(fields)
  }

  async commit(commit: TableCommit): Promise<TableSnapshot> {
    if (!this.#pending) return this.#inner.commit(commit)
    const snapshot = await this.#inner.commit({
      ...commit,
      properties: { ...commit.properties, [COPY_PENDING_PROPERTY]: '', [RESYNC_PROPERTY]: '' },
    })
    this.#pending = false
    return snapshot
  }

  async settle(): Promise<boolean> {
    const landed = await this.#inner.settle()
    if (landed && !this.#inner.snapshot.properties[COPY_PENDING_PROPERTY]) this.#pending = false
    return landed
  }

  discard(paths: readonly string[]): Promise<void> {
    return this.#inner.discard(paths)
  }

  unneeded(groups: readonly FileGroup[]): Promise<readonly string[]> {
    return this.#inner.unneeded(groups)
  }

  setProperties(properties: Readonly<Record<string, string>>, schema?: TableSchema): Promise<TableSnapshot> {
    return this.#inner.setProperties(properties, schema)
  }

  scanFile(file: DataFile, fields: readonly Field[], options?: { readonly lineage?: boolean }): AsyncIterable<ScannedBatch> {
    return this.#inner.scanFile(file, fields, options)
  }

  fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    return this.#inner.fetchRows(file, positions, fields)
  }

  expire(policy: ExpirePolicy): Promise<ExpireResult> {
    return this.#inner.expire(policy)
  }

  retained(): readonly RetainedSnapshot[] {
    return this.#pending ? [] : this.#inner.retained()
  }

  loadSnapshot(snapshotId: bigint): Promise<TableSnapshot> {
    return this.#inner.loadSnapshot(snapshotId)
  }
}
