import { MoonlinkError, type DataFile, type JsonObject, type TableCommit, type TableStorage, type TimelineLsn } from '@moonlink/core'
import { describe, expect, test } from 'vitest'
import { decodeManifest } from '../avro/manifest.ts'
import { decodeManifestList } from '../avro/manifest-list.ts'
import { positionsOf, roaringOf } from '../puffin/roaring.test.support.ts'
import { harness, rowsOf, type Harness } from './harness.test.support.ts'

const NOTHING = { kind: 'append', addFiles: [], removeFiles: [], vectors: [] } as const

export function vectorOf(file: Pick<DataFile, 'path'>, positions: readonly number[]) {
  return { dataFile: file.path, bitmap: roaringOf(positions), cardinality: positions.length }
}

async function append(storage: TableStorage, count: number, lsn: bigint, more: Partial<TableCommit> = {}) {
  return storage.commit({ ...NOTHING, addFiles: [await storage.writeFile(rowsOf(count))], lsn, ...more })
}

/** A storage with two commits, of which somebody else goes back to the first. */
async function rolledBack(h: Harness): Promise<TableStorage> {
  const storage = await h.open()
  const first = await append(storage, 10, 1n)
  await append(storage, 10, 2n)
  const back = { action: 'set-snapshot-ref', 'ref-name': 'main', type: 'branch', 'snapshot-id': first.snapshotId! }
  await h.catalog.commit({ namespace: 'shop', name: 'orders' }, [], [back])
  return storage
}

function currentSnapshot(metadata: JsonObject): JsonObject {
  return (metadata['snapshots'] as readonly JsonObject[]).find((snapshot) => snapshot['snapshot-id'] === metadata['current-snapshot-id'])!
}

/** Every entry of the current snapshot's manifests as `status content path-or-referenced`, sorted. */
async function entriesOf(h: Harness): Promise<string[]> {
  const list = await decodeManifestList(await h.store.get(currentSnapshot(await h.metadata())['manifest-list'] as string))
  const lines: string[] = []
  for (const manifest of list) {
    for (const { status, file } of (await decodeManifest(await h.store.get(manifest.path))).entries) {
      lines.push(`${['existing', 'added', 'deleted'][status]} ${manifest.content} ${file.referencedDataFile ?? file.path}`)
    }
  }
  return lines.sort()
}

const lost = Array.from({ length: 6 }, () => 'before' as const)

test('a commit without files records the LSN of an empty table', async () => {
  const h = harness()
  const storage = await h.open()
  expect(storage.snapshot).toMatchObject({ snapshotId: null, committedLsn: null, files: [], vectors: [] })
  const snapshot = await storage.commit({ ...NOTHING, lsn: 100n })
  expect(snapshot).toMatchObject({ committedLsn: 100n, files: [] })
  expect((await h.open()).snapshot).toEqual(snapshot)
  expect(await h.metadata()).toMatchObject({ 'next-row-id': 0, properties: { 'moonlink.committed-lsn': '0/64' } })
})

test('files get consecutive row ids, which stay when manifests are written again', async () => {
  const h = harness()
  const storage = await h.open({ manifestLimits: { mergeFrom: 2, smallBytes: 1 << 20, targetBytes: 1 << 20 } })
  for (const count of [10, 5, 7, 3]) await append(storage, count, 1n)
  const files = storage.snapshot.files
  expect(new Set(files.map((file) => file.recordCount))).toEqual(new Set([10, 5, 7, 3]))
  const ranges = files.map((file) => [file.firstRowId, file.firstRowId + file.recordCount] as const).sort((a, b) => a[0] - b[0])
  for (let index = 1; index < ranges.length; index++) expect(ranges[index][0]).toBeGreaterThanOrEqual(ranges[index - 1][1])
  const reopened = (await h.open()).snapshot
  expect(new Set(reopened.files)).toEqual(new Set(files))
  expect((await h.metadata())['next-row-id']).toBeGreaterThanOrEqual(ranges.at(-1)![1])
})

test('a new vector replaces the old one of its file in the same commit', async () => {
  const h = harness()
  const storage = await h.open()
  const { files } = await append(storage, 100, 1n, { addFiles: [await storage.writeFile(rowsOf(50)), await storage.writeFile(rowsOf(60))] })
  const [a, b] = files as [DataFile, DataFile]
  await storage.commit({ ...NOTHING, vectors: [vectorOf(a, [1]), vectorOf(b, [2])], lsn: 2n })
  const snapshot = await storage.commit({ ...NOTHING, vectors: [vectorOf(a, [1, 4])], lsn: 3n })
  expect(new Map(snapshot.vectors.map((vector) => [vector.dataFile, positionsOf(vector.bitmap)]))).toEqual(
    new Map([
      [a.path, [1, 4]],
      [b.path, [2]],
    ]),
  )
  expect(await entriesOf(h)).toEqual(
    [
      `added data ${a.path}`,
      `added data ${b.path}`,
      `added deletes ${a.path}`,
      `deleted deletes ${a.path}`,
      `existing deletes ${b.path}`,
    ].sort(),
  )
  expect(currentSnapshot(await h.metadata())['summary']).toMatchObject({
    operation: 'delete',
    'added-dvs': '1',
    'removed-dvs': '1',
    'total-delete-files': '2',
    'total-position-deletes': '3',
    'total-records': '110',
    'moonlink.lsn': '0/3',
  })
  expect((await h.open()).snapshot).toEqual(snapshot)
})

test('removing a file removes its vector, and the summary says replace', async () => {
  const h = harness()
  const storage = await h.open()
  const { files } = await append(storage, 50, 1n)
  const old = files[0]
  await storage.commit({ ...NOTHING, vectors: [vectorOf(old, [0, 1])], lsn: 2n })
  const compacted = await storage.writeFile(rowsOf(48))
  const vectors = [vectorOf(compacted, [5])]
  const snapshot = await storage.commit({ ...NOTHING, kind: 'replace', addFiles: [compacted], removeFiles: [old.path], vectors, lsn: 3n })
  expect(snapshot.files.map((file) => file.path)).toEqual([compacted.path])
  expect(snapshot.vectors.map((vector) => vector.dataFile)).toEqual([compacted.path])
  expect(await entriesOf(h)).toEqual(
    [`added data ${compacted.path}`, `deleted data ${old.path}`, `added deletes ${compacted.path}`, `deleted deletes ${old.path}`].sort(),
  )
  expect(currentSnapshot(await h.metadata())['summary']).toMatchObject({
    operation: 'replace',
    'deleted-records': '50',
    'added-records': '48',
  })
  expect((await h.open()).snapshot).toEqual(snapshot)
})

test('an unknown outcome is settled by looking for the snapshot', async () => {
  for (const fault of ['before', 'after'] as const) {
    const h = harness()
    const storage = await h.open()
    await append(storage, 10, 1n)
    h.catalog.failNext.push(fault)
    const snapshot = await append(storage, 20, 2n)
    expect(snapshot).toMatchObject({ committedLsn: 2n })
    expect(new Set(snapshot.files.map((file) => file.recordCount))).toEqual(new Set([10, 20]))
    expect((await h.metadata())['snapshots']).toHaveLength(2)
    expect((await h.open()).snapshot).toEqual(snapshot)
  }
})

test('a commit given up as unknown that landed is not committed twice, and a different one does not build on it unseen', async () => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 10, 1n)
  const commit = { ...NOTHING, addFiles: [await storage.writeFile(rowsOf(5))], lsn: 2n }
  h.catalog.failNext.push('before', 'before', 'before', 'before', 'before', 'after')
  await expect(storage.commit(commit)).rejects.toMatchObject({ kind: 'retry' })
  await expect(append(storage, 5, 3n)).rejects.toMatchObject({ kind: 'conflict', code: 'EARLIER_COMMIT_LANDED' })
  expect(storage.snapshot).toMatchObject({ committedLsn: 2n, files: [{ recordCount: 5 }, { recordCount: 10 }] })
  expect((await append(storage, 3, 3n)).files).toHaveLength(3)
  expect((await h.open()).snapshot).toMatchObject({ committedLsn: 3n })
})

test('a commit is planned again where another engine left rows and files as they were', async () => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 10, 1n)
  const foreign = await h.openForeign()
  h.catalog.interfere = async () => foreign.commit({ ...NOTHING, kind: 'replace', lsn: 99n })
  const snapshot = await append(storage, 20, 2n, {})
  expect(snapshot.files.map((file) => file.recordCount).sort((a, b) => a - b)).toEqual([10, 20])
  expect(snapshot.committedLsn).toBe(2n)
  expect((await h.open()).snapshot).toEqual(snapshot)
})

test('a commit fails where another engine appended rows', async () => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 10, 1n)
  const foreign = await h.openForeign()
  h.catalog.interfere = async () => append(foreign, 1000, 99n)
  await expect(append(storage, 20, 2n, {})).rejects.toMatchObject({ kind: 'conflict', code: 'ROWS_CHANGED' })
})

describe('who takes a table over whose rows others have changed', () => {
  const whenChanged = (what: string) => ({ changed: what })
  const takeOver = (h: Harness) => h.open({ takesOver: true, whenChanged })

  test('has it said from that on, until the next commit, and shows them at no LSN', async () => {
    const h = harness()
    await append(await h.open(), 10, 1n)
    await append(await h.openForeign(), 1000, 99n)
    for (let attempt = 0; attempt < 2; attempt++) {
      const { snapshot } = await takeOver(h)
      expect(snapshot).toMatchObject({ committedLsn: 1n, exactFromLsn: 2n, properties: { changed: expect.stringContaining('append') } })
    }
    const storage = await takeOver(h)
    expect(storage.retained()).toMatchObject([{ lsn: 1n, throughLsn: 1n }])
    expect(await storage.commit({ ...NOTHING, lsn: 2n, properties: { changed: '' } })).toMatchObject({ committedLsn: 2n, exactFromLsn: 2n })
    expect((await takeOver(h)).snapshot).toMatchObject({ committedLsn: 2n, exactFromLsn: 2n, properties: { changed: '' } })
  })

  test('has it said where it was rolled back', async () => {
    const h = harness()
    await rolledBack(h)
    expect((await takeOver(h)).snapshot).toMatchObject({
      committedLsn: 1n,
      exactFromLsn: 2n,
      properties: { changed: expect.stringContaining('rolled back') },
    })
  })

  test('goes on with what a compaction has made of them', async () => {
    const h = harness()
    const { files } = await append(await h.open(), 10, 1n)
    const foreign = await h.openForeign()
    const addFiles = [await foreign.writeFile(rowsOf(10))]
    await foreign.commit({ ...NOTHING, kind: 'replace', addFiles, removeFiles: [files[0].path], lsn: 99n })
    const { snapshot } = await takeOver(h)
    expect(snapshot).toMatchObject({ committedLsn: 1n, exactFromLsn: 1n, files: [{ path: addFiles[0].path }] })
    expect(snapshot.properties['changed']).toBeUndefined()
  })
})

test('a commit fails, naming the file, where another engine changed our files', async () => {
  const h = harness()
  const storage = await h.open()
  const { files } = await append(storage, 10, 1n)
  const deletes = await h.openForeign()
  h.catalog.interfere = async () => deletes.commit({ ...NOTHING, vectors: [vectorOf(files[0], [3])], lsn: 9n })
  await expect(append(storage, 20, 2n)).rejects.toMatchObject({
    kind: 'conflict',
    code: 'FILE_CHANGED',
    message: expect.stringContaining(files[0].path),
  })

  const again = await h.open()
  const rewrites = await h.openForeign()
  const replacement = await rewrites.writeFile(rowsOf(9))
  h.catalog.interfere = async () =>
    rewrites.commit({ ...NOTHING, kind: 'replace', addFiles: [replacement], removeFiles: [files[0].path], lsn: 9n })
  await expect(append(again, 20, 2n)).rejects.toMatchObject({ kind: 'conflict', code: 'FILE_REMOVED' })
})

test('a second mirror of the same table is fenced off', async () => {
  const h = harness()
  const one = await h.open()
  const two = await h.open()
  await append(one, 10, 1n)
  await expect(append(two, 10, 1n)).rejects.toMatchObject({ kind: 'fenced', code: 'OTHER_MIRROR' })
})

test('a commit that was given up as unknown and lands later is the one that is tried again', async () => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 10, 1n)
  const commit = { ...NOTHING, addFiles: [await storage.writeFile(rowsOf(5))], lsn: 2n }
  // Every answer is lost, and the last request is still on its way when the caller gives up.
  h.catalog.failNext.push('before', 'before', 'before', 'before', 'before', 'late')
  await expect(storage.commit(commit)).rejects.toMatchObject({ kind: 'retry' })
  await h.catalog.deliverLate()
  expect((await storage.commit(commit)).files).toHaveLength(2)
  expect((await append(storage, 5, 3n)).files).toHaveLength(3)
})

describe('a commit of unknown outcome', () => {
  test('is kept out for good by the commit of something else that follows', async () => {
    const h = harness()
    const storage = await h.open()
    const { files } = await append(storage, 10, 1n)
    const compacted = await storage.writeFile(rowsOf(9))
    h.catalog.failNext.push(...lost.slice(1), 'late')
    const rewrite = { ...NOTHING, kind: 'replace', addFiles: [compacted], removeFiles: [files[0].path], lsn: 1n } as const
    await expect(storage.commit(rewrite)).rejects.toMatchObject({ kind: 'retry' })
    expect(await append(storage, 5, 2n)).toMatchObject({ committedLsn: 2n, files: { length: 2 } })
    await expect(h.catalog.deliverLate()).rejects.toMatchObject({ kind: 'conflict' })
    expect(await append(storage, 5, 3n)).toMatchObject({ committedLsn: 3n, files: { length: 3 } })
  })

  test('is settled: it is in the table, or can be no more', async () => {
    for (const lands of [true, false]) {
      const h = harness()
      const storage = await h.open()
      await append(storage, 10, 1n)
      h.catalog.failNext.push(...lost.slice(1), lands ? 'after' : 'late')
      await expect(append(storage, 5, 2n)).rejects.toMatchObject({ kind: 'retry' })
      expect(await storage.settle()).toBe(lands)
      expect(storage.snapshot).toMatchObject({
        committedLsn: lands ? 2n : 1n,
        exactFromLsn: lands ? 2n : 1n,
        files: { length: lands ? 2 : 1 },
      })
      if (!lands) await expect(h.catalog.deliverLate()).rejects.toMatchObject({ kind: 'conflict' })
      expect(await storage.settle()).toBe(false)
      expect((await append(storage, 5, 3n)).files).toHaveLength(lands ? 3 : 2)
    }
  })

  test('that lands while it is being kept out is found', async () => {
    const h = harness()
    const storage = await h.open()
    await append(storage, 10, 1n)
    h.catalog.failNext.push(...lost.slice(1), 'late')
    await expect(append(storage, 5, 2n)).rejects.toMatchObject({ kind: 'retry' })
    h.catalog.interfere = () => h.catalog.deliverLate()
    expect(await storage.settle()).toBe(true)
    expect(storage.snapshot).toMatchObject({ committedLsn: 2n, files: { length: 2 } })
  })

  test('may be one that keeps another out: it does no harm whenever it lands', async () => {
    const h = harness()
    const storage = await h.open()
    await append(storage, 10, 1n)
    h.catalog.failNext.push(...lost)
    await expect(append(storage, 5, 2n)).rejects.toMatchObject({ kind: 'retry' })
    h.catalog.failNext.push(...lost.slice(1), 'late')
    await expect(storage.settle()).rejects.toMatchObject({ kind: 'retry' })
    await h.catalog.deliverLate()
    expect(await append(storage, 5, 3n)).toMatchObject({ committedLsn: 3n, files: { length: 2 } })
  })
})

describe('taking a table over', () => {
  test('whoever had it can commit no more, not even what is under way', async () => {
    const h = harness()
    const old = await h.open()
    await append(old, 10, 1n)
    let taken: TableStorage | null = null
    // The owner before has read the table and written its files; its commit comes after ours.
    h.catalog.interfere = async () => {
      taken = await h.open({ takesOver: true })
    }
    const late = await append(old, 10, 2n).catch((error: unknown) => error)
    expect(late).toMatchObject({ kind: 'fenced', code: 'OTHER_MIRROR', message: expect.stringContaining('has taken over') as string })
    expect(taken!.snapshot.committedLsn).toBe(1n)
    expect((await append(taken!, 20, 2n)).files).toHaveLength(2)
    await expect(append(old, 10, 3n)).rejects.toMatchObject({ kind: 'fenced' })
  })

  test('whoever had it sets no properties any more, not even by a request under way; others may append meanwhile', async () => {
    const h = harness()
    const old = await h.open()
    await append(old, 10, 1n)
    const foreign = await h.openForeign()
    h.catalog.interfere = async () => append(foreign, 3, 2n)
    expect((await old.setProperties({ a: '1' })).properties['a']).toBe('1')
    let taken: TableStorage | null = null
    h.catalog.interfere = async () => {
      taken = await h.open({ takesOver: true })
    }
    await expect(old.setProperties({ a: '2' })).rejects.toMatchObject({ kind: 'fenced', code: 'OTHER_MIRROR' })
    await expect(old.setProperties({ a: '3' })).rejects.toMatchObject({ kind: 'fenced', code: 'OTHER_MIRROR' })
    expect((await taken!.setProperties({ b: '4' })).properties).toMatchObject({ a: '1', b: '4' })
  })

  test('whoever had it is told so, also where its last snapshot is expired meanwhile', async () => {
    const h = harness()
    const old = await h.open()
    await append(old, 10, 1n)
    h.catalog.failNext.push(...lost)
    await expect(append(old, 10, 2n)).rejects.toMatchObject({ kind: 'retry' })
    const taken = await h.open({ takesOver: true })
    await append(taken, 20, 2n)
    await taken.expire({ minSnapshots: 1, maxAgeMs: 0, keepPaths: new Set() })
    await expect(old.settle()).rejects.toMatchObject({ kind: 'fenced', code: 'OTHER_MIRROR' })
    await expect(old.setProperties({ a: '1' })).rejects.toMatchObject({ kind: 'fenced', code: 'OTHER_MIRROR' })
  })

  test('what the owner before commits just in time is part of the table', async () => {
    const h = harness()
    const old = await h.open()
    await append(old, 10, 1n)
    h.catalog.interfere = async () => append(old, 20, 2n)
    const taken = await h.open({ takesOver: true })
    expect(taken.snapshot).toMatchObject({ committedLsn: 2n, exactFromLsn: 2n })
    expect(taken.snapshot.files).toHaveLength(2)
    expect((await append(taken, 5, 3n)).files).toHaveLength(3)
  })

  test('its last commit goes on to say of which timeline its LSN is, until another does', async () => {
    const h = harness()
    const timelines: (TimelineLsn | null)[] = []
    const on = (timeline: number, lsn: bigint) => ({ timeline, lsn })
    let timeline: number | null = null
    const sourceTimeline = () => timeline
    const open = () => h.open({ takesOver: true, sourceTimeline })
    const first = await open()
    timelines.push((await append(first, 10, 1n)).sourceTimeline)
    timeline = 2
    timelines.push((await append(first, 10, 2n)).sourceTimeline)
    // Whoever opens it has not looked yet whether the source's timeline of now has what is there.
    timeline = 3
    const second = await open()
    timelines.push(second.snapshot.sourceTimeline, (await h.open()).snapshot.sourceTimeline)
    timeline = null
    timelines.push((await append(second, 10, 3n)).sourceTimeline)
    timeline = 3
    timelines.push((await append(second, 10, 4n)).sourceTimeline, (await h.open()).snapshot.sourceTimeline)
    // While it is not known, nothing is said of what is new.
    expect(timelines).toEqual([null, on(2, 2n), on(2, 2n), on(2, 2n), on(2, 2n), on(3, 4n), on(3, 4n)])
  })

  test('an answer that is lost does not keep it from being taken over, once', async () => {
    const h = harness()
    await append(await h.open(), 10, 1n)
    h.catalog.failNext.push('after')
    const taken = await h.open({ takesOver: true })
    h.catalog.failNext.push('before')
    const again = await h.open({ takesOver: true })
    await expect(append(taken, 5, 2n)).rejects.toMatchObject({ kind: 'fenced' })
    expect((await append(again, 5, 2n)).files).toHaveLength(2)
  })

  test('a table whose copy never ended, too: what its owner was about to commit does not land', async () => {
    const h = harness()
    const fresh = await h.open({ takesOver: true })
    expect(fresh.snapshot).toMatchObject({ snapshotId: null, committedLsn: null })
    const taken = await h.open({ takesOver: true })
    expect(taken.snapshot).toMatchObject({ committedLsn: null, files: [] })
    await expect(append(fresh, 10, 1n)).rejects.toMatchObject({ kind: 'fenced' })
    expect((await append(taken, 10, 1n)).committedLsn).toBe(1n)
  })
})

test('a commit that may have happened and finds the store full stays in doubt, and is recognised', async () => {
  const h = harness()
  const storage = await h.open()
  const addFiles = [await storage.writeFile(rowsOf(3))]
  h.catalog.failNext.push('late')
  const put = h.store.put.bind(h.store)
  h.clock.sleep = async () => {
    h.store.put = () => Promise.reject(new MoonlinkError('invalid', 'STORE_FULL', 'no room'))
  }
  await expect(storage.commit({ ...NOTHING, addFiles, lsn: 1n })).rejects.toMatchObject({ kind: 'retry', code: 'COMMIT_UNKNOWN' })
  h.store.put = put
  await h.catalog.deliverLate()
  const snapshot = await storage.commit({ ...NOTHING, addFiles, lsn: 1n })
  expect(snapshot.files).toHaveLength(1)
  expect((await h.metadata())['snapshots']).toHaveLength(1)
})

test('a table dropped or created anew is noticed', async () => {
  const h = harness()
  const storage = await h.open()
  await h.catalog.drop({ namespace: 'shop', name: 'orders' }, true)
  await expect(storage.commit({ ...NOTHING, lsn: 1n })).rejects.toMatchObject({ code: 'TABLE_GONE' })
  await h.open()
  await expect(storage.commit({ ...NOTHING, lsn: 1n })).rejects.toMatchObject({ code: 'TABLE_REPLACED' })
})

test('after a rollback by somebody else the ancestors tell the committed LSN, not the property', async () => {
  const h = harness()
  const storage = await rolledBack(h)
  expect((await h.open()).snapshot.committedLsn).toBe(1n)
  await expect(append(storage, 10, 3n)).rejects.toMatchObject({ code: 'ROLLED_BACK' })
})

test('time stamps never run backwards, whatever the clock does', async () => {
  const h = harness()
  const storage = await h.open()
  for (const step of [0, 5_000, -3_600_000, 10]) {
    h.clock.ms += step
    await append(storage, 1, 1n)
  }
  const metadata = await h.metadata()
  for (const key of ['snapshots', 'snapshot-log', 'metadata-log']) {
    const times = (metadata[key] as readonly JsonObject[]).map((item) => item['timestamp-ms'] as number)
    expect(times).toEqual([...times].sort((a, b) => a - b))
  }
})

test('setProperties and commit properties land in the table', async () => {
  const h = harness()
  const storage = await h.open()
  expect((await storage.setProperties({ a: '1' })).properties['a']).toBe('1')
  const snapshot = await storage.commit({ ...NOTHING, lsn: 1n, properties: { b: '2' } })
  expect(snapshot.properties).toMatchObject({ a: '1', b: '2' })
})

test('a schema that differs from the table is refused, naming the column', async () => {
  const h = harness()
  await h.open()
  const schema = { fields: [{ id: 1, name: 'id', type: { kind: 'int' as const }, required: true }], identifierFieldIds: [] }
  await expect(h.open({ schema })).rejects.toMatchObject({ code: 'SCHEMA_MISMATCH', message: expect.stringContaining('"id"') })
})
