import { setTimeout as sleep } from 'node:timers/promises'
import { loadRoaring } from '@moonlink/deletion-log'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { limits, Run, schemas } from './engine-run.test.support.ts'
import { step } from './engine-steps.test.support.ts'
import { rowText } from './testing/scripted-table.ts'
import { simulatedRuns } from './testing/simulated.ts'

beforeAll(() => loadRoaring())

describe.each(Object.entries(schemas))('a mirror with %s', (_, schema) => {
  test('shows at every held LSN what the source had then', { timeout: 120_000 }, async () => {
    const reads = { above: 0, below: 0 }
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 120 }), async (steps) => {
        const run = new Run(schema)
        await run.start()
        for (const next of steps) await run.do(next)
        await run.finish()
        reads.above += run.reads.above
        reads.below += run.reads.below
      }),
      { ...simulatedRuns(150), timeout: 3000 },
    )
    expect(reads.above).toBeGreaterThan(100)
    expect(reads.below).toBeGreaterThan(100)
  })
})

test('a read beside a flush that is taken over finds what its LSN showed, or is refused', async () => {
  const run = new Run(schemas['a composite key'])
  await run.start()
  await run.do({ kind: 'add column', at: 0 })
  await run.do({ kind: 'send' })
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'flush beside' })
  await run.do({ kind: 'write early beside' })
  await run.do({ kind: 'send' })
  await run.do({ kind: 'read' })
  await run.finish()
})

test('a table opens again whose columns have defaults of any type', async () => {
  const run = new Run(schemas['a long key'])
  await run.start()
  for (let at = 0; at < 12; at++) await run.do({ kind: 'add column', at })
  await run.do({ kind: 'insert', key: 1, text: 'a' })
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'flush' })
  expect(run.storage.snapshot.schema.fields.some(({ initialDefault }) => typeof initialDefault === 'bigint')).toBe(true)
  await run.do({ kind: 'restart' })
  await run.finish()
})

test('what the status says of durable and committed positions does not go back with the first change after a quiet time', async () => {
  const run = new Run(schemas['a long key'])
  await run.start()
  await run.do({ kind: 'insert', key: 1, text: 'a' })
  await run.do({ kind: 'flush' })
  const flushed = run.engine.status()[0].committedLsn!
  await run.othersCommit()
  const quiet = run.engine.status()[0].committedLsn!
  expect(quiet).toBeGreaterThan(flushed)
  await run.do({ kind: 'insert', key: 2, text: 'b' })
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'send' })
  expect(run.engine.status()[0]).toMatchObject({ durableLsn: quiet, committedLsn: quiet })
  expect(run.engine.status()[0].appliedLsn).toBeGreaterThan(quiet)
  await run.finish()
})

test('updates of one row through many flushes keep its row id', async () => {
  const run = new Run(schemas['a long key'])
  await run.start()
  await run.do({ kind: 'insert', key: 1, text: 'a' })
  await run.do({ kind: 'flush' })
  const [first] = run.storage.snapshot.files
  const rowId = run.storage.rowIdOf(first.path, 0)
  for (let round = 0; round < 5; round++) {
    await run.do({ kind: 'update', at: 0, text: `v${round}`, unchanged: false })
    await run.do({ kind: 'update', at: 0, text: `w${round}`, unchanged: false })
    await run.do({ kind: 'flush' })
    const last = run.storage.snapshot.files.at(-1)!
    expect(run.storage.rowIdOf(last.path, last.recordCount - 1)).toBe(rowId)
    expect(rowText(run.source.rows[0])).toContain(`w${round}`)
  }
  await run.finish()
})

test('deaths that no commit has yet move along with compactions', async () => {
  // What a change during a flush asks for afterwards must not compact at once.
  const compaction = { ...limits.compaction, enabled: false }
  const run = new Run(schemas['a long key'], { ...limits, earlyFileBytes: 2 ** 30, compaction })
  await run.start()
  // As reads see them, which is a moment after the commit.
  const files = () => run.engine.status()[0].dataFiles
  for (let file = 0; file < 3; file++) {
    for (let key = 0; key < 4; key++) await run.do({ kind: 'insert', key: file * 4 + key, text: `v${key}` })
    if (file < 2) await run.do({ kind: 'flush' })
  }
  // The last file's rows die while it is written, those of the others after that.
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'send' })
  const writing = Promise.withResolvers<void>()
  const mayWrite = Promise.withResolvers<void>()
  const write = run.storage.writeFile.bind(run.storage)
  run.storage.writeFile = async (rows, onPath) => {
    writing.resolve()
    await mayWrite.promise
    return write(rows, onPath)
  }
  await run.do({ kind: 'flush beside' })
  await writing.promise
  await run.do({ kind: 'delete', at: 11 })
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'send' })
  mayWrite.resolve()
  while (files() < 3) await sleep(1)
  await run.do({ kind: 'delete', at: 5 })
  await run.do({ kind: 'delete', at: 0 })
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'send' })
  await run.do({ kind: 'read' })
  await run.do({ kind: 'pass time' })
  compaction.enabled = true
  await run.do({ kind: 'tick' })
  while (files() > 1) await sleep(1)
  await run.do({ kind: 'read' })
  expect(run.storage.snapshot.vectors).toHaveLength(0)
  await run.finish()
})

test.each(['a flush', 'a compaction'])('rows are found by a key that changed while %s was committed', async (job) => {
  const run = new Run(schemas['a long key'])
  await run.start()
  for (let key = 0; key < 3; key++) {
    await run.do({ kind: 'insert', key, text: `text ${key}` })
    await run.do({ kind: 'flush' })
  }
  const commit = run.storage.commit.bind(run.storage)
  let interferes = true
  let interfered = false
  run.storage.commit = async (next) => {
    const snapshot = await commit(next)
    if (!interferes || next.kind !== (job === 'a flush' ? 'append' : 'replace')) return snapshot
    interferes = false
    await run.do({ kind: 'change key', at: 1 })
    await run.do({ kind: 'commit' })
    await run.do({ kind: 'send' })
    interfered = true
    return snapshot
  }
  if (job === 'a flush') {
    await run.do({ kind: 'insert', key: 3, text: 'text 3' })
    await run.do({ kind: 'commit' })
    await run.do({ kind: 'send' })
    await run.engine.flush()
  } else {
    await run.engine.tick()
    await expect.poll(() => interfered).toBe(true)
  }
  expect(interfered).toBe(true)
  for (let at = 0; at < 3; at++) await run.do({ kind: 'update', at, text: 'changed', unchanged: false })
  await run.do({ kind: 'delete', at: 0 })
  await run.finish()
})

test('a compaction leaves the table with the schema that it was committed with', async () => {
  const run = new Run(schemas['a long key'])
  await run.start()
  await run.do({ kind: 'add column', at: 0 })
  for (let key = 0; key < 3; key++) {
    await run.do({ kind: 'insert', key, text: `text ${key}` })
    await run.do({ kind: 'flush' })
  }
  await run.do({ kind: 'drop column', at: 0 })
  await run.do({ kind: 'add column', at: 1 })
  await run.do({ kind: 'commit' })
  await run.do({ kind: 'send' })
  await run.engine.tick()
  await expect.poll(() => run.storage.snapshot.files.length).toBe(1)
  await run.do({ kind: 'read' })
  await run.finish()
})

test.each(['before', 'after', 'late'] as const)(
  'deaths in the files of a compaction whose answer failed %s are committed after it',
  async (when) => {
    const run = new Run(schemas['a long key'])
    await run.start()
    for (let key = 0; key < 3; key++) {
      await run.do({ kind: 'insert', key, text: `text ${key}` })
      await run.do({ kind: 'flush' })
    }
    run.storage.failNext.push(when)
    await run.engine.tick()
    await expect.poll(() => run.storage.failNext.length).toBe(0)
    await run.do({ kind: 'pass time' })
    await run.do({ kind: 'delete', at: 1 })
    await run.do({ kind: 'commit' })
    await run.do({ kind: 'send' })
    run.storage.deliverLate()
    await run.engine.flush()
    expect(run.storage.current.files).toHaveLength(1)
    expect(run.storage.current.vectors).toHaveLength(1)
    await run.finish()
  },
)

test('snapshots are expired while a flush has no room to be written', async () => {
  const run = new Run(schemas['a long key'], {
    ...limits,
    compaction: { ...limits.compaction, enabled: false },
    expiry: { minSnapshots: 1, maxAgeMs: 0, intervalMs: 0 },
  })
  await run.start()
  for (let key = 0; key < 4; key++) {
    await run.do({ kind: 'insert', key, text: `text ${key}` })
    await run.do({ kind: 'flush' })
  }
  run.storage.failNextWrites = 1
  await run.do({ kind: 'insert', key: 5, text: 'more' })
  await run.do({ kind: 'flush' })
  expect(run.engine.mirror('public.t')!.memory.isFlushing).toBe(true)
  expect(run.storage.retained().length).toBeGreaterThan(0)
  await run.engine.tick()
  await expect.poll(() => run.storage.retained().length).toBe(0)
  await run.finish()
})
