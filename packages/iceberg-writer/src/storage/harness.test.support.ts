import {
  BatchBuilder,
  MoonlinkError,
  type Catalog,
  type Clock,
  type ColumnBatch,
  type JsonObject,
  type LoadedTable,
  type Random,
  type RowsToWrite,
  type TableIdentifier,
  type TableSchema,
  type TableStorage,
} from '@moonlink/core'
import { MemoryObjectStore } from '@moonlink/object-store'
import { FileCatalog } from '../catalog/file-catalog.ts'
import type { EncodedParquet } from '../parquet/types.ts'
import { openTableStorage, type OpenTableStorageOptions } from './open-table-storage.ts'
import type { ParquetPort } from './parquet-port.ts'

export const SCHEMA: TableSchema = {
  fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }],
  identifierFieldIds: [1],
}
export const TABLE = { schema: 'shop', name: 'orders' }
export const IDENTIFIER: TableIdentifier = { namespace: 'shop', name: 'orders' }
export const WAREHOUSE = 'file:///warehouse'

/** Stands for Parquet where only manifests matter: a file is a text that tells its row count. */
export const fakeParquet: ParquetPort = {
  encode: async ({ rows }) => fakeFile(rows.length),
  createFile: () => {
    let recordCount = 0
    return {
      get recordCount() {
        return recordCount
      },
      byteSize: 0,
      append: async ({ length }) => void (recordCount += length),
      finish: () => fakeFile(recordCount),
    }
  },
  // oxlint-disable-next-line require-yield
  scan: async function* () {
    throw new Error('not a Parquet file')
  },
  fetch: async () => {
    throw new Error('not a Parquet file')
  },
}

function fakeFile(rows: number): EncodedParquet {
  return {
    bytes: new TextEncoder().encode(`rows ${rows}`),
    recordCount: rows,
    metrics: {
      columnSizes: { 1: rows * 8 },
      valueCounts: { 1: rows },
      nullCounts: { 1: 0 },
      nanCounts: {},
      lowerBounds: {},
      upperBounds: {},
      splitOffsets: [4],
    },
  }
}

export function batchOf(ids: readonly number[]): ColumnBatch {
  const builder = new BatchBuilder(SCHEMA.fields, ids.length)
  for (const id of ids) builder.builders[0].appendInt64(id, 0)
  return builder.view()
}

export function rowsOf(count: number): RowsToWrite {
  return { rows: batchOf(Array.from({ length: count }, (_, index) => index)), rowIds: null, lastUpdated: null }
}

/** Time that a test moves; sleeping moves it too. */
export class TestClock implements Clock {
  ms = 1_700_000_000_000
  nowMs(): number {
    return this.ms
  }
  async sleep(ms: number): Promise<void> {
    this.ms += ms
  }
}

/** Repeatable bytes (xorshift32). */
export function seededRandom(seed: number): Random {
  let state = seed | 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state & 0xff
  }
  return { bytes: (count) => Uint8Array.from({ length: count }, next) }
}

/** A catalog whose next commits fail: before they reach the other, or after they took effect there. */
export class FaultyCatalog implements Catalog {
  readonly failNext: ('before' | 'after' | 'late')[] = []
  private readonly late: (() => Promise<unknown>)[] = []
  /** Runs once, just before the next commit: another writer that comes first. */
  interfere: (() => Promise<unknown>) | null = null
  private readonly inner: Catalog
  /** Drops our own marks from summaries, so that commits look like another engine's. */
  private readonly isForeign: boolean

  constructor(inner: Catalog, isForeign = false) {
    this.inner = inner
    this.isForeign = isForeign
  }

  load(table: TableIdentifier): Promise<LoadedTable | null> {
    return this.inner.load(table)
  }
  create(table: TableIdentifier, options: Parameters<Catalog['create']>[1]): Promise<LoadedTable> {
    return this.inner.create(table, options)
  }
  drop(table: TableIdentifier, purge: boolean): Promise<void> {
    return this.inner.drop(table, purge)
  }
  list(namespace: string): Promise<readonly TableIdentifier[]> {
    return this.inner.list(namespace)
  }

  /** What failed as `late` reaches the other catalog now. */
  async deliverLate(): Promise<void> {
    for (const deliver of this.late.splice(0)) await deliver()
  }

  async commit(table: TableIdentifier, requirements: readonly JsonObject[], updates: readonly JsonObject[]): Promise<LoadedTable> {
    const interfere = this.interfere
    this.interfere = null
    await interfere?.()
    const fails = this.failNext.shift()
    if (fails === 'late') this.late.push(() => this.inner.commit(table, requirements, updates))
    if (fails === 'before' || fails === 'late') throw new MoonlinkError('retry', 'COMMIT_UNKNOWN', 'no answer')
    const loaded = await this.inner.commit(
      table,
      requirements,
      this.isForeign ? updates.filter(isNotOurProperty).map(withoutMarks) : updates,
    )
    if (fails === 'after') throw new MoonlinkError('retry', 'COMMIT_UNKNOWN', 'no answer')
    return loaded
  }
}

function isNotOurProperty(update: JsonObject): boolean {
  return update['action'] !== 'set-properties'
}

function withoutMarks(update: JsonObject): JsonObject {
  if (update['action'] !== 'add-snapshot') return update
  const snapshot = update['snapshot'] as JsonObject
  const entries = Object.entries(snapshot['summary'] as JsonObject).filter(([key]) => !key.startsWith('moonlink.'))
  return { ...update, snapshot: { ...snapshot, summary: Object.fromEntries(entries) } }
}

export interface Harness {
  readonly store: MemoryObjectStore
  readonly clock: TestClock
  readonly catalog: FaultyCatalog
  /** Opens the table as this mirror. */
  open(options?: Partial<OpenTableStorageOptions>): Promise<TableStorage>
  /** Opens it as another engine would. */
  openForeign(): Promise<TableStorage>
  /** The table's current metadata. */
  metadata(): Promise<JsonObject>
  /** URIs of every object there is. */
  objects(): Promise<string[]>
}

export function harness(seed = 1): Harness {
  const store = new MemoryObjectStore()
  const clock = new TestClock()
  const random = seededRandom(seed)
  const files = new FileCatalog({ store, warehouse: WAREHOUSE, clock, random })
  const catalog = new FaultyCatalog(files)
  const base = { table: TABLE, schema: SCHEMA, store, parquet: fakeParquet, clock, random }
  return {
    store,
    clock,
    catalog,
    open: (options = {}) => openTableStorage({ ...base, catalog, ...options }),
    openForeign: () => openTableStorage({ ...base, catalog: new FaultyCatalog(files, true) }),
    metadata: async () => (await files.load(IDENTIFIER))!.metadata,
    objects: async () => {
      const uris: string[] = []
      for await (const { uri } of store.list('')) uris.push(uri)
      return uris
    },
  }
}
