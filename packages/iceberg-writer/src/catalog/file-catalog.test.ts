import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseJsonLossless, type JsonObject, type ObjectStore } from '@moonlink/core'
import { LocalObjectStore, MemoryObjectStore, pathToFileUri } from '@moonlink/object-store'
import { describeCatalog } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { schemaToJson } from '../metadata/schema-json.ts'
import { directoryName, nameOfDirectory } from './directory-names.ts'
import { FileCatalog } from './file-catalog.ts'

const ORDERS = { namespace: 'shop', name: 'orders' }
const METADATA = 'file:///warehouse/shop/orders/metadata'
const SCHEMA = schemaToJson({ fields: [{ id: 1, name: 'id', type: { kind: 'long' }, required: true }], identifierFieldIds: [1] })
const touch = (value: string): JsonObject => ({ action: 'set-properties', updates: { touched: value } })

function setup(properties: Record<string, string> = {}) {
  const store = new MemoryObjectStore()
  const catalog = new FileCatalog({ store, warehouse: 'file:///warehouse/' })
  return { store, catalog, create: () => catalog.create(ORDERS, { schema: SCHEMA, properties }) }
}

async function texts(store: MemoryObjectStore): Promise<string[]> {
  const names: string[] = []
  for await (const { uri } of store.list(`${METADATA}/`)) names.push(uri.slice(METADATA.length + 1))
  return names
}

test('the layout is the one that other engines open by path', async () => {
  const { store, catalog, create } = setup()
  expect((await create()).metadataLocation).toBe(`${METADATA}/v1.metadata.json`)
  expect((await catalog.commit(ORDERS, [], [touch('a')])).metadataLocation).toBe(`${METADATA}/v2.metadata.json`)
  expect(await texts(store)).toEqual(['v1.metadata.json', 'v2.metadata.json', 'version-hint.text'])
  expect(new TextDecoder().decode(await store.get(`${METADATA}/version-hint.text`))).toBe('2')
  const metadata = parseJsonLossless(new TextDecoder().decode(await store.get(`${METADATA}/v1.metadata.json`))) as JsonObject
  expect(metadata).toMatchObject({
    'format-version': 3,
    location: 'file:///warehouse/shop/orders',
    'current-snapshot-id': null,
    'next-row-id': 0,
  })
})

test('a stale, missing or broken hint does not hide newer versions', async () => {
  const { store, catalog, create } = setup()
  await create()
  for (const value of ['a', 'b', 'c']) await catalog.commit(ORDERS, [], [touch(value)])
  const newest = `${METADATA}/v4.metadata.json`
  const hint = (text: string) => store.put(`${METADATA}/version-hint.text`, new TextEncoder().encode(text))
  for (const text of ['1', '3', 'rubbish', '', '99']) {
    await hint(text)
    expect((await catalog.load(ORDERS))!.metadataLocation).toBe(newest)
  }
  await store.delete(`${METADATA}/version-hint.text`)
  expect((await catalog.load(ORDERS))!.metadataLocation).toBe(newest)
  expect((await catalog.commit(ORDERS, [], [touch('d')])).metadataLocation).toBe(`${METADATA}/v5.metadata.json`)
})

test('of many writers at once each version has one winner', async () => {
  const { store, catalog, create } = setup()
  await create()
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, index) =>
      new FileCatalog({ store, warehouse: 'file:///warehouse' }).commit(ORDERS, [], [touch(String(index))]),
    ),
  )
  const won = outcomes.filter((outcome) => outcome.status === 'fulfilled').map((outcome) => outcome.value.metadataLocation)
  expect(new Set(won).size).toBe(won.length)
  expect(won.length).toBeGreaterThanOrEqual(1)
  for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'COMMIT_CONFLICT' })
  expect((await catalog.load(ORDERS))!.metadataLocation).toBe(`${METADATA}/v${won.length + 1}.metadata.json`)
})

test('old metadata files go as the properties say, and the log names those that stay', async () => {
  const { store, catalog, create } = setup({
    'write.metadata.previous-versions-max': '2',
    'write.metadata.delete-after-commit.enabled': 'true',
  })
  await create()
  for (let index = 0; index < 6; index++) await catalog.commit(ORDERS, [], [touch(String(index))])
  expect(await texts(store)).toEqual(['v5.metadata.json', 'v6.metadata.json', 'v7.metadata.json', 'version-hint.text'])
  const log = (await catalog.load(ORDERS))!.metadata['metadata-log'] as readonly JsonObject[]
  expect(log.map((entry) => entry['metadata-file'])).toEqual([`${METADATA}/v5.metadata.json`, `${METADATA}/v6.metadata.json`])
  await expect(create()).rejects.toMatchObject({ code: 'TABLE_EXISTS' })
})

test('a writer that was away while others committed and cleaned up takes back what it wrote', async () => {
  const { store, create } = setup({
    'write.metadata.delete-after-commit.enabled': 'true',
    'write.metadata.previous-versions-max': '2',
  })
  await create()
  const other = new FileCatalog({ store, warehouse: 'file:///warehouse/' })
  let isAway = true
  const slow: ObjectStore = {
    get: (uri, range) => store.get(uri, range),
    head: (uri) => store.head(uri),
    list: (prefix) => store.list(prefix),
    put: (uri, bytes) => store.put(uri, bytes),
    delete: (uri) => store.delete(uri),
    putIfAbsent: async (uri, bytes) => {
      if (isAway) for (const value of ['a', 'b', 'c', 'd']) await other.commit(ORDERS, [], [touch(value)])
      isAway = false
      return store.putIfAbsent(uri, bytes)
    },
  }
  const catalog = new FileCatalog({ store: slow, warehouse: 'file:///warehouse/' })
  await expect(catalog.commit(ORDERS, [], [touch('late')])).rejects.toMatchObject({ kind: 'conflict', code: 'COMMIT_CONFLICT' })
  expect(await texts(store)).toEqual(['v3.metadata.json', 'v4.metadata.json', 'v5.metadata.json', 'version-hint.text'])
  expect(new TextDecoder().decode(await store.get(`${METADATA}/version-hint.text`))).toBe('5')
  expect((await catalog.commit(ORDERS, [], [touch('now')])).metadataLocation).toBe(`${METADATA}/v6.metadata.json`)
})

test('without the property nothing is deleted', async () => {
  const { store, catalog, create } = setup({ 'write.metadata.previous-versions-max': '1' })
  await create()
  for (let index = 0; index < 3; index++) await catalog.commit(ORDERS, [], [touch(String(index))])
  expect(await texts(store)).toHaveLength(5)
})

test('a dropped table is gone from the catalog; without purge its data stays and its metadata can be registered again', async () => {
  const { store, catalog, create } = setup()
  const { metadata } = await create()
  await store.put('file:///warehouse/shop/orders/data/a.parquet', new Uint8Array(1))
  await catalog.drop(ORDERS, false)
  expect(await catalog.load(ORDERS)).toBeNull()
  expect(await catalog.list('shop')).toEqual([])
  const [kept] = await texts(store)
  expect(parseJsonLossless(new TextDecoder().decode(await store.get(`${METADATA}/${kept}`)))).toEqual(metadata)
  expect(await store.head('file:///warehouse/shop/orders/data/a.parquet')).not.toBeNull()
  await create()
  await catalog.drop(ORDERS, true)
  await catalog.drop(ORDERS, true)
  expect(await texts(store)).toEqual([])
  expect(await store.head('file:///warehouse/shop/orders/data/a.parquet')).toBeNull()
})

test('listing tells names back as they were, whatever is in them', async () => {
  const { catalog } = setup()
  const names = ['orders', 'Bestellungen ä', 'a/b', '..', 'x%20y', 'q?#', ' lead', 'dot.', '~', '日本']
  for (const name of names) await catalog.create({ namespace: 'n/s', name }, { schema: SCHEMA, properties: {} })
  expect((await catalog.list('n/s')).map((table) => table.name).sort()).toEqual([...names].sort())
  expect(await catalog.list('n')).toEqual([])
  for (const name of names)
    expect((await catalog.load({ namespace: 'n/s', name }))!.metadata['location']).toMatch(/^file:\/\/\/warehouse\/n~002f;s\/[^/%?#]+$/)
})

test('directory names are one to one', () => {
  for (const name of ['a', '~', '~007e;', 'a b', '😀', '.', 'a.b']) expect(nameOfDirectory(directoryName(name))).toBe(name)
})

describeCatalog('FileCatalog in memory', async () => ({ catalog: setup().catalog, namespacePrefix: 'suite' }))

describeCatalog('FileCatalog on local disk', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-catalog-'))
  const catalog = new FileCatalog({ store: new LocalObjectStore(), warehouse: pathToFileUri(directory) })
  return { catalog, namespacePrefix: 'suite', close: async () => rmSync(directory, { recursive: true, force: true }) }
})

test('old metadata that could not be removed, or was left by a crash, goes with the first commit of the next process', async () => {
  const properties = { 'write.metadata.delete-after-commit.enabled': 'true', 'write.metadata.previous-versions-max': '2' }
  const { store, catalog, create } = setup(properties)
  await create()
  const remove = store.delete.bind(store)
  store.delete = async () => {
    throw new Error('the store is away')
  }
  for (const value of ['a', 'b', 'c', 'd']) await catalog.commit(ORDERS, [], [touch(value)])
  expect((await texts(store)).length).toBe(6)
  store.delete = remove
  await new FileCatalog({ store, warehouse: 'file:///warehouse/' }).commit(ORDERS, [], [touch('e')])
  expect(await texts(store)).toEqual(['v4.metadata.json', 'v5.metadata.json', 'v6.metadata.json', 'version-hint.text'])
})

test('a table that was purged only in part is none', async () => {
  const { store, catalog, create } = setup()
  await create()
  await store.put('file:///warehouse/shop/orders/data/a.parquet', Uint8Array.of(1))
  const remove = store.delete.bind(store)
  store.delete = async (uri) => {
    if (uri.endsWith('.parquet')) throw new Error('the store is away')
    return remove(uri)
  }
  await expect(catalog.drop(ORDERS, true)).rejects.toThrow('away')
  expect(await catalog.load(ORDERS)).toBeNull()
})
