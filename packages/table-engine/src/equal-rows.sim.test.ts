import {
  appendValue,
  BatchBuilder,
  ChangeOp,
  PlaceBuffer,
  silentLogger,
  systemClock,
  systemRandom,
  type ChangeBatch,
  type Field,
  type TableSchema,
} from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import type { KeyHasher } from '@moonlink/pk-index'
import { MemoryTableStorage } from '@moonlink/testkit'
import fc from 'fast-check'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import { FileSegment } from './segment.ts'
import { readContent, ScriptedTable } from './testing/scripted-table.ts'
import { simulatedIndexes, simulatedRuns } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

const weak = vi.hoisted(() => ({ isOn: false }))
// Where asked, hashes of three bits, so that different keys collide all the time.
vi.mock('@moonlink/pk-index', async (load) => {
  const original = await load<typeof import('@moonlink/pk-index')>()
  const createKeyHasher = (fields: readonly Field[]): KeyHasher => {
    const hasher = original.createKeyHasher(fields)
    if (!weak.isOn || hasher.exact) return hasher
    return {
      exact: false,
      hash(batch, from, to, into) {
        const hashes = hasher.hash(batch, from, to, into)
        for (let index = 0; index < hashes.length; index++) {
          hashes.low[index] &= 1
          hashes.high[index] &= 3
        }
        return hashes
      },
    }
  }
  return { ...original, createKeyHasher }
})

beforeAll(() => loadRoaring())
const fields: Field[] = [
  { id: 1, name: 'name', type: { kind: 'string' }, required: true },
  { id: 2, name: 'n', type: { kind: 'long' }, required: true },
]
const limits = {
  ...defaultEngineLimits,
  flushIntervalMs: 3_600_000,
  compaction: { ...defaultEngineLimits.compaction, enabled: false },
}

async function start(schema: TableSchema, storage: MemoryTableStorage): Promise<Engine> {
  const engine = new Engine({
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...simulatedIndexes(),
    limits,
  })
  const mirror = await engine.addMirror({ table: { schema: 'public', name: 't' }, schema, storage, appendOnly: false })
  await mirror.finishCopy(0n)
  return engine
}

type Step = { kind: 'insert' | 'update' | 'delete'; at: number; name: number } | { kind: 'commit' | 'flush' }
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constantFrom('insert' as const, 'update' as const, 'delete' as const),
      at: fc.nat(),
      name: fc.nat(20),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('commit' as const, 'flush' as const) }) },
)

describe.each([
  ['a text key', [1]],
  ['no key', []],
])('with %s whose hashes collide', (_, identifierFieldIds) => {
  test('changes find their own row among files and memory', { timeout: 120_000 }, async () => {
    weak.isOn = true
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 150 }), async (steps) => {
        const source = new ScriptedTable({ fields, identifierFieldIds })
        const storage = new MemoryTableStorage(source.table, source.schema)
        const engine = await start(source.schema, storage)
        let lsn = 0n
        const commit = async () => {
          source.endTransaction((lsn += 10n))
          for (const event of source.take()) await engine.apply(event)
          await engine.apply(watermark(lsn))
        }
        for (const next of [...steps, { kind: 'commit' as const }]) {
          if (next.kind === 'commit' || next.kind === 'flush') await commit()
          if (next.kind === 'flush') await engine.flush()
          if (!('name' in next)) continue
          const isTaken = identifierFieldIds.length > 0 && source.rows.some(([name]) => name === `k${next.name}`)
          const index = source.rows.length > 0 ? next.at % source.rows.length : -1
          if (next.kind === 'insert' && !isTaken) source.insert([`k${next.name}`, BigInt(next.at % 2)])
          else if (next.kind === 'delete' && index >= 0) source.delete(index)
          else if (next.kind === 'update' && index >= 0) {
            source.update(index, [isTaken ? source.rows[index][0]! : `k${next.name}`, BigInt(next.at % 3)])
          }
        }
        const lease = await engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 1000 })
        expect(readContent(lease.tables.get('public.t')!, storage)).toEqual(source.contentAt(lsn))
        lease.release()
        await engine.close()
      }),
      simulatedRuns(100),
    )
    weak.isOn = false
  })
})

const COUNT = 6000
const EQUAL = { fields, identifierFieldIds: [] }

function equalRows(op: number, count: number, endLsn: bigint): ChangeBatch {
  const rows = new BatchBuilder(fields)
  for (let row = 0; row < count; row++) {
    appendValue(rows.builders[0], 'the same')
    appendValue(rows.builders[1], 7n)
  }
  const none = new BatchBuilder(fields).view()
  return {
    table: { schema: 'public', name: 't' },
    ops: new Uint8Array(count).fill(op),
    rows: op === ChangeOp.insert ? rows.view() : none,
    old: op === ChangeOp.insert ? none : rows.view(),
    unchanged: [],
    marks: { endLsns: [endLsn], changeCounts: [count], commitTimesMs: [0] },
  }
}

test.each(['memory', 'a file', 'many files'])('deletes of equal rows without a key take one place each: in %s', async (where) => {
  const storage = new MemoryTableStorage({ schema: 'public', name: 't' }, EQUAL)
  const engine = await start(EQUAL, storage)
  const files = where === 'many files' ? 20 : 1
  let lsn = 0n
  for (let file = 0; file < files; file++) {
    await engine.apply({ kind: 'batch', batch: equalRows(ChangeOp.insert, COUNT / files, (lsn += 10n)) })
    await engine.apply(watermark(lsn))
    if (where !== 'memory') await engine.flush()
  }
  const looks = vi.spyOn(FileSegment.prototype, 'isDead')
  const candidates = vi.spyOn(PlaceBuffer.prototype, 'push')
  const fetched = vi.spyOn(storage, 'fetchRows')
  const BATCH = 200
  for (let deleted = 0; deleted < COUNT; deleted += BATCH) {
    await engine.apply({ kind: 'batch', batch: equalRows(ChangeOp.delete, BATCH, (lsn += 10n)) })
    await engine.apply(watermark(lsn))
  }
  expect(engine.status()[0]).toMatchObject({ state: 'streaming', rows: 0 })
  const batches = COUNT / BATCH
  expect(looks.mock.calls.length + candidates.mock.calls.length).toBeLessThan(COUNT * 8)
  expect(fetched.mock.calls.reduce((sum, [, positions]) => sum + positions.length, 0)).toBeLessThanOrEqual(COUNT + batches * 128)
  expect(fetched.mock.calls.length).toBeLessThanOrEqual(batches + files)
  vi.restoreAllMocks()
  await engine.close()
})
