import {
  BatchBuilder,
  conformBatch,
  exactRanges,
  gatherBatch,
  MoonlinkError,
  sliceBatch,
  type ColumnBatch,
  type DataFile,
  type DataFileWriter,
  type DeletionVector,
  type ExpirePolicy,
  type ExpireResult,
  type Field,
  type FileGroup,
  type RetainedSnapshot,
  type RowsToWrite,
  type ScannedBatch,
  type StagedFile,
  type StampedCommit,
  type TableCommit,
  type TableName,
  type TableSchema,
  type TableSnapshot,
  type TableStorage,
} from '@moonlink/core'

interface StoredFile {
  readonly rows: ColumnBatch
  readonly rowIds: Float64Array | null
  readonly lastUpdated: Float64Array | null
}

const SCAN_ROWS = 7

/**
 * A table in memory that keeps every snapshot: what `TableStorage` means, without Iceberg. `failNext` makes the next calls fail,
 * before or after they took effect.
 */
export class MemoryTableStorage implements TableStorage {
  readonly table: TableName
  snapshot: TableSnapshot
  /** What there is, of which an answer that was lost has not told. */
  private landed: TableSnapshot
  /** Outcomes of the next commits: fail without effect, fail after it, or fail and take effect with the next `deliverLate`, as a request that is long on its way. */
  readonly failNext: ('before' | 'after' | 'late')[] = []
  /** How many of the next calls of `settle` fail. */
  failNextSettles = 0
  /** How many of the next writes of files fail. */
  failNextWrites = 0
  private readonly stored = new Map<string, StoredFile>()
  private history: { snapshot: TableSnapshot; stamp: StampedCommit; timestampMs: number }[] = []
  private nextFile = 1
  private nextRowId = 0
  private sequenceNumber = 0
  /** The last commit, where it threw `retry`. */
  private doubtful: { readonly commit: TableCommit; state: 'lost' | 'under way' | 'landed' } | null = null

  constructor(table: TableName, schema: TableSchema) {
    this.table = table
    this.snapshot = {
      metadataLocation: 'memory://metadata/0',
      snapshotId: null,
      schema,
      files: [],
      vectors: [],
      committedLsn: null,
      exactFromLsn: null,
      sourceTimeline: null,
      properties: {},
    }
    this.landed = this.snapshot
  }

  async writeFile(rows: RowsToWrite, onPath?: (path: string) => Promise<void>): Promise<StagedFile> {
    const path = this.newPath()
    await onPath?.(path)
    return this.store(path, rows)
  }

  private newPath(): string {
    return `memory://data/${this.nextFile++}`
  }

  private async store(path: string, rows: RowsToWrite): Promise<StagedFile> {
    if (this.failNextWrites > 0) {
      this.failNextWrites--
      throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store is away')
    }
    this.stored.set(path, {
      rows: sliceBatch(rows.rows, 0, rows.rows.length),
      rowIds: rows.rowIds?.slice() ?? null,
      lastUpdated: rows.lastUpdated?.slice() ?? null,
    })
    return { path, recordCount: rows.rows.length, sizeBytes: rows.rows.length * 100, metrics: null }
  }

  createFile(fields: readonly Field[]): DataFileWriter {
    const builder = new BatchBuilder(fields)
    const lineage: { rowIds: number[]; lastUpdated: number[] } = { rowIds: [], lastUpdated: [] }
    const path = this.newPath()
    return {
      path,
      get recordCount() {
        return builder.length
      },
      get byteSize() {
        return builder.usedBytes
      },
      async append(rows, kept) {
        builder.appendRange(rows)
        if (kept === undefined) return
        for (const value of kept.rowIds) lineage.rowIds.push(value)
        for (const value of kept.lastUpdated) lineage.lastUpdated.push(value)
      },
      finish: () => {
        const [rowIds, lastUpdated] = [lineage.rowIds, lineage.lastUpdated].map((values) =>
          values.length > 0 ? Float64Array.from(values) : null,
        )
        return this.store(path, { rows: builder.view(), rowIds, lastUpdated })
      },
    }
  }

  async commit(commit: TableCommit): Promise<TableSnapshot> {
    const isSame = this.doubtful !== null && contentOf(this.doubtful.commit) === contentOf(commit)
    if (isSame && this.doubtful!.state === 'landed') {
      this.doubtful = null
      return (this.snapshot = this.landed)
    }
    if (!isSame && this.doubtful !== null && (await this.settle()))
      throw new MoonlinkError('conflict', 'EARLIER_COMMIT_LANDED', 'an earlier commit has landed')
    const fails = this.failNext.shift()
    if (fails === undefined) {
      this.doubtful = null
      return (this.snapshot = this.land(commit))
    }
    this.doubtful = { commit, state: fails === 'late' ? 'under way' : fails === 'after' ? 'landed' : 'lost' }
    if (fails === 'after') this.land(commit)
    throw new MoonlinkError('retry', 'COMMIT_UNKNOWN', 'the answer was lost')
  }

  /** What failed as `late` takes effect now, if nothing came first. */
  deliverLate(): void {
    if (this.doubtful?.state !== 'under way') return
    this.doubtful.state = 'landed'
    this.land(this.doubtful.commit)
  }

  async settle(): Promise<boolean> {
    if (this.failNextSettles > 0) {
      this.failNextSettles--
      throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store is away')
    }
    const hasLanded = this.doubtful?.state === 'landed'
    this.doubtful = null
    this.snapshot = this.landed
    return hasLanded
  }

  private land(commit: TableCommit): TableSnapshot {
    const removed = new Set(commit.removeFiles)
    for (const path of removed)
      if (!this.landed.files.some((file) => file.path === path)) throw new MoonlinkError('conflict', 'FILE_GONE', `no data file ${path}`)
    this.sequenceNumber++
    const added = commit.addFiles.map((file): DataFile => {
      const firstRowId = this.nextRowId
      this.nextRowId += file.recordCount
      return {
        path: file.path,
        recordCount: file.recordCount,
        sizeBytes: file.sizeBytes,
        firstRowId,
        dataSequenceNumber: this.sequenceNumber,
      }
    })
    const files = [...this.landed.files.filter((file) => !removed.has(file.path)), ...added]
    const known = new Set(files.map((file) => file.path))
    const vectors = new Map<string, DeletionVector>(this.landed.vectors.map((vector) => [vector.dataFile, vector]))
    for (const vector of commit.vectors) {
      if (!known.has(vector.dataFile)) throw new MoonlinkError('conflict', 'FILE_GONE', `no data file ${vector.dataFile}`)
      vectors.set(vector.dataFile, vector)
    }
    this.landed = {
      ...this.landed,
      metadataLocation: `memory://metadata/${this.sequenceNumber}`,
      snapshotId: BigInt(this.sequenceNumber),
      files,
      vectors: [...vectors.values()].filter((vector) => known.has(vector.dataFile)),
      committedLsn: commit.lsn,
      schema: commit.schema ?? this.landed.schema,
      exactFromLsn: commit.lastChangeLsn ?? commit.lsn,
      properties: { ...this.landed.properties, ...commit.properties },
    }
    const { lsn, firstChangeLsn = null, lastChangeLsn = null } = commit
    const stamp = { lsn, firstChangeLsn, lastChangeLsn }
    this.history.unshift({ snapshot: this.landed, stamp, timestampMs: this.sequenceNumber })
    return this.landed
  }

  async discard(paths: readonly string[]): Promise<void> {
    for (const path of paths) {
      if (this.isUsed(path)) throw new MoonlinkError('bug', 'FILE_USED', `${path} is in a snapshot`)
      this.stored.delete(path)
    }
  }

  /** It has no manifest lists. */
  async unneeded(groups: readonly FileGroup[]): Promise<readonly string[]> {
    return groups.flatMap(({ paths }) => paths).filter((path) => !this.isUsed(path))
  }

  private isUsed(path: string): boolean {
    return this.history.some(({ snapshot }) => snapshot.files.some((file) => file.path === path))
  }

  async setProperties(properties: Readonly<Record<string, string>>, schema?: TableSchema): Promise<TableSnapshot> {
    const reshaped = schema === undefined ? {} : { schema }
    this.landed = { ...this.landed, ...reshaped, properties: { ...this.landed.properties, ...properties } }
    this.snapshot = { ...this.snapshot, ...reshaped, properties: { ...this.snapshot.properties, ...properties } }
    return this.snapshot
  }

  async *scanFile(file: DataFile, fields: readonly Field[], options?: { readonly lineage?: boolean }): AsyncIterable<ScannedBatch> {
    const { rows, rowIds, lastUpdated } = this.file(file.path)
    for (let firstRow = 0; firstRow < rows.length; firstRow += SCAN_ROWS) {
      const to = Math.min(firstRow + SCAN_ROWS, rows.length)
      const resolve = (stored: Float64Array | null, otherwise: (row: number) => number) =>
        Float64Array.from({ length: to - firstRow }, (_, index) => {
          const kept = stored?.[firstRow + index] ?? -1
          return kept >= 0 ? kept : otherwise(firstRow + index)
        })
      yield {
        firstRow,
        rows: sliceBatch(conformBatch(rows, fields), firstRow, to),
        rowIds: options?.lineage ? resolve(rowIds, (row) => file.firstRowId + row) : null,
        lastUpdated: options?.lineage ? resolve(lastUpdated, () => file.dataSequenceNumber) : null,
      }
    }
  }

  async fetchRows(file: DataFile, positions: Uint32Array, fields: readonly Field[]): Promise<ColumnBatch> {
    return gatherBatch(conformBatch(this.file(file.path).rows, fields), positions)
  }

  async expire(policy: ExpirePolicy): Promise<ExpireResult> {
    const kept = this.history.slice(0, Math.max(1, policy.minSnapshots))
    const snapshots = this.history.length - kept.length
    this.history = kept
    const reachable = new Set([...kept.flatMap(({ snapshot }) => snapshot.files.map((file) => file.path)), ...policy.keepPaths])
    let files = 0
    for (const path of this.stored.keys()) {
      if (reachable.has(path) || this.landed.files.some((file) => file.path === path)) continue
      this.stored.delete(path)
      files++
    }
    return { snapshots, files }
  }

  retained(): readonly RetainedSnapshot[] {
    const ranges = exactRanges(this.history.map(({ stamp }) => stamp))
    const all = this.history.map(({ snapshot, stamp, timestampMs }, index) => ({
      snapshotId: snapshot.snapshotId!,
      lsn: stamp.lsn,
      ...ranges[index],
      timestampMs,
    }))
    return all.slice(1)
  }

  async loadSnapshot(snapshotId: bigint): Promise<TableSnapshot> {
    const found = this.history.find(({ snapshot }) => snapshot.snapshotId === snapshotId)
    if (!found) throw new MoonlinkError('invalid', 'SNAPSHOT_GONE', `no snapshot ${snapshotId}`)
    return found.snapshot
  }

  /** What readers elsewhere see. */
  get current(): TableSnapshot {
    return this.landed
  }

  /** Rows of a file, for readers of plans. */
  rowsOf(path: string): ColumnBatch {
    return this.file(path).rows
  }

  /** Paths of files that are there and that no snapshot kept so far names. */
  get unreferenced(): string[] {
    const named = new Set(
      [this.landed, ...this.history.map(({ snapshot }) => snapshot)].flatMap(({ files }) => files.map((file) => file.path)),
    )
    return [...this.stored.keys()].filter((path) => !named.has(path))
  }

  /** `_row_id` of a row of a current file. */
  rowIdOf(path: string, row: number): number {
    const kept = this.file(path).rowIds?.[row] ?? -1
    return kept >= 0 ? kept : this.landed.files.find((file) => file.path === path)!.firstRowId + row
  }

  private file(path: string): StoredFile {
    const file = this.stored.get(path)
    if (!file) throw new MoonlinkError('invalid', 'OBJECT_NOT_FOUND', `no file ${path}`)
    return file
  }
}

/** An empty batch of the given fields. */
export function emptyBatch(fields: TableSchema['fields']): ColumnBatch {
  return new BatchBuilder(fields).view()
}

/** Tells one commit from another. */
function contentOf({ addFiles, kind, lsn, removeFiles, vectors }: TableCommit): string {
  return JSON.stringify([
    kind,
    String(lsn),
    addFiles.map(({ path }) => path),
    removeFiles,
    vectors.map(({ dataFile, cardinality }) => [dataFile, cardinality]),
  ])
}
