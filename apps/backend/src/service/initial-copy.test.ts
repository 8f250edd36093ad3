import {
  BatchBuilder,
  MoonlinkError,
  silentLogger,
  silentTelemetry,
  systemClock,
  systemRandom,
  type CopyReadOptions,
  type TableCopy,
  type TableName,
  type TableSchema,
  type TakeCopied,
} from '@moonlink/core'
import { defaultEngineLimits, Engine, type Mirror } from '@moonlink/table-engine'
import { MemoryTableStorage, SimulatedLocalDisk } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { copyTables } from './initial-copy.ts'

const table: TableName = { schema: 'public', name: 't' }
const schema: TableSchema = { fields: [{ id: 1, name: 'id', type: { kind: 'int' }, required: true }], identifierFieldIds: [1] }
const WHOLE = { from: 0, to: null }

function newEngine(clock = systemClock): Engine {
  const disk = new SimulatedLocalDisk({ next: () => 0.5 }).session()
  return new Engine({ clock, random: systemRandom, logger: silentLogger, disk, indexDirectory: '/index', limits: defaultEngineLimits })
}

/** One that streams, or that is to be copied. */
async function mirrorOf(storage: MemoryTableStorage, isCopied = true, engine = newEngine()): Promise<Mirror> {
  const mirror = await engine.addMirror({ table: storage.table, schema, storage, appendOnly: false })
  if (isCopied) await mirror.finishCopy(10n)
  return mirror
}

interface HeldCopy {
  /** Lets go of what waits for the snapshot, or for the rows. */
  readonly begin: () => void
  readonly end: () => void
  /** Settles with the copy. */
  readonly done: Promise<void>
}

/** A copy of one row of each table, as of an LSN, which waits before its snapshot and before its rows; the source refuses it first for each of `refusals`. */
function copying(
  mirrors: Mirror | readonly Mirror[],
  id: number,
  boundaryLsn: bigint,
  refusals: Error[] = [],
  reset = (): Promise<Mirror> => Promise.reject(new Error('nothing is copied anew here')),
): HeldCopy {
  const [snapshot, rows] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const read = async (_: TableName, take: TakeCopied, options: CopyReadOptions = {}) => {
    await rows.promise
    const batch = new BatchBuilder(schema.fields)
    batch.builders[0].appendInt32(id)
    await take(batch.view(), WHOLE)
    await options.finished?.(WHOLE)
  }
  const copy: TableCopy = {
    boundaryLsn,
    table: () => ({ estimatedRows: null, pages: 1, pageBytes: 8192, storage: null, horizon: '0' }),
    read,
    readChanged: async () => {},
    close: async () => {},
  }
  const begun = () => {
    const refusal = refusals.shift()
    if (refusal !== undefined) throw refusal
    return copy
  }
  const source = { copy: () => snapshot.promise.then(begun), currentLsn: async () => boundaryLsn }
  const options = {
    source,
    parallelTables: 1,
    clock: systemClock,
    logger: silentLogger,
    telemetry: silentTelemetry,
    progress: new Map(),
    reading: new Set<Mirror>(),
    reset,
    troubles: new Map(),
    waitsForStore: false,
  }
  const done = copyTables([mirrors].flat(), options, new AbortController().signal)
  return { begin: snapshot.resolve, end: rows.resolve, done }
}

test.each(['its snapshot', 'its rows'])(
  'a copy that is overtaken while it waits for %s leaves the table to the later one',
  async (what) => {
    const storage = new MemoryTableStorage(table, schema)
    const mirror = await mirrorOf(storage)
    await mirror.beginResync('first')
    const earlier = copying(mirror, 1, 20n)
    if (what === 'its rows') earlier.begin()
    await expect.poll(() => mirror.currentPhase).toBe('copying')
    await new Promise((resolve) => setImmediate(resolve))
    await mirror.pause('PAUSED', 'by request')
    await mirror.beginResync('second')
    const later = copying(mirror, 2, 30n)
    later.begin()
    earlier.begin()
    earlier.end()
    await earlier.done
    expect(mirror.currentPhase).toBe('copying')
    later.end()
    await later.done
    expect([mirror.currentPhase, mirror.status().reason, mirror.status().rows]).toEqual(['streaming', null, 1])
    expect(storage.snapshot.committedLsn).toBe(30n)
  },
)

test('a copy that finds its slot gone goes on, until whoever mends that ends it', async () => {
  const mirror = await mirrorOf(new MemoryTableStorage(table, schema), false)
  const { begin, done, end } = copying(mirror, 1, 20n, [new MoonlinkError('invalid', 'PG_SLOT_MISSING', 'the slot is not there')])
  begin()
  end()
  await done
  expect(mirror.status()).toMatchObject({ state: 'streaming', reason: null, committedLsn: 20n })
})

test.each(['invalid', 'conflict'] as const)(
  'a table that is paused before the source refuses it (%s) keeps none beside it from being copied',
  async (kind) => {
    const mirror = await mirrorOf(new MemoryTableStorage(table, schema), false)
    const beside = await mirrorOf(new MemoryTableStorage({ schema: 'public', name: 'beside' }, schema), false)
    const code = kind === 'invalid' ? 'TABLE_UNKNOWN' : 'PG_SCHEMA_CHANGED'
    const refusal = new MoonlinkError(kind, code, 'public.t is another by now', { context: { table: 'public.t' } })
    const { begin, done, end } = copying([mirror, beside], 1, 20n, [refusal])
    await mirror.pause('COPY_ENDED', 'its copy was ended, for it is dropped.')
    begin()
    end()
    await done
    expect(mirror.status()).toMatchObject({ state: 'paused', reason: 'COPY_ENDED its copy was ended, for it is dropped.' })
    expect(beside.status()).toMatchObject({ state: 'streaming', reason: null, committedLsn: 20n })
  },
)

test('what is damaged of a table that is copied pauses that table, and ends nothing else', async () => {
  const mirror = await mirrorOf(new MemoryTableStorage(table, schema), false)
  vi.spyOn(mirror, 'finishCopy').mockRejectedValueOnce(new MoonlinkError('corrupt', 'SPOOL_CORRUPT', 'what waits for the copy is damaged'))
  const { begin, done, end } = copying(mirror, 1, 20n)
  begin()
  end()
  await done
  expect(mirror.status()).toMatchObject({ state: 'paused', reason: 'SPOOL_CORRUPT what waits for the copy is damaged' })
})

test('a table whose copy may not be written is paused, and the one beside it is copied', async () => {
  const storage = new MemoryTableStorage(table, schema)
  const mirror = await mirrorOf(storage, false)
  const beside = await mirrorOf(new MemoryTableStorage({ schema: 'public', name: 'beside' }, schema), false)
  const denial = new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', 'may not write there: allow it.')
  vi.spyOn(storage, 'commit').mockRejectedValue(denial)
  const { begin, done, end } = copying([mirror, beside], 1, 20n)
  begin()
  end()
  await done
  expect(mirror.status()).toMatchObject({ state: 'paused', reason: `STORE_NOT_WRITABLE ${denial.message}` })
  expect(beside.status()).toMatchObject({ state: 'streaming', reason: null, committedLsn: 20n })
})

test('a table whose copy alone fails keeps none behind it waiting, and is paused where that lasts', async () => {
  // Its patience is over a hundred times as soon.
  const engine = newEngine({ ...systemClock, nowMs: () => systemClock.nowMs() * 100 })
  const storage = new MemoryTableStorage(table, schema)
  storage.failNextWrites = Infinity
  const mirror = await mirrorOf(storage, false, engine)
  const beside = await mirrorOf(new MemoryTableStorage({ schema: 'public', name: 'beside' }, schema), false, engine)
  const { begin, done, end } = copying([mirror, beside], 1, 20n)
  begin()
  end()
  await expect.poll(() => beside.currentPhase).toBe('streaming')
  expect([mirror.currentPhase, mirror.durableLsn()]).toEqual(['copying', 20n])
  await expect
    .poll(() => {
      engine.pauseRefused(0)
      return mirror.currentPhase
    })
    .toBe('paused')
  await done
  expect(mirror.status().reason).toMatch(/^STORE_UNAVAILABLE .*tried again/)
  expect(mirror.durableLsn()).toBeNull()
  storage.failNextWrites = 0
  await expect
    .poll(async () => {
      await engine.tick()
      return mirror.isAllowedAgain
    })
    .toBe(true)
})

test('one that can not be opened anew to be compared keeps none beside it from being copied', async () => {
  const storage = new MemoryTableStorage(table, schema)
  const mirror = await mirrorOf(storage)
  const beside = await mirrorOf(new MemoryTableStorage({ schema: 'public', name: 'beside' }, schema), false)
  await mirror.beginResync('by request')
  const away = new MoonlinkError('retry', 'CATALOG_UNAVAILABLE', 'the catalog does not answer')
  vi.spyOn(mirror, 'appendCopied').mockRejectedValue(away)
  let isAway = true
  const reset = async () => {
    if (isAway) throw away
    return mirrorOf(storage, false)
  }
  const { begin, done, end } = copying([mirror, beside], 1, 20n, [], reset)
  begin()
  end()
  await expect.poll(() => beside.currentPhase).toBe('streaming')
  isAway = false
  await done
})
