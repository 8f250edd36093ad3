import type { DataFile, JsonObject, TableCommit, TableStorage } from '@moonlink/core'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeManifest, type ManifestEntry } from '../avro/manifest.ts'
import { decodeManifestList, type ManifestFile } from '../avro/manifest-list.ts'
import { positionsOf, roaringOf } from '../puffin/roaring.test.support.ts'
import { harness, rowsOf, type Harness } from './harness.test.support.ts'

/** What the table must hold: live files with their dead positions. */
type Model = Map<string, { readonly recordCount: number; readonly dead: Set<number> }>

type Step =
  | { readonly kind: 'append'; readonly counts: readonly number[]; readonly deletes: readonly number[] }
  | { readonly kind: 'replace'; readonly picks: readonly number[] }
  | { readonly kind: 'expire'; readonly minSnapshots: number }
  | { readonly kind: 'reopen' }
  | { readonly kind: 'foreign'; readonly count: number }
  | { readonly kind: 'fault'; readonly fault: 'before' | 'after' }

const picks = fc.array(fc.nat(1000), { maxLength: 6 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      counts: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 3 }),
      deletes: picks,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('replace' as const), picks: fc.array(fc.nat(1000), { minLength: 1, maxLength: 4 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('expire' as const), minSnapshots: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reopen' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('foreign' as const), count: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fault' as const), fault: fc.constantFrom('before' as const, 'after' as const) }) },
)

/** Applies steps to a table and to the model of it. */
class Run {
  readonly h: Harness
  readonly model: Model = new Map()
  readonly firstRowIds = new Map<string, number>()
  storage: TableStorage
  lsn = 0n

  private constructor(h: Harness, storage: TableStorage) {
    this.h = h
    this.storage = storage
  }

  static async start(seed: number): Promise<Run> {
    const h = harness(seed)
    return new Run(h, await Run.open(h))
  }

  private static open(h: Harness): Promise<TableStorage> {
    return h.open({ manifestLimits: { mergeFrom: 3, smallBytes: 1 << 20, targetBytes: 700 } })
  }

  async apply(step: Step): Promise<void> {
    this.h.clock.ms += 1000
    switch (step.kind) {
      case 'append':
        return this.append(step.counts, step.deletes)
      case 'replace':
        return this.replace(step.picks)
      case 'expire': {
        await this.storage.expire({ minSnapshots: step.minSnapshots, maxAgeMs: 0, keepPaths: new Set() })
        return
      }
      case 'reopen': {
        this.h.catalog.failNext.length = 0
        this.storage = await Run.open(this.h)
        return
      }
      case 'foreign':
        return this.foreign(step.count)
      case 'fault':
        this.h.catalog.failNext.push(step.fault)
    }
  }

  private async append(counts: readonly number[], deletes: readonly number[]): Promise<void> {
    const added = []
    for (const count of counts) added.push(await this.storage.writeFile(rowsOf(count)))
    for (const file of added) this.model.set(file.path, { recordCount: file.recordCount, dead: new Set() })
    const paths = [...this.model.keys()]
    const touched = new Set<string>()
    for (const pick of deletes) {
      const path = paths[pick % paths.length]
      if (path === undefined) continue
      const { recordCount, dead } = this.model.get(path)!
      dead.add(pick % recordCount)
      touched.add(path)
    }
    await this.commit({ kind: 'append', addFiles: added, removeFiles: [], vectors: this.vectors(touched) })
  }

  private async replace(picks: readonly number[]): Promise<void> {
    const paths = [...this.model.keys()]
    if (paths.length === 0) return
    const removeFiles = [...new Set(picks.map((pick) => paths[pick % paths.length]))]
    const live = removeFiles.map((path) => this.model.get(path)!).reduce((sum, file) => sum + file.recordCount - file.dead.size, 0)
    const addFiles = live === 0 ? [] : [await this.storage.writeFile(rowsOf(live))]
    for (const path of removeFiles) this.model.delete(path)
    for (const file of addFiles) this.model.set(file.path, { recordCount: live, dead: new Set([live - 1]) })
    await this.commit({ kind: 'replace', addFiles, removeFiles, vectors: this.vectors(addFiles.map((file) => file.path)) })
  }

  private async foreign(count: number): Promise<void> {
    const other = await this.h.openForeign()
    const file = await other.writeFile(rowsOf(count))
    await other.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors: [], lsn: 1n })
    this.model.set(file.path, { recordCount: count, dead: new Set() })
    const commit = this.commit({ kind: 'append', addFiles: [], removeFiles: [], vectors: [] })
    await expect(commit).rejects.toMatchObject({ code: 'ROWS_CHANGED' })
    await this.apply({ kind: 'reopen' })
  }

  private async commit(commit: Omit<TableCommit, 'lsn'>): Promise<void> {
    this.lsn += 10n
    const snapshot = await this.storage.commit({ ...commit, lsn: this.lsn })
    expect(snapshot.committedLsn).toBe(this.lsn)
  }

  private vectors(paths: Iterable<string>) {
    return Array.from(paths, (dataFile) => {
      const { dead } = this.model.get(dataFile)!
      return { dataFile, bitmap: roaringOf(dead), cardinality: dead.size }
    })
  }
}

function live(files: readonly DataFile[]): Record<string, number> {
  return Object.fromEntries(files.map((file) => [file.path, file.recordCount]))
}

async function check(run: Run): Promise<void> {
  const { snapshot } = run.storage
  expect(live(snapshot.files)).toEqual(Object.fromEntries([...run.model].map(([path, file]) => [path, file.recordCount])))
  const dead = Object.fromEntries(snapshot.vectors.map((vector) => [vector.dataFile, positionsOf(vector.bitmap)]))
  const expected = [...run.model].filter(([, file]) => file.dead.size > 0)
  expect(dead).toEqual(Object.fromEntries(expected.map(([path, file]) => [path, [...file.dead].sort((a, b) => a - b)])))
  for (const file of snapshot.files) {
    // A row keeps its id for its file's whole life.
    expect(run.firstRowIds.get(file.path) ?? file.firstRowId).toBe(file.firstRowId)
    run.firstRowIds.set(file.path, file.firstRowId)
  }
  const read = (await run.h.open()).snapshot
  expect(sorted(read.files)).toEqual(sorted(snapshot.files))
  expect(new Set(read.vectors)).toEqual(new Set(snapshot.vectors))
  expect({ ...read, files: [], vectors: [] }).toEqual({ ...snapshot, files: [], vectors: [] })
}

const sorted = (files: readonly DataFile[]) => [...files].sort((a, b) => (a.path < b.path ? -1 : 1))

interface Tree {
  readonly manifests: readonly { readonly file: ManifestFile; readonly entries: readonly ManifestEntry[] }[]
}

async function treeOf(h: Harness, snapshot: JsonObject): Promise<Tree> {
  const list = await decodeManifestList(await h.store.get(snapshot['manifest-list'] as string))
  const manifests = []
  for (const file of list) manifests.push({ file, entries: (await decodeManifest(await h.store.get(file.path))).entries })
  return { manifests }
}

/** The format's own rules, checked on what lies in the store, for every retained snapshot. */
async function checkStored(run: Run): Promise<void> {
  const metadata = await run.h.metadata()
  const reachable = new Set<string>()
  const snapshots = metadata['snapshots'] as readonly JsonObject[]
  for (const snapshot of snapshots) {
    reachable.add(snapshot['manifest-list'] as string)
    const { manifests } = await treeOf(run.h, snapshot)
    const liveFiles = new Map<string, number>()
    const vectors = new Set<string>()
    const lastOffsets = new Map<string, number>()
    const ids: (readonly [number, number])[] = []
    for (const { file, entries } of manifests) {
      reachable.add(file.path)
      expect(countsOf(entries)).toEqual([file.existingFilesCount, file.addedFilesCount, file.deletedFilesCount])
      let next = file.firstRowId
      for (const entry of entries) {
        if (entry.status !== 1) expect([entry.sequenceNumber, entry.fileSequenceNumber, entry.snapshotId]).not.toContain(null)
        if (entry.status === 2) continue
        reachable.add(entry.file.path)
        const sequenceNumber = entry.sequenceNumber ?? file.sequenceNumber
        expect(sequenceNumber).toBeGreaterThanOrEqual(file.minSequenceNumber)
        if (file.content === 'deletes') {
          expect(vectors.has(entry.file.referencedDataFile!)).toBe(false)
          vectors.add(entry.file.referencedDataFile!)
          expect(entry.file.contentOffset).toBeLessThan(lastOffsets.get(entry.file.path) ?? Infinity)
          lastOffsets.set(entry.file.path, entry.file.contentOffset!)
          continue
        }
        const first = entry.file.firstRowId ?? next!
        if (entry.file.firstRowId === null) next! += entry.file.recordCount
        ids.push([first, first + entry.file.recordCount])
        liveFiles.set(entry.file.path, sequenceNumber)
      }
    }
    for (const path of vectors) expect(liveFiles.has(path)).toBe(true)
    checkRowIds(
      snapshot,
      manifests.map((manifest) => manifest.file),
    )
    ids.sort((a, b) => a[0] - b[0])
    for (let index = 1; index < ids.length; index++) expect(ids[index][0]).toBeGreaterThanOrEqual(ids[index - 1][1])
    expect(ids.at(-1)?.[1] ?? 0).toBeLessThanOrEqual(metadata['next-row-id'] as number)
    const summary = snapshot['summary'] as Record<string, string>
    expect(summary['total-data-files']).toBe(String(liveFiles.size))
    expect(summary['total-delete-files']).toBe(String(vectors.size))
  }
  const objects = new Set(await run.h.objects())
  for (const path of reachable) expect(objects.has(path), path).toBe(true)
}

/** The assignment of the specification, done again: in list order, each new data manifest takes the range of its live rows. */
function checkRowIds(snapshot: JsonObject, manifests: readonly ManifestFile[]): void {
  let next = snapshot['first-row-id'] as number
  for (const manifest of manifests) {
    if (manifest.content === 'deletes') expect(manifest.firstRowId).toBeNull()
    else if (manifest.addedSnapshotId === BigInt(snapshot['snapshot-id'] as number | bigint)) {
      expect(manifest.firstRowId).toBe(next)
      next += manifest.addedRowsCount + manifest.existingRowsCount
    } else expect(manifest.firstRowId).toBeLessThanOrEqual(snapshot['first-row-id'] as number)
  }
  expect(snapshot['added-rows']).toBe(next - (snapshot['first-row-id'] as number))
}

function countsOf(entries: readonly ManifestEntry[]): number[] {
  return [0, 1, 2].map((status) => entries.filter((entry) => entry.status === status).length)
}

test('any history of commits, rebases, faults and expiry leaves the table as the model has it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 1 << 30 }), fc.array(step, { minLength: 1, maxLength: 25 }), async (seed, steps) => {
      const run = await Run.start(seed)
      for (const one of steps) {
        await run.apply(one)
        await check(run)
      }
      await checkStored(run)
    }),
    { numRuns: 30 },
  )
})

test('expiry leaves nothing behind that the last snapshot does not need', async () => {
  const run = await Run.start(5)
  for (let round = 0; round < 8; round++) {
    await run.apply({ kind: 'append', counts: [10, 20], deletes: [round, round * 3, round * 7] })
    if (round % 3 === 2) await run.apply({ kind: 'replace', picks: [round, 1] })
  }
  const { snapshots, files } = await run.storage.expire({ minSnapshots: 1, maxAgeMs: 0, keepPaths: new Set() })
  expect(snapshots).toBe(9)
  expect(files).toBeGreaterThan(20)
  await check(run)
  const metadata = await run.h.metadata()
  const [snapshot] = metadata['snapshots'] as readonly JsonObject[]
  const { manifests } = await treeOf(run.h, snapshot)
  const needed = [snapshot['manifest-list'] as string]
  for (const { file, entries } of manifests)
    needed.push(file.path, ...entries.filter((entry) => entry.status !== 2).map((entry) => entry.file.path))
  const stored = (await run.h.objects()).filter((uri) => !uri.endsWith('.metadata.json') && !uri.endsWith('.text'))
  expect(new Set(stored)).toEqual(new Set(needed))
})

test('expiry keeps files that a read needs, and removes them later', async () => {
  const run = await Run.start(6)
  await run.apply({ kind: 'append', counts: [10], deletes: [] })
  const path = run.storage.snapshot.files[0].path
  await run.apply({ kind: 'replace', picks: [0] })
  await run.storage.expire({ minSnapshots: 1, maxAgeMs: 0, keepPaths: new Set([path]) })
  expect(await run.h.objects()).toContain(path)
  await run.storage.expire({ minSnapshots: 1, maxAgeMs: 0, keepPaths: new Set() })
  expect(await run.h.objects()).not.toContain(path)
})

test('expiry keeps what tags and branches name', async () => {
  const run = await Run.start(7)
  await run.apply({ kind: 'append', counts: [10], deletes: [1] })
  const tagged = run.storage.snapshot
  const tag = { action: 'set-snapshot-ref', 'ref-name': 'keep', type: 'tag', 'snapshot-id': tagged.snapshotId! }
  await run.h.catalog.commit({ namespace: 'shop', name: 'orders' }, [], [tag])
  await run.apply({ kind: 'reopen' })
  await run.apply({ kind: 'replace', picks: [0] })
  await run.apply({ kind: 'append', counts: [3], deletes: [] })
  expect((await run.storage.expire({ minSnapshots: 1, maxAgeMs: 0, keepPaths: new Set() })).snapshots).toBe(1)
  const kept = await run.storage.loadSnapshot(tagged.snapshotId!)
  expect(live(kept.files)).toEqual(live(tagged.files))
  expect(kept.vectors).toEqual(tagged.vectors)
  await checkStored(run)
})

test('expiry of a snapshot that was rolled back keeps what it shares with those that stay', async () => {
  const run = await Run.start(9)
  await run.apply({ kind: 'append', counts: [10], deletes: [] })
  const [shared] = run.storage.snapshot.files
  const first = run.storage.snapshot.snapshotId!
  await run.apply({ kind: 'append', counts: [20], deletes: [] })
  const lost = run.storage.snapshot.files.find((file) => file.recordCount === 20)!
  const back = { action: 'set-snapshot-ref', 'ref-name': 'main', type: 'branch', 'snapshot-id': first }
  await run.h.catalog.commit({ namespace: 'shop', name: 'orders' }, [], [back])
  run.model.delete(lost.path)
  await run.apply({ kind: 'reopen' })
  await run.apply({ kind: 'replace', picks: [0] })
  await run.storage.expire({ minSnapshots: 2, maxAgeMs: 0, keepPaths: new Set() })
  expect(run.storage.retained().map((snapshot) => snapshot.snapshotId)).toEqual([first])
  const objects = await run.h.objects()
  expect(objects).toContain(shared.path)
  expect(objects).not.toContain(lost.path)
  await checkStored(run)
})

test('retained snapshots can be loaded and carry their LSN', async () => {
  const run = await Run.start(8)
  const seen = []
  for (let round = 0; round < 4; round++) {
    await run.apply({ kind: 'append', counts: [5], deletes: [round] })
    seen.push(run.storage.snapshot)
  }
  const retained = run.storage.retained()
  expect(retained.map((snapshot) => snapshot.lsn)).toEqual([30n, 20n, 10n])
  for (const [index, { snapshotId }] of retained.entries()) {
    const loaded = await run.storage.loadSnapshot(snapshotId)
    const then = seen[2 - index]
    expect(loaded).toMatchObject({ snapshotId, committedLsn: then.committedLsn })
    expect(live(loaded.files)).toEqual(live(then.files))
    expect(new Set(loaded.vectors)).toEqual(new Set(then.vectors))
  }
})

test('the manifest list stays short over many small commits', async () => {
  const h = harness()
  const storage = await h.open({ manifestLimits: { mergeFrom: 8, smallBytes: 1 << 20, targetBytes: 1 << 20 } })
  for (let round = 0; round < 50; round++) {
    const addFiles = [await storage.writeFile(rowsOf(1))]
    await storage.commit({ kind: 'append', addFiles, removeFiles: [], vectors: [], lsn: BigInt(round) })
  }
  const metadata = await h.metadata()
  const current = (metadata['snapshots'] as readonly JsonObject[]).at(-1)!
  expect((await treeOf(h, current)).manifests.length).toBeLessThanOrEqual(9)
  expect(storage.snapshot.files).toHaveLength(50)
})
