import type { JsonObject } from '@moonlink/core'
import { expect, test } from 'vitest'
import { encodeFileStats, NO_STATS } from './file-stats.ts'
import { decodeManifest, encodeManifest, type ContentFile, type ManifestEntry } from './manifest.ts'
import { decodeManifestList, encodeManifestList, type ManifestFile } from './manifest-list.ts'
import { readContainer } from './container.ts'

const SYNC = new Uint8Array(16).fill(3)
const SCHEMA: JsonObject = { type: 'struct', 'schema-id': 4, fields: [{ id: 1, name: 'id', required: true, type: 'long' }] }
const BIG = 9_100_000_000_000_000_001n

const file: ContentFile = {
  content: 0,
  path: 'file:///t/data/a.parquet',
  format: 'PARQUET',
  recordCount: 10,
  sizeBytes: 6_000_000_000,
  stats: encodeFileStats({
    columnSizes: { 1: 80 },
    valueCounts: { 1: 10 },
    nullCounts: { 1: 0 },
    nanCounts: {},
    lowerBounds: { 1: new Uint8Array(8) },
    upperBounds: { 1: new Uint8Array(8).fill(9) },
    splitOffsets: [4, 1000],
  }),
  firstRowId: null,
  referencedDataFile: null,
  contentOffset: null,
  contentSizeBytes: null,
}
const vector: ContentFile = {
  ...file,
  content: 1,
  path: 'file:///t/data/v.puffin',
  format: 'PUFFIN',
  stats: NO_STATS,
  referencedDataFile: file.path,
  contentOffset: 4,
  contentSizeBytes: 50,
}

test('entries read back as they were written, 64-bit snapshot ids too', async () => {
  const entries: ManifestEntry[] = [
    { status: 1, snapshotId: BIG, sequenceNumber: null, fileSequenceNumber: null, file },
    { status: 0, snapshotId: 5n, sequenceNumber: 2, fileSequenceNumber: 3, file: { ...file, firstRowId: 2 ** 40 } },
    { status: 2, snapshotId: BIG, sequenceNumber: 2, fileSequenceNumber: 2, file: vector },
  ]
  const bytes = await encodeManifest({ content: 'data', schema: SCHEMA, partitionSpecId: 0 }, entries, SYNC)
  expect(await decodeManifest(bytes)).toEqual({ content: 'data', entries })
})

test("a manifest's header says what the specification requires", async () => {
  const bytes = await encodeManifest({ content: 'deletes', schema: SCHEMA, partitionSpecId: 0 }, [], SYNC)
  const { metadata } = await readContainer(bytes, new Map())
  expect(metadata).toMatchObject({
    content: 'deletes',
    'format-version': '3',
    'schema-id': '4',
    'partition-spec': '[]',
    'partition-spec-id': '0',
  })
  for (const attribute of ['"field-id":145', '"element-id":133', '"field-id":126']) expect(metadata['avro.schema']).toContain(attribute)
  expect(metadata['iceberg.schema']).toContain('"key-id":126')
})

test('manifest lists read back', async () => {
  const manifests: ManifestFile[] = [
    {
      path: 'file:///t/metadata/m0.avro',
      length: 1234,
      partitionSpecId: 0,
      content: 'data',
      sequenceNumber: 7,
      minSequenceNumber: 2,
      addedSnapshotId: BIG,
      addedFilesCount: 1,
      existingFilesCount: 2,
      deletedFilesCount: 3,
      addedRowsCount: 10,
      existingRowsCount: 20,
      deletedRowsCount: 30,
      firstRowId: 2 ** 50,
    },
  ]
  manifests.push({ ...manifests[0], content: 'deletes', firstRowId: null })
  const header = { snapshotId: BIG, parentSnapshotId: null, sequenceNumber: 7, firstRowId: 2 ** 50 }
  const bytes = await encodeManifestList(header, manifests, SYNC)
  expect(await decodeManifestList(bytes)).toEqual(manifests)
  const { metadata } = await readContainer(bytes, new Map())
  expect(metadata).toMatchObject({
    'snapshot-id': String(BIG),
    'parent-snapshot-id': 'null',
    'sequence-number': '7',
    'first-row-id': String(2 ** 50),
  })
})
