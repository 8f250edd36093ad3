import { silentLogger, systemClock, systemRandom, type TableName, type TableSchema, type TableShape } from '@moonlink/core'
import { FileCatalog, openTableStorage } from '@moonlink/iceberg-writer'
import { MemoryObjectStore } from '@moonlink/object-store'
import { defaultEngineLimits, Engine, SOURCE_STATE_PROPERTY } from '@moonlink/table-engine'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { simParquet } from '../testing/sim/sim-parquet.ts'
import { openMirror } from './mirrors.ts'
import type { SourceHandle, SourceIdentity, Warehouse } from './parts.ts'
import { ownerProperties } from './table-owner.ts'

const table: TableName = { schema: 'public', name: 't' }
const identity: SourceIdentity = { systemIdentifier: '1', database: 'd', serverVersion: '18', slot: 's', publication: 'p' }
const ports = { clock: systemClock, random: systemRandom, logger: silentLogger }

const keyed = (id: number, ...key: readonly number[]): TableSchema => ({
  fields: [
    { id, name: 'id', type: { kind: 'long' }, required: true },
    { id: id + 1, name: 'other', type: { kind: 'long' }, required: false },
  ],
  identifierFieldIds: key,
})

/** By what the table keeps of it. */
const shapes: Readonly<Record<string, TableSchema>> = {
  first: keyed(1, 1),
  'made anew': keyed(3, 3),
  // Iceberg has the same schema for both: an optional column is no identifier there.
  'keyed by an optional column': keyed(1, 2),
  'keyed by both': keyed(1, 1, 2),
}
const shapeOf = (sourceState: string): TableShape => ({ schema: shapes[sourceState], sourceState })

/** Opens a table whose owner before commits another shape each time that it was loaded and is not taken over yet. */
async function openBehind(first: string | null, ...late: readonly string[]): Promise<TableShape> {
  const store = new MemoryObjectStore()
  const catalog = new FileCatalog({ ...ports, store, warehouse: 'memory://lake' })
  const options = { ...ports, table, catalog, store, parquet: simParquet, properties: ownerProperties(identity, table) }
  const commitShape = async (state: string) => {
    const storage = await openTableStorage({ ...options, takesOver: true })
    const properties = { [SOURCE_STATE_PROPERTY]: state }
    await storage.commit({ kind: 'append', addFiles: [], removeFiles: [], vectors: [], lsn: 10n, schema: shapes[state], properties })
  }
  await openTableStorage({ ...options, schema: shapes['first'] })
  if (first !== null) await commitShape(first)
  const waiting = [...late]
  const warehouse = {
    uri: 'memory://lake',
    catalog,
    openTable: async (_: TableName, { schema, ...opening }: Parameters<Warehouse['openTable']>[1]) => {
      const next = waiting.shift()
      if (next !== undefined) await commitShape(next)
      return openTableStorage({ ...options, ...opening, ...(schema === null ? {} : { schema }), takesOver: true })
    },
  } as unknown as Warehouse
  const source = {
    identity,
    history: { certainTimeline: 1 },
    asOfLsn: async () => 0n,
    restore: async (_: TableName, state: string) => shapeOf(state),
  } as unknown as SourceHandle
  const disk = new SimulatedLocalDisk({ next: () => 0.5 })
  const engine = new Engine({ ...ports, disk: disk.session(), indexDirectory: '/index', limits: defaultEngineLimits })
  const coverage = { floorLsn: 0n, covered: new Set<string>(), coveredLsn: 0n, commits: {}, republished: new Set<string>(), timeline: null }
  const listed = { table, ...shapeOf('first'), appendOnly: false, refusal: null, notes: [] }
  try {
    const mirror = await openMirror(listed, { engine, warehouse, source, coverage, again: false, logger: silentLogger })
    expect([waiting, mirror.currentPhase, mirror.committedLsn]).toEqual([[], 'streaming', 10n])
    return mirror.shape
  } finally {
    await engine.close()
  }
}

test.each([
  ['first', 'made anew'],
  ['first', 'keyed by an optional column'],
  ['first', 'keyed by both'],
  ['keyed by an optional column', 'first'],
  [null, 'made anew'],
  [null, 'first'],
])('a table whose owner before commits another shape just before it is taken over has that shape: %s, then %s', async (first, late) => {
  expect(await openBehind(first, late)).toEqual(shapeOf(late))
})

test('be it again while it is opened once more', async () => {
  expect(await openBehind('first', 'keyed by both', 'made anew')).toEqual(shapeOf('made anew'))
})

test('one whose shape does not come to rest is not opened', async () => {
  const others = ['made anew', 'keyed by both', 'keyed by an optional column']
  const late = Array.from({ length: 30 }, (_, at) => others[at % others.length])
  await expect(openBehind('first', ...late)).rejects.toMatchObject({ kind: 'retry', code: 'TABLE_CHANGED' })
})
