import {
  assert,
  byteLength,
  exactRanges,
  isMoonlinkError,
  randomUuid,
  type ColumnBatch,
  type DataFile,
  type DataFileWriter,
  type ExpirePolicy,
  type ExpireResult,
  type Field,
  type FileGroup,
  type JsonObject,
  type LoadedTable,
  type Lsn,
  type RetainedSnapshot,
  type RowsToWrite,
  type ScannedBatch,
  type StagedFile,
  type TableCommit,
  type TableName,
  type TableSchema,
  type TableSnapshot,
  type TableStorage,
  type TimelineLsn,
} from '@moonlink/core'
import { encodeFileStats } from '../avro/file-stats.ts'
import { committedLsn, committedStamp, committedTimeline, nextEpoch, stampOf } from '../metadata/committed-lsn.ts'
import { longOf, numberOf, textMapOf } from '../metadata/fields.ts'
import { refSnapshotId } from '../metadata/requirements.ts'
import { isSameSchemaJson, schemaFromJson } from '../metadata/schema-json.ts'
import { ancestors } from '../metadata/snapshot-updates.ts'
import type { EncodedParquet, ParquetSource } from '../parquet/types.ts'
import { commitSnapshot, newSnapshotId } from './commit-snapshot.ts'
import { emptyCommit, settleCommit, unmarkedCommit } from './settle-commit.ts'
import { commitProperties } from './commit-properties.ts'
import { expireSnapshots } from './expire.ts'
import { checkSameTable, earlierLanded, foreignChange, type Head } from './foreign-changes.ts'
import { findSnapshot, loadState } from './load-state.ts'
import { mapConcurrent } from './map-concurrent.ts'
import { namingFile } from './naming-file.ts'
import type { Committer, StorageParts } from './storage-parts.ts'
import { checkWritable, currentSchemaJson, directoriesOf, EMPTY_STATE, snapshotSchemaJson, type TableState } from './table-state.ts'
import { unneededFiles } from './unneeded-files.ts'

const CONCURRENT_DELETES = 8
/** Commits of the owner before that may come between reading the table and taking it over. */
const TAKE_OVER_ATTEMPTS = 5

/** One mirror's Iceberg table (see `TableStorage`), its current snapshot held in memory. Made by `openTableStorage`. */
export class IcebergTableStorage implements TableStorage {
  readonly table: TableName
  private readonly parts: StorageParts
  private committer: Committer
  private head: Head
  private current: TableSnapshot
  private identifierFieldIds: readonly number[] | null
  private known: { json: JsonObject; identifierFieldIds: readonly number[] | null; schema: TableSchema } | null = null
  private busy = false
  /** The last commit, where it is not known whether it happened: the same one again goes by the same snapshot id. */
  private doubtful: { readonly content: string; readonly snapshotId: bigint; readonly schema: TableSchema | undefined } | null = null
  /** Files that expiry left because a read needed them; tried again with the next. */
  private readonly deferred = new Set<string>()

  private constructor(parts: StorageParts, head: Head) {
    this.table = parts.table
    this.parts = parts
    this.committer = {
      ...parts,
      writerId: randomUuid(parts.random),
      epoch: 0,
      name: `${parts.identifier.namespace}.${parts.identifier.name}`,
    }
    this.identifierFieldIds = parts.identifierFieldIds
    this.head = head
    this.current = this.snapshotOf(head)
  }

  static async open(parts: StorageParts, loaded: LoadedTable, takesOver: boolean): Promise<IcebergTableStorage> {
    checkWritable(loaded.metadata)
    const state = await loadState(parts.store, loaded.metadata, refSnapshotId(loaded.metadata, 'main'), EMPTY_STATE)
    const storage = new IcebergTableStorage(parts, { table: loaded, state })
    if (takesOver) await storage.takeOver()
    return storage
  }

  get snapshot(): TableSnapshot {
    return this.current
  }

  async writeFile(rows: RowsToWrite, onPath?: (path: string) => Promise<void>): Promise<StagedFile> {
    const { fields } = rows.rows
    const file = await this.parts.parquet.encode(rows, { fields, identifierFieldIds: [] })
    const path = this.newDataPath()
    await onPath?.(path)
    return this.store(path, file)
  }

  createFile(fields: readonly Field[]): DataFileWriter {
    const writer = this.parts.parquet.createFile(fields)
    const path = this.newDataPath()
    return {
      path,
      get recordCount() {
        return writer.recordCount
      },
      get byteSize() {
        return writer.byteSize
      },
      append: (rows, lineage) => writer.append(rows, lineage),
      finish: () => this.store(path, writer.finish()),
    }
  }

  private newDataPath(): string {
    return `${directoriesOf(this.head.table).data}/${randomUuid(this.parts.random)}.parquet`
  }

  private async store(path: string, { bytes, recordCount, metrics }: EncodedParquet): Promise<StagedFile> {
    await this.parts.store.put(path, bytes)
    return { path, recordCount, sizeBytes: byteLength(bytes), metrics: encodeFileStats(metrics) }
  }

  async commit(commit: TableCommit): Promise<TableSnapshot> {
    return this.alone(async () => {
      const content = contentOf(commit)
      const { schema } = commit
      if (this.doubtful !== null && this.doubtful.content !== content && (await this.settleDoubt()))
        throw earlierLanded(this.committer.name)
      const snapshotId = this.doubtful?.snapshotId ?? newSnapshotId(this.parts.random, this.head.table.metadata)
      const sourceTimeline = this.timelineAt(commit.lsn)
      const head = await commitSnapshot(this.committer, this.head, { ...commit, sourceTimeline }, snapshotId).catch((error: unknown) => {
        if (isMoonlinkError(error, 'retry')) this.doubtful = { content, snapshotId, schema }
        throw error
      })
      return this.landed(head, schema)
    })
  }

  /** While it is not known, what the commit before says of its own LSN is passed on: of which timeline `lsn` is, that does not say. */
  private timelineAt(lsn: Lsn): TimelineLsn | null {
    const timeline = this.parts.sourceTimeline()
    const { state, table } = this.head
    return timeline === null ? committedTimeline(table.metadata, state.snapshotId) : { timeline, lsn }
  }

  async settle(): Promise<boolean> {
    return this.alone(() => this.settleDoubt())
  }

  private async settleDoubt(): Promise<boolean> {
    if (this.doubtful === null) return false
    const { snapshotId, schema } = this.doubtful
    const { head, isIn } = await settleCommit(this.committer, this.head, snapshotId)
    this.landed(head, isIn ? schema : undefined)
    return isIn
  }

  private landed(head: Head, schema: TableSchema | undefined): TableSnapshot {
    this.doubtful = null
    if (schema !== undefined) this.identifierFieldIds = schema.identifierFieldIds
    return this.adopt(head)
  }

  async discard(paths: readonly string[]): Promise<void> {
    const directories = directoriesOf(this.head.table)
    const isOurs = (path: string) =>
      path.startsWith(`${directories.data}/`) || (path.startsWith(`${directories.metadata}/`) && path.endsWith('.avro'))
    await mapConcurrent(paths, CONCURRENT_DELETES, async (path) => {
      // Lists of such files come from disks: nothing elsewhere is removed for what is written there.
      if (!isOurs(path) || path.includes('/../')) return this.parts.logger.warn('a file outside the table is not removed', { path })
      assert(!this.head.state.files.has(path), 'a discarded file is in no snapshot', { path })
      await this.parts.store.delete(path)
    })
  }

  unneeded(groups: readonly FileGroup[]): Promise<readonly string[]> {
    return unneededFiles(this.parts.store, this.head, groups)
  }

  async setProperties(properties: Readonly<Record<string, string>>, schema?: TableSchema): Promise<TableSnapshot> {
    return this.alone(async () => {
      assert(schema === undefined || this.head.state.files.size === 0, 'a table with rows gets a schema with a commit of rows')
      const table = await commitProperties(this.committer, this.head.table, properties, schema)
      if (schema !== undefined) this.identifierFieldIds = schema.identifierFieldIds
      // Others may have committed meanwhile; their snapshot is for the next commit to find and judge.
      const isOurs = refSnapshotId(table.metadata, 'main') === this.head.state.snapshotId
      return isOurs
        ? this.adopt({ table, state: this.head.state })
        : { ...this.current, properties: textMapOf(table.metadata, 'properties') }
    })
  }

  async *scanFile(file: DataFile, fields: readonly Field[], options: { readonly lineage?: boolean } = {}): AsyncGenerator<ScannedBatch> {
    const lineage = options.lineage ? { firstRowId: file.firstRowId, dataSequenceNumber: file.dataSequenceNumber } : null
    let next = 0
    for (let isAgain = false; ; isAgain = true) {
      const { source, release } = await this.source(file)
      try {
        for await (const batch of this.parts.parquet.scan(source, { fields, lineage })) {
          if (batch.firstRow < next) continue
          next = batch.firstRow + batch.rows.length
          yield batch
        }
        return
      } catch (error) {
        if (isAgain || !(await this.wasDamagedCopy(file, source, error))) throw namingFile(file.path, error)
      } finally {
        release()
      }
    }
  }

  async fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    for (let isAgain = false; ; isAgain = true) {
      const { source, release } = await this.source(file)
      try {
        return await this.parts.parquet.fetch(source, positions, fields)
      } catch (error) {
        if (isAgain || !(await this.wasDamagedCopy(file, source, error))) throw namingFile(file.path, error)
      } finally {
        release()
      }
    }
  }

  async expire(policy: ExpirePolicy): Promise<ExpireResult> {
    return this.alone(async () => {
      const { table, result } = await expireSnapshots(this.committer, this.head, policy, this.deferred)
      this.adopt({ table, state: this.head.state })
      return result
    })
  }

  retained(): readonly RetainedSnapshot[] {
    try {
      return this.ownRetained()
    } catch (error) {
      throw this.named(error)
    }
  }

  private ownRetained(): readonly RetainedSnapshot[] {
    // What others committed in between holds none of the source's changes.
    const ours = ancestors(this.head.table.metadata, this.head.state.snapshotId).flatMap((snapshot) => {
      const stamp = stampOf(snapshot)
      return stamp === null ? [] : [{ snapshot, stamp }]
    })
    const ranges = exactRanges(ours.map(({ stamp }) => stamp))
    return ours.flatMap(({ snapshot, stamp }, index) => {
      const snapshotId = longOf(snapshot, 'snapshot-id')
      if (snapshotId === this.head.state.snapshotId) return []
      return [{ snapshotId, lsn: stamp.lsn, ...ranges[index], timestampMs: numberOf(snapshot, 'timestamp-ms') }]
    })
  }

  async loadSnapshot(snapshotId: bigint): Promise<TableSnapshot> {
    const head = this.head
    if (snapshotId === head.state.snapshotId) return this.current
    try {
      findSnapshot(head.table.metadata, snapshotId)
      const state: TableState = await loadState(this.parts.store, head.table.metadata, snapshotId, head.state)
      const schema = schemaFromJson(snapshotSchemaJson(head.table.metadata, snapshotId))
      return { ...this.snapshotOf({ table: head.table, state }), schema }
    } catch (error) {
      throw this.named(error)
    }
  }

  /**
   * Commits an empty snapshot of the next epoch. Whatever an owner before still has under way was planned on another snapshot and can't land any more; what
   * landed until then is part of the table. Where others have changed its rows, that snapshot is exact at no LSN, and the table's properties say so from it on.
   */
  private async takeOver(): Promise<void> {
    const { catalog, identifier, store, whenChanged } = this.parts
    for (let attempt = 1; ; attempt++) {
      const { metadata } = this.head.table
      this.committer = { ...this.committer, epoch: nextEpoch(metadata, this.head.state.snapshotId) }
      try {
        const change = foreignChange(metadata, this.head.state.snapshotId)
        const commit = change === null ? emptyCommit(this.head) : unmarkedCommit(whenChanged(change))
        this.adopt(await commitSnapshot(this.committer, this.head, commit, newSnapshotId(this.parts.random, metadata)))
        return
      } catch (error) {
        const cameLate = isMoonlinkError(error, 'fenced') || isMoonlinkError(error, 'conflict')
        if (!cameLate || attempt === TAKE_OVER_ATTEMPTS) throw error
        const table = await catalog.load(identifier)
        checkSameTable(this.head.table, table, this.committer.name)
        checkWritable(table.metadata)
        this.adopt({ table, state: await loadState(store, table.metadata, refSnapshotId(table.metadata, 'main'), this.head.state) })
      }
    }
  }

  private snapshotOf({ table, state }: Head): TableSnapshot {
    const committed = committedLsn(table.metadata, state.snapshotId)
    const exactFromLsn = committedStamp(table.metadata, state.snapshotId)?.lastChangeLsn ?? committed
    const isOurs = foreignChange(table.metadata, state.snapshotId) === null
    return {
      metadataLocation: table.metadataLocation,
      snapshotId: state.snapshotId,
      schema: this.schemaOf(table.metadata),
      files: [...state.files.values()],
      vectors: Array.from(state.vectors.values(), (live) => live.vector),
      committedLsn: committed,
      exactFromLsn: isOurs || committed === null ? exactFromLsn : committed + 1n,
      sourceTimeline: committed === null ? null : committedTimeline(table.metadata, state.snapshotId),
      properties: textMapOf(table.metadata, 'properties'),
    }
  }

  /** The current schema. The same object while it stays the same, which makes batches of its fields cheap to tell. */
  private schemaOf(metadata: JsonObject): TableSchema {
    const json = currentSchemaJson(metadata)
    const identifierFieldIds = this.identifierFieldIds
    if (this.known === null || this.known.identifierFieldIds !== identifierFieldIds || !isSameSchemaJson(this.known.json, json)) {
      const schema = schemaFromJson(json)
      this.known = { json, identifierFieldIds, schema: identifierFieldIds === null ? schema : { ...schema, identifierFieldIds } }
    }
    return this.known.schema
  }

  private adopt(head: Head): TableSnapshot {
    this.head = head
    this.current = this.snapshotOf(head)
    return this.current
  }

  /** Calls that change the table must not overlap: a second would be planned on a state that is about to go. */
  private async alone<T>(work: () => Promise<T>): Promise<T> {
    assert(!this.busy, 'commit, setProperties and expire do not overlap', { table: this.committer.name })
    this.busy = true
    try {
      return await work()
    } catch (error) {
      throw this.named(error)
    } finally {
      this.busy = false
    }
  }

  /** An error about the table's metadata says which file that is. */
  private named(error: unknown): unknown {
    return namingFile(this.head.table.metadataLocation, error)
  }

  /** True where the file was read from a local copy that is not what the store has: the copy is gone then. */
  private async wasDamagedCopy(file: DataFile, source: ParquetSource, error: unknown): Promise<boolean> {
    const { localFiles, logger } = this.parts
    if (localFiles === null || !('path' in source) || !isMoonlinkError(error, 'corrupt')) return false
    if (!(await localFiles.drop(file.path, file.sizeBytes))) return false
    logger.warn('a local copy of a data file was damaged and is fetched again', {
      path: file.path,
      copy: source.path,
      error: error.message,
    })
    return true
  }

  private async source(file: DataFile): Promise<{ readonly source: ParquetSource; readonly release: () => void }> {
    if (this.parts.localFiles !== null) {
      try {
        const pinned = await this.parts.localFiles.pin(file.path, file.sizeBytes)
        return { source: { path: pinned.path }, release: () => pinned.release() }
      } catch (error) {
        // A cache without room is none; the object itself is there.
        if (!isMoonlinkError(error) || (error.code !== 'CACHE_TOO_SMALL' && error.code !== 'CACHE_DISK_FULL')) throw error
      }
    }
    return { source: { bytes: await this.parts.store.get(file.path) }, release: () => {} }
  }
}

/** Tells one commit from another: files and vectors have names and sizes of their own. */
function contentOf({ addFiles, kind, lsn, removeFiles, vectors }: TableCommit): string {
  const added = addFiles.map(({ path }) => path)
  return JSON.stringify([kind, String(lsn), added, removeFiles, vectors.map(({ dataFile, cardinality }) => [dataFile, cardinality])])
}
