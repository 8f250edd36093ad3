import { MoonlinkError, silentLogger, type JsonObject, type ObjectStore } from '@moonlink/core'
import type { MemoryObjectStore } from '@moonlink/object-store'
import { expect, test, vi } from 'vitest'
import { roaringOf } from '../puffin/roaring.test.support.ts'
import { harness, IDENTIFIER, rowsOf, WAREHOUSE } from './harness.test.support.ts'
import { reachableFiles } from './reachable-files.ts'
import { removeTableFiles } from './remove-table-files.ts'

const going = async () => undefined
/** Of another table, whose location is below ours. */
const OTHERS = [`${WAREHOUSE}/shop/orders/data/0.parquet`, `${WAREHOUSE}/shop/orders/data/metadata/v1.metadata.json`]

/** A table of several snapshots, with all kinds of files. */
async function tableOf(properties: Readonly<Record<string, string>> = {}) {
  const h = harness()
  const storage = await h.open({ properties })
  const committed: string[] = []
  for (let lsn = 1n; lsn <= 4n; lsn++) {
    const file = await storage.writeFile(rowsOf(4))
    const vectors = committed.slice(-1).map((dataFile) => ({ dataFile, bitmap: roaringOf([1]), cardinality: 1 }))
    h.clock.ms += 1000
    await storage.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors, lsn })
    committed.push(file.path)
  }
  await storage.commit({ kind: 'replace', addFiles: [], removeFiles: [committed[0]], vectors: [], lsn: 4n })
  const { metadata, metadataLocation } = (await h.catalog.load(IDENTIFIER))!
  const files = await reachableFiles(h.store, { metadata, metadataLocation, config: {} })
  for (const uri of OTHERS) await h.store.put(uri, Uint8Array.of(1))
  const table = { metadataLocation, uuid: metadata['table-uuid'] as string }
  const left = async () => (await h.objects()).filter((uri) => files.has(uri))
  return { ...h, table, files, left, metadata }
}

test('what a table’s metadata names is removed, in as many attempts as it takes, and nothing else', async () => {
  const { files, left, objects, store, table } = await tableOf()
  const before = (await objects()).length
  expect(files.size).toBeGreaterThan(15)
  let attempts = 0
  for (let isCut = true; isCut; attempts++) {
    let removals = 0
    const most = attempts
    const beforeEach = async () => {
      if (++removals > most) throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'away')
    }
    isCut = await removeTableFiles(table, { store, logger: silentLogger, beforeEach }).then(
      () => false,
      () => true,
    )
  }
  expect(attempts).toBeGreaterThan(5)
  expect(await left()).toEqual([])
  expect(await objects()).toEqual(expect.arrayContaining(OTHERS))
  expect(await objects()).toHaveLength(before - files.size)
  await removeTableFiles(table, { store, logger: silentLogger, beforeEach: going })
})

test('after a removal failed none goes on, and none is left under way', async () => {
  const { left, store, table } = await tableOf()
  const remove = store.delete.bind(store)
  let calls = 0
  store.delete = async (uri) => {
    if (++calls === 3) throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'away')
    await remove(uri)
  }
  await expect(removeTableFiles(table, { store, logger: silentLogger, beforeEach: going })).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
  })
  const then = await left()
  await new Promise(setImmediate)
  expect(await left()).toEqual(then)
})

test('files of another table, or of one that others may share files with, stay', async () => {
  const another = await tableOf()
  const uuid = '00000000-0000-0000-0000-000000000000'
  await removeTableFiles({ ...another.table, uuid }, { store: another.store, logger: silentLogger, beforeEach: going })
  expect(await another.left()).toHaveLength(another.files.size)
  const shared = await tableOf({ 'gc.enabled': 'false' })
  await removeTableFiles(shared.table, { store: shared.store, logger: silentLogger, beforeEach: going })
  expect(await shared.left()).toHaveLength(shared.files.size)
})

test('a damaged file goes, and what only it names stays and is said', async () => {
  const { left, metadata, store, table } = await tableOf()
  const [{ 'manifest-list': list }] = metadata['snapshots'] as readonly JsonObject[]
  const damaged = [list as string, (await left()).find((uri) => uri.endsWith('.avro') && uri !== list)!]
  for (const uri of damaged) await (store as ObjectStore & MemoryObjectStore).put(uri, Uint8Array.of(1, 2, 3))
  const warn = vi.fn<() => void>()
  await removeTableFiles(table, { store, logger: { ...silentLogger, warn }, beforeEach: going })
  expect(warn).toHaveBeenCalledTimes(2)
  expect((await left()).filter((uri) => /\.(avro|json)$/.test(uri))).toEqual([])
})
