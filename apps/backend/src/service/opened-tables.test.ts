import {
  BatchBuilder,
  silentLogger,
  systemClock,
  systemRandom,
  type ObjectStore,
  type TableName,
  type TableSchema,
  type TimelineLsn,
} from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import { FileCatalog, openTableStorage } from '@moonlink/iceberg-writer'
import { MemoryObjectStore } from '@moonlink/object-store'
import { defaultEngineLimits, Engine } from '@moonlink/table-engine'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { PacedStore } from '../testing/paced-store.ts'
import { simParquet } from '../testing/sim/sim-parquet.ts'
import type { BackendParts } from './backend-parts.ts'
import type { LockedTables } from './locked-tables.ts'
import { MirrorSet } from './mirror-set.ts'
import type { SourceHandle, SourceIdentity, Warehouse } from './parts.ts'
import { ownerProperties } from './table-owner.ts'
import type { UnopenedTables } from './unopened-tables.ts'

const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] }
const identity: SourceIdentity = { systemIdentifier: '1', database: 'd', serverVersion: '18', slot: 's', publication: 'p' }
const ports = { clock: systemClock, random: systemRandom, logger: silentLogger }
const warehouseUri = 'memory://lake'

function storageOptions(store: ObjectStore, catalog: FileCatalog, table: TableName) {
  return { ...ports, table, schema, catalog, store, parquet: simParquet, properties: ownerProperties(identity, table) }
}

/** With so many data files, one vector and the LSN 20, as another process left it. */
async function leaveTable(store: ObjectStore, table: TableName, fileCount: number): Promise<void> {
  const catalog = new FileCatalog({ ...ports, store, warehouse: warehouseUri })
  const storage = await openTableStorage({ ...storageOptions(store, catalog, table), sourceTimeline: () => 3 })
  const builder = new BatchBuilder(schema.fields, 3)
  for (const id of [1, 2, 3]) builder.builders[0].appendInt64(id, 0)
  const write = () => storage.writeFile({ rows: builder.view(), rowIds: null, lastUpdated: null })
  const files = await Promise.all(Array.from({ length: fileCount }, write))
  const [file] = files
  await storage.commit({ kind: 'append', addFiles: files, removeFiles: [], vectors: [], lsn: 10n })
  const dead = new PositionSet()
  dead.add(1)
  const vector = { dataFile: file.path, bitmap: dead.toPortable(), cardinality: 1 }
  await storage.commit({ kind: 'append', addFiles: [], removeFiles: [], vectors: [vector], lsn: 20n })
}

/** Opens tables as a start does, with no local state. */
async function openAll(count: number, fileCount = 1) {
  const inner = new MemoryObjectStore()
  const tables = Array.from({ length: count }, (_, at) => ({ schema: 'public', name: `t${at}` }))
  for (const table of tables) await leaveTable(inner, table, fileCount)
  const store = new PacedStore(inner)
  const catalog = new FileCatalog({ ...ports, store, warehouse: warehouseUri })
  const warehouse: Warehouse = {
    uri: warehouseUri,
    catalog,
    removeFile: (uri) => store.delete(uri),
    removeFiles: () => Promise.reject(new Error('nothing is purged')),
    openTable: (table, { schema: wanted, ...options }) =>
      openTableStorage({
        ...storageOptions(store, catalog, table),
        ...options,
        ...(wanted === null ? {} : { schema: wanted }),
        takesOver: true,
      }),
    close: async () => undefined,
  }
  const committed: [TimelineLsn, bigint][] = []
  const source = {
    identity,
    history: { certainTimeline: 3, committed: (upTo: TimelineLsn, throughLsn: bigint) => committed.push([upTo, throughLsn]) },
    listTables: async () => [],
    prepare: async () => ({ slotLsn: 0n, locked: [] }),
  } as unknown as SourceHandle
  const disk = new SimulatedLocalDisk({ next: () => 0.5 })
  const engine = new Engine({ ...ports, disk: disk.session(), indexDirectory: '/index', limits: defaultEngineLimits })
  const coverage = { floorLsn: 0n, covered: new Set<string>(), coveredLsn: 0n, commits: {}, republished: new Set<string>(), timeline: null }
  const mirrors = new MirrorSet(
    { engine, source, warehouse, ...ports } as unknown as BackendParts,
    coverage,
    {} as LockedTables,
    {} as UnopenedTables,
  )
  await mirrors.openStarted(
    tables.map((table) => ({ table, schema, sourceState: null, appendOnly: false, refusal: null, notes: [] })),
    [],
  )
  expect(mirrors.live()).toEqual(tables.map(({ name }) => `public.${name}`))
  expect(engine.status().map(({ rows }) => rows)).toEqual(tables.map(() => 3 * fileCount - 1))
  await engine.close()
  return { store, committed }
}

test('a table is opened and taken over with few requests, few of them one after the other', async () => {
  const { store, committed } = await openAll(1)
  expect(committed).toEqual([[{ timeline: 3, lsn: 20n }, 20n]])
  expect(store.requests.length, store.requests.join('\n')).toBeLessThanOrEqual(15)
  expect(store.rounds).toBeLessThanOrEqual(11)
  // Each version of the metadata is read once, and looked for once more before ours is written.
  expect(store.requests.filter((request) => request.endsWith('version-hint.text'))).toHaveLength(2)
})

test('many tables are opened side by side', async () => {
  const [one, many] = [await openAll(1), await openAll(40)]
  expect(many.store.requests).toHaveLength(40 * one.store.requests.length)
  expect(many.store.rounds).toBeLessThan(one.store.rounds * 3)
})

test('so are the indexes of many small files', async () => {
  const [one, many] = [await openAll(1), await openAll(30, 8)]
  expect(many.store.rounds).toBeLessThan(one.store.rounds * 2)
})
