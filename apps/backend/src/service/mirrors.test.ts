import { silentLogger, systemClock, systemRandom, type TableName, type TableSchema } from '@moonlink/core'
import { defaultEngineLimits, Engine, PAUSED_PROPERTY } from '@moonlink/table-engine'
import { holdNext, MemoryTableStorage, SimulatedLocalDisk } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { openMirror, type Coverage } from './mirrors.ts'
import type { SourceHandle, SourceIdentity, Warehouse } from './parts.ts'
import { COPY_PENDING_PROPERTY } from './recopied-storage.ts'
import { ownerProperties } from './table-owner.ts'

const table: TableName = { schema: 'public', name: 't' }
const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'int' }, required: true }], identifierFieldIds: [] }
const identity: SourceIdentity = { systemIdentifier: '1', database: 'd', serverVersion: '18', slot: 's', publication: 'p' }

/** Opens a table in one process after the other; `again`: it is asked for. */
async function oneTable(appendOnly: boolean) {
  const storage = new MemoryTableStorage(table, schema)
  await storage.setProperties(ownerProperties(identity, table))
  const warehouse = { uri: 'memory://', catalog: { load: async () => null }, openTable: async () => storage } as unknown as Warehouse
  const evolved = async () => ({ shape: { schema, sourceState: null }, isAnew: false, mark: '' })
  const source = { identity, asOfLsn: async () => 0n, evolved } as unknown as SourceHandle
  const coverage: Coverage = {
    floorLsn: 0n,
    covered: new Set<string>(),
    coveredLsn: 0n,
    commits: {},
    republished: new Set<string>(),
    timeline: null,
  }
  const listed = { table, schema, sourceState: null, appendOnly, refusal: null, notes: [] }
  const disk = new SimulatedLocalDisk({ next: () => 0.5 })
  const ports = { clock: systemClock, random: systemRandom, logger: silentLogger }
  const newEngine = () => new Engine({ ...ports, disk: disk.session(), indexDirectory: '/index', limits: defaultEngineLimits })
  const open = (again: boolean, engine = newEngine(), changed: Partial<Coverage> = {}) =>
    openMirror(listed, { engine, warehouse, source, coverage: { ...coverage, ...changed }, again, logger: silentLogger })
  return { newEngine, open, storage }
}

test('an append-only table that is paused amid another copy stays so over a restart, and goes on when that is asked for', async () => {
  const { open, storage } = await oneTable(true)
  const first = await open(false)
  await first.finishCopy(10n)
  await first.close()

  const copied = await open(true)
  expect(copied.currentPhase).toBe('copying')
  await copied.pause('PAUSED', 'by request')
  await copied.close()
  const restarted = await open(false)
  expect([restarted.currentPhase, restarted.pauseReason]).toEqual(['paused', 'PAUSED by request'])
  await restarted.close()

  const resumed = await open(true)
  expect([resumed.currentPhase, resumed.pauseReason]).toEqual(['copying', null])
  await resumed.finishCopy(20n)
  expect(resumed.currentPhase).toBe('streaming')
  await resumed.close()
  const { properties } = storage.snapshot
  expect([properties[PAUSED_PROPERTY] ?? '', properties[COPY_PENDING_PROPERTY] ?? '']).toEqual(['', ''])
  const later = await open(false)
  expect([later.currentPhase, later.committedLsn]).toEqual(['streaming', 20n])
  await later.close()
})

test('a table that is added again while the stream goes on shows no more than its last commit until it is being compared', async () => {
  const { newEngine, open, storage } = await oneTable(false)
  const first = await open(false)
  await first.finishCopy(10n)
  await first.close()

  const engine = newEngine()
  await engine.apply({ kind: 'watermark', lsn: 50n, sourceLsn: 50n, commitTimeMs: null })
  const writing = holdNext(storage, 'setProperties')
  const opened = open(true, engine)
  await writing.reached
  const read = (lsn: bigint | null) => engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 100 })
  await expect(read(null)).rejects.toMatchObject({ code: 'TABLE_PAUSED' })
  const lease = await read(10n)
  lease.release()
  expect(engine.status()).toMatchObject([{ durableLsn: 10n, committedLsn: 10n }])
  writing.release()
  const mirror = await opened
  expect([mirror.currentPhase, mirror.reads.whileResyncing]).toEqual(['copying', 10n])
  await engine.close()
})

test.each([
  ['beyond where the timeline that was read last began', 10n, true, 'copying'],
  ['before that, of a table that misses nothing', 20n, true, 'streaming'],
  ['before that, of a table that was not told what the others were', 20n, false, 'copying'],
] as const)('a commit of an earlier timeline, %s', async (_, sinceLsn, isCovered, phase) => {
  const { newEngine, open, storage } = await oneTable(false)
  const first = await open(false)
  await first.finishCopy(15n)
  await first.close()
  Object.assign(storage.snapshot, { sourceTimeline: { timeline: 1, lsn: 15n } })
  const covered = new Set(isCovered ? ['public.t'] : [])
  const mirror = await open(false, newEngine(), { covered, timeline: { timeline: 2, lsn: sinceLsn } })
  expect(mirror.currentPhase).toBe(phase)
  await mirror.close()
})

test.each([
  ['was committed further', { 'public.t': 16n }, 'copying'],
  ['is where it was', { 'public.t': 15n }, 'streaming'],
  ['was remembered by an earlier version', {}, 'streaming'],
] as const)(
  'a still table that slot and log do not reach back to goes on where its catalog has not gone back: it %s',
  async (_, commits, phase) => {
    const { newEngine, open } = await oneTable(false)
    const first = await open(false)
    await first.finishCopy(15n)
    await first.close()
    const mirror = await open(false, newEngine(), { covered: new Set(['public.t']), coveredLsn: 30n, floorLsn: 30n, commits })
    expect(mirror.currentPhase).toBe(phase)
    await mirror.close()
  },
)
