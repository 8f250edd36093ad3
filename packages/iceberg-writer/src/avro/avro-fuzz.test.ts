import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { JsonObject } from '@moonlink/core'
import { damaged, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { AvroReader } from './avro-reader.ts'
import { AvroWriter } from './avro-writer.ts'
import { readContainer } from './container.ts'
import { NO_STATS } from './file-stats.ts'
import { decodeManifest, encodeManifest, type ManifestEntry } from './manifest.ts'
import { decodeManifestList, encodeManifestList, type ManifestFile } from './manifest-list.ts'

const SYNC = new Uint8Array(16).fill(7)
const SCHEMA: JsonObject = { type: 'struct', 'schema-id': 0, fields: [{ id: 1, name: 'id', required: true, type: 'long' }] }

const entry: ManifestEntry = {
  status: 1,
  snapshotId: 3n,
  sequenceNumber: null,
  fileSequenceNumber: null,
  file: {
    content: 1,
    path: 'file:///warehouse/data/a.puffin',
    format: 'PUFFIN',
    recordCount: 7,
    sizeBytes: 99,
    stats: NO_STATS,
    firstRowId: null,
    referencedDataFile: 'file:///warehouse/data/a.parquet',
    contentOffset: 4,
    contentSizeBytes: 60,
  },
}

const listed: ManifestFile = {
  path: 'file:///warehouse/metadata/m.avro',
  length: 800,
  partitionSpecId: 0,
  content: 'data',
  sequenceNumber: 4,
  minSequenceNumber: 2,
  addedSnapshotId: 1n << 60n,
  addedFilesCount: 1,
  existingFilesCount: 2,
  deletedFilesCount: 0,
  addedRowsCount: 10,
  existingRowsCount: 20,
  deletedRowsCount: 0,
  firstRowId: 30,
}

/** The same file with its blocks stored, so that damage reaches what they hold. */
async function stored(file: Uint8Array): Promise<Uint8Array> {
  const { metadata } = await readContainer(file, new Map())
  const schema = JSON.parse(metadata['avro.schema']) as JsonObject
  const body = blockOf(file)
  return container(schema, body.count, body.bytes)
}

function container(schema: unknown, count: number | bigint, body: Uint8Array, codec = 'null', more: Readonly<Record<string, string>> = {}) {
  const avro = new AvroWriter()
  avro.raw(Buffer.from('Obj\u0001'))
  const entries = Object.entries({
    'avro.schema': typeof schema === 'string' ? schema : JSON.stringify(schema),
    'avro.codec': codec,
    ...more,
  })
  avro.long(entries.length)
  for (const [key, value] of entries) {
    avro.string(key)
    avro.bytesValue(Buffer.from(value))
  }
  avro.long(0)
  avro.raw(SYNC)
  avro.long(count)
  avro.bytesValue(body)
  avro.raw(SYNC)
  return avro.take()
}

/** The only block of a file of ours, uncompressed. */
function blockOf(file: Uint8Array): { count: number; bytes: Uint8Array } {
  const reader = new AvroReader(file, file.indexOf(7) + 16)
  while (!file.subarray(reader.at - 16, reader.at).every((byte) => byte === 7)) reader.at++
  return { count: reader.size(), bytes: inflateRawSync(reader.bytesValue()) }
}

const manifest = await encodeManifest({ content: 'deletes', schema: SCHEMA, partitionSpecId: 0 }, [entry, entry, entry], SYNC)
const list = await encodeManifestList({ snapshotId: 5n, parentSnapshotId: null, sequenceNumber: 4, firstRowId: 30 }, [listed, listed], SYNC)

test('what is damaged below reads undamaged', async () => {
  expect((await decodeManifest(await stored(manifest))).entries).toEqual([entry, entry, entry])
  expect(await decodeManifestList(await stored(list))).toEqual([listed, listed])
})

test.each<[string, Uint8Array, (bytes: Uint8Array) => Promise<unknown>]>([
  ['manifest', manifest, decodeManifest],
  ['manifest list', list, decodeManifestList],
])('a damaged %s is refused or read, compressed and not', async (_what, file, decode) => {
  const plain = await stored(file)
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(file, plain), damages, async (bytes, what) => {
      await readOrRefuse(() => decode(damaged(bytes, what)))
    }),
    fuzzing(4000),
  )
})

test('a header of any JSON for its schema is refused or read', async () => {
  const word = fc.constantFrom('null', 'record', 'array', 'map', 'fixed', 'enum', 'long', 'string', 'r', 'status', 'data_file')
  const { schema } = fc.letrec((tie) => ({
    schema: fc.oneof(
      { depthSize: 'small' },
      word,
      fc.jsonValue({ maxDepth: 1 }),
      fc.array(tie('schema'), { maxLength: 3 }),
      fc.record({
        type: fc.oneof(word, tie('schema')),
        name: fc.oneof(word, fc.jsonValue({ maxDepth: 0 })),
        items: tie('schema'),
        values: tie('schema'),
        size: fc.oneof(fc.constantFrom(-1, 1e12, NaN, 1.5, null), fc.jsonValue({ maxDepth: 0 })),
        symbols: fc.jsonValue({ maxDepth: 1 }),
        fields: fc.oneof(fc.jsonValue({ maxDepth: 1 }), fc.array(fc.record({ name: word, type: tie('schema'), 'field-id': fc.nat(3) }))),
      }),
    ),
  }))
  await fc.assert(
    fc.asyncProperty(schema, fc.nat(5), fc.uint8Array({ maxLength: 40 }), async (json, count, body) => {
      await readOrRefuse(() => decodeManifest(container(json, count, body)))
      await readOrRefuse(() => decodeManifestList(container(json, count, body)))
    }),
    fuzzing(4000),
  )
})

test('counts of what takes no bytes, sizes that make no sense and schemas without an end are refused at once', async () => {
  const refused = { kind: 'corrupt', code: 'AVRO_MALFORMED' }
  const many = 2 ** 52
  const array = new AvroWriter()
  array.long(many)
  const record = (type: unknown) => ({ type: 'record', name: 'r', fields: [{ name: 'x', type }] })
  let deep: unknown = 'long'
  for (let depth = 0; depth < 50_000; depth++) deep = [deep]
  await expect(readContainer(container(record('null'), many, new Uint8Array(0)), new Map())).rejects.toMatchObject(refused)
  await expect(readContainer(container(record({ type: 'array', items: 'null' }), 1, array.take()), new Map())).rejects.toMatchObject(
    refused,
  )
  await expect(
    readContainer(container(record({ type: 'fixed', name: 'f', size: 'x' }), 1, new Uint8Array(9)), new Map()),
  ).rejects.toMatchObject(refused)
  await expect(readContainer(container(record('r'), 1, new Uint8Array(9)), new Map())).rejects.toMatchObject(refused)
  const nested = `${'['.repeat(50_000)}"long"${']'.repeat(50_000)}`
  await expect(readContainer(container(nested, 1, new Uint8Array(9)), new Map())).rejects.toMatchObject({ kind: 'corrupt' })
})

test('a block that unpacks to far more than a manifest has is refused', async () => {
  const bomb = deflateRawSync(new Uint8Array(300 << 20))
  const schema = { type: 'record', name: 'r', fields: [{ name: 'x', type: 'bytes' }] }
  await expect(readContainer(container(schema, 1, bomb, 'deflate'), new Map())).rejects.toMatchObject({ code: 'AVRO_MALFORMED' })
})
