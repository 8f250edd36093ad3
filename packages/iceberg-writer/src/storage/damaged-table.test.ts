import {
  isMoonlinkError,
  parseJsonLossless,
  stringifyJsonLossless,
  type JsonObject,
  type JsonValue,
  type TableStorage,
} from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { roaringOf } from '../puffin/roaring.test.support.ts'
import { harness, rowsOf, type Harness } from './harness.test.support.ts'

const METADATA = /\/v\d+\.metadata\.json$/

/** A table of three snapshots, with a vector, and the path of its newest metadata. */
async function written(): Promise<{ h: Harness; metadataPath: string; metadata: JsonValue }> {
  const h = harness()
  const storage = await h.open()
  const first = await storage.writeFile(rowsOf(20))
  const second = await storage.writeFile(rowsOf(9))
  await storage.commit({
    kind: 'append',
    addFiles: [first],
    removeFiles: [],
    vectors: [],
    lsn: 10n,
    firstChangeLsn: 5n,
    lastChangeLsn: 10n,
  })
  const vector = { dataFile: first.path, bitmap: roaringOf([3, 5]), cardinality: 2 }
  await storage.commit({ kind: 'append', addFiles: [second], removeFiles: [], vectors: [vector], lsn: 20n, lastChangeLsn: 18n })
  const { metadataLocation } = await storage.commit({ kind: 'append', addFiles: [], removeFiles: [], vectors: [], lsn: 30n })
  const metadata = parseJsonLossless(new TextDecoder().decode(await h.store.get(metadataLocation)))
  return { h, metadataPath: metadataLocation, metadata }
}

const original = await written()

/** A store of its own with the table's objects, one of them another. */
async function copyWith(path: string, bytes: Uint8Array): Promise<Harness> {
  const copy = harness()
  for (const uri of await original.h.objects()) await copy.store.put(uri, uri === path ? bytes : await original.h.store.get(uri))
  return copy
}

/** All that is made of a table that was opened. */
async function use(storage: TableStorage): Promise<void> {
  for (const { snapshotId } of storage.retained()) await storage.loadSnapshot(snapshotId)
  const file = await storage.writeFile(rowsOf(1))
  await storage.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors: [], lsn: 40n })
  await storage.expire({ minSnapshots: 1, maxAgeMs: 0, keepPaths: new Set() })
}

/** Null where it was refused. Others may have changed the table meanwhile, too, or so it may look. */
async function usedOrRefused(h: Harness, takesOver: boolean): Promise<true | null> {
  return readOrRefuse(async () => {
    try {
      await use(await h.open({ takesOver }))
    } catch (error) {
      if (isMoonlinkError(error, 'conflict') || isMoonlinkError(error, 'fenced')) return null
      throw error
    }
    return true
  })
}

test('what is damaged below can be used', async () => {
  for (const takesOver of [false, true]) {
    const h = await copyWith('', new Uint8Array(0))
    expect(await usedOrRefused(h, takesOver)).toBe(true)
  }
})

test('a catalog may lie about anything', async () => {
  let used = 0
  const lie = fc.constantFrom(...damagedJson(original.metadata))
  await fc.assert(
    fc.asyncProperty(lie, fc.boolean(), async ({ value }, takesOver) => {
      const h = await copyWith(original.metadataPath, new TextEncoder().encode(stringifyJsonLossless(value)))
      if (await usedOrRefused(h, takesOver)) used++
    }),
    fuzzing(250),
  )
  // Much of the metadata is for others to read.
  expect(used).toBeGreaterThan(10)
})

test('what is refused for its bytes is named', async () => {
  const paths = (await original.h.objects()).filter((uri) => !uri.endsWith('.parquet') && !uri.endsWith('.text'))
  const read = paths.filter((uri) => !METADATA.test(uri) || uri === original.metadataPath)
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...read), damages, async (path, what) => {
      const h = await copyWith(path, damaged(await original.h.store.get(path), what))
      try {
        await use(await h.open())
      } catch (error) {
        if (!isMoonlinkError(error)) throw error
        expect(['corrupt', 'invalid', 'conflict', 'fenced']).toContain(error.kind)
        // A commit takes metadata along into its next version.
        if (error.kind === 'corrupt') expect(error.message).toContain(METADATA.test(path) ? '.metadata.json' : path)
      }
    }),
    fuzzing(300),
  )
})

test('only files of the table are discarded, whatever a list says', async () => {
  const h = await copyWith('', new Uint8Array(0))
  const storage = await h.open()
  const { path } = await storage.writeFile(rowsOf(1))
  const others = [
    'file:///warehouse/shop/payments/data/a.parquet',
    `${path.replace(/[^/]*$/, '')}../../payments/data/a.parquet`,
    original.metadataPath,
  ]
  for (const other of others) await h.store.put(other, new Uint8Array(1))
  const before = await h.objects()
  await storage.discard([...others, path])
  expect(before.filter((uri) => uri !== path)).toEqual(await h.objects())
})

test('snapshots that are each other’s parents end', async () => {
  const metadata = original.metadata as JsonObject
  const snapshots = metadata['snapshots'] as readonly JsonObject[]
  const cyclic = { ...metadata, snapshots: snapshots.with(0, { ...snapshots[0], 'parent-snapshot-id': snapshots[2]['snapshot-id'] }) }
  const h = await copyWith(original.metadataPath, new TextEncoder().encode(stringifyJsonLossless(cyclic)))
  expect((await h.open()).retained()).toHaveLength(2)
})

test('metadata that does not say where its table is is refused before anything is written', async () => {
  const metadata = original.metadata as JsonObject
  const { location: _, ...rest } = metadata
  const h = await copyWith(original.metadataPath, new TextEncoder().encode(stringifyJsonLossless(rest)))
  await expect(h.open()).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining(original.metadataPath) as string })
})
