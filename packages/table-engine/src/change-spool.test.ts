import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  appendValue,
  BatchBuilder,
  ChangeOp,
  silentLogger,
  systemDisk,
  valueAt,
  type ChangeBatch,
  type Field,
  type LocalDisk,
  type Lsn,
} from '@moonlink/core'
import { damaged, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ChangeSpool } from './change-spool.ts'
import { isBatch, type HeldChange } from './held-batches.ts'

const FIELDS: readonly Field[] = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'text', type: { kind: 'string' }, required: false },
]

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'moonlink-spool-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Inserts of these ids; after some of them, in order, a transaction ends. */
function batchOf(ids: readonly number[], ends: readonly { readonly after: number; readonly lsn: Lsn }[]): ChangeBatch {
  const rows = new BatchBuilder(FIELDS)
  for (const id of ids) {
    appendValue(rows.builders[0], BigInt(id))
    appendValue(rows.builders[1], id % 3 === 0 ? null : `text ${id}`)
  }
  return {
    table: { schema: 'public', name: 't' },
    ops: new Uint8Array(ids.length).fill(ChangeOp.insert),
    rows: rows.view(),
    old: new BatchBuilder(FIELDS).view(),
    unchanged: [],
    marks: { endLsns: ends.map(({ lsn }) => lsn), changeCounts: ends.map(({ after }) => after), commitTimesMs: ends.map(() => 0) },
    openLsn: ends.at(-1)?.after === ids.length ? undefined : 7n,
  }
}

/** Each change and each end, in order. */
function flat(change: HeldChange): string[] {
  if (!isBatch(change)) return ['truncate']
  const texts: string[] = []
  const { marks, ops, rows } = change
  for (let row = 0; row <= ops.length; row++) {
    marks.changeCounts.forEach((count, index) => count === row && texts.push(`end ${marks.endLsns[index]}`))
    if (row < ops.length) texts.push(`${String(valueAt(rows.columns[0], row))} ${String(valueAt(rows.columns[1], row))}`)
  }
  return texts
}

type Step =
  | { readonly kind: 'add'; readonly count: number; readonly isClosed: boolean }
  | { readonly kind: 'take' | 'read' | 'rollBack' | 'truncate' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('add' as const), count: fc.integer({ min: 1, max: 9 }), isClosed: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('take' as const, 'read' as const, 'rollBack' as const, 'truncate' as const) }),
  },
)

test('what waits comes out in order, each once, whether it went to the file or not; an open transaction can be taken back', async () => {
  let files = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.constantFrom(1, 150, 600, 1e9), async (steps, memoryBytes) => {
      const spool = new ChangeSpool({ disk: systemDisk, path: join(directory, 'spool'), memoryBytes, logger: silentLogger })
      let model: string[] = []
      /** How much of the model is of whole transactions. */
      let closed = 0
      let next = 1
      for (const { kind, ...rest } of steps) {
        if (kind === 'add') {
          const { count, isClosed } = rest as { count: number; isClosed: boolean }
          const ids = Array.from({ length: count }, () => next++)
          // The first end of a batch lies in its middle.
          const ends = isClosed ? [{ after: Math.ceil(count / 2), lsn: BigInt(next) }] : []
          const batch = batchOf(ids, ends)
          await spool.append(batch)
          const before = model.length
          model.push(...flat(batch))
          if (isClosed) closed = before + ends[0].after + 1
        } else if (kind === 'truncate') {
          await spool.append({ isTruncation: true, openLsn: 7n })
          model.push('truncate')
        } else if (kind === 'take') {
          const change = await spool.shift()
          const taken = change === null ? [] : flat(change)
          expect(taken).toEqual(model.slice(0, taken.length))
          expect(change === null).toBe(model.length === 0)
          model = model.slice(taken.length)
          closed = Math.max(0, closed - taken.length)
        } else if (kind === 'read') {
          const read: string[] = []
          for await (const change of spool.read()) read.push(...flat(change))
          expect(read).toEqual(model.slice(0, closed))
        } else {
          spool.rollBack()
          model = model.slice(0, closed)
        }
        expect(spool.isEmpty).toBe(model.length === 0)
      }
      if (spool.fileBytes > 0) files++
      const left: string[] = []
      for (let change = await spool.shift(); change !== null; change = await spool.shift()) left.push(...flat(change))
      expect(left).toEqual(model)
      await spool.close()
      expect(readdirSync(directory)).toEqual([])
    }),
    { numRuns: 150 },
  )
  expect(files).toBeGreaterThan(20)
})

test('memory stays within its bound; where the file cannot be written that is said, and mended once it can', async () => {
  const spool = new ChangeSpool({ disk: systemDisk, path: join(directory, 'spool'), memoryBytes: 10_000, logger: silentLogger })
  const broken = new ChangeSpool({ disk: systemDisk, path: join(directory, 'no', 'spool'), memoryBytes: 10_000, logger: silentLogger })
  for (let count = 0; count < 200; count++) {
    const ids = Array.from({ length: 20 }, (_, index) => count * 20 + index)
    for (const each of [spool, broken]) await each.append(batchOf(ids, [{ after: 20, lsn: BigInt(count + 1) }]))
    expect(spool.byteSize).toBeLessThan(12_000)
  }
  expect(spool.trouble).toBeNull()
  expect(broken.trouble).toMatch(/^COPY_SPOOL_FAILED .*\/no\/spool \(ENOENT\): free space there/)
  await broken.retry()
  expect([broken.trouble === null, broken.fileBytes]).toEqual([false, 0])
  mkdirSync(join(directory, 'no'))
  await broken.retry()
  expect([broken.trouble, broken.byteSize]).toEqual([null, 0])
  for (const each of [spool, broken]) {
    let changes = 0
    for (let change = await each.shift(); change !== null; change = await each.shift()) changes += flat(change).length
    expect(changes).toBe(200 * 21)
  }
  await spool.close()
})

test('what was damaged on disk is refused, never taken for something else', async () => {
  const path = join(directory, 'spool')
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      const spool = new ChangeSpool({ disk: systemDisk, path, memoryBytes: 1, logger: silentLogger })
      const expected: string[] = []
      for (let lsn = 1; lsn <= 3; lsn++) {
        const batch = batchOf([lsn, lsn + 10], [{ after: 2, lsn: BigInt(lsn) }])
        await spool.append(batch)
        expected.push(...flat(batch))
      }
      writeFileSync(path, damaged(readFileSync(path), what))
      const read: string[] = []
      const refused = await readOrRefuse(async () => {
        for (let change = await spool.shift(); change !== null; change = await spool.shift()) read.push(...flat(change))
        return true
      })
      expect(read).toEqual(refused === null ? expected.slice(0, read.length) : expected)
      await spool.close()
    }),
    fuzzing(300),
  )
})

test('a block of zeros in its file is damage', async () => {
  const path = join(directory, 'spool')
  const spool = new ChangeSpool({ disk: systemDisk, path, memoryBytes: 1, logger: silentLogger })
  await spool.append(batchOf([1, 11], [{ after: 2, lsn: 1n }]))
  writeFileSync(path, Buffer.alloc(readFileSync(path).length))
  await expect(spool.shift()).rejects.toMatchObject({ kind: 'corrupt', code: 'SPOOL_CORRUPT', context: { path, at: 0 } })
  await spool.close()
})

test('only what the disk says of a file that can not be read is called what may pass', async () => {
  let failure: Error | null = null
  const disk: LocalDisk = {
    ...systemDisk,
    open: async (path, mode) => {
      const file = await systemDisk.open(path, mode)
      const read = file.read.bind(file)
      file.read = (...args) => (failure === null ? read(...args) : Promise.reject(failure))
      return file
    },
  }
  const spool = new ChangeSpool({ disk, path: join(directory, 'spool'), memoryBytes: 1, logger: silentLogger })
  await spool.append(batchOf([1], [{ after: 1, lsn: 10n }]))
  failure = Object.assign(new Error('EIO'), { code: 'EIO' })
  await expect(spool.shift()).rejects.toMatchObject({ kind: 'retry', context: { path: join(directory, 'spool') } })
  failure = new TypeError('a mistake of ours')
  await expect(spool.shift()).rejects.toBe(failure)
  failure = null
  expect(flat((await spool.shift())!)).toEqual(['1 text 1', 'end 10'])
  await spool.close()
})
