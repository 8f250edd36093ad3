import type { Field, JsonObject, TableCommit, TableSchema, TableStorage } from '@moonlink/core'
import { expect, test } from 'vitest'
import { applyUpdates } from '../metadata/apply-updates.ts'
import { schemaToJson } from '../metadata/schema-json.ts'
import { harness, IDENTIFIER, rowsOf, SCHEMA } from './harness.test.support.ts'

const NOTHING = { kind: 'append', addFiles: [], removeFiles: [], vectors: [] } as const
const id = SCHEMA.fields[0]
const note: Field = { id: 2, name: 'note', type: { kind: 'string' }, required: true, initialDefault: 'none', writeDefault: 'none' }
const WIDER: TableSchema = { fields: [id, note], identifierFieldIds: [1] }
const RENAMED: TableSchema = { fields: [{ ...id, name: 'key' }, note], identifierFieldIds: [1] }

async function append(storage: TableStorage, lsn: bigint, more: Partial<TableCommit> = {}) {
  return storage.commit({ ...NOTHING, addFiles: [await storage.writeFile(rowsOf(3))], lsn, ...more })
}

function snapshotsOf(metadata: JsonObject): readonly JsonObject[] {
  return metadata['snapshots'] as readonly JsonObject[]
}

test('a commit changes the schema together with its rows; older snapshots keep theirs', async () => {
  const h = harness()
  const storage = await h.open()
  const first = await append(storage, 1n)
  const second = await append(storage, 2n, { schema: WIDER })
  expect(second.schema).toEqual(WIDER)
  const third = await append(storage, 3n)
  expect(third.schema).toBe(second.schema)
  const metadata = await h.metadata()
  expect(metadata).toMatchObject({ 'current-schema-id': 1, 'last-column-id': 2 })
  expect(snapshotsOf(metadata).map((snapshot) => snapshot['schema-id'])).toEqual([0, 1, 1])
  expect((metadata['schemas'] as readonly JsonObject[])[1]).toEqual({ ...schemaToJson(WIDER, 1) })
  expect((await storage.loadSnapshot(first.snapshotId!)).schema).toEqual(SCHEMA)
  const reopened = await h.open({ schema: WIDER })
  expect(reopened.snapshot.schema).toEqual(WIDER)
  expect((await reopened.loadSnapshot(first.snapshotId!)).schema).toEqual(SCHEMA)
})

test('a table without rows takes another schema with its properties; one with rows does not', async () => {
  const h = harness()
  const storage = await h.open()
  expect(await storage.setProperties({ a: '1' }, WIDER)).toMatchObject({ schema: WIDER, properties: { a: '1' } })
  expect(await h.metadata()).toMatchObject({ 'current-schema-id': 1, 'last-column-id': 2 })
  await append(await h.open({ schema: WIDER }), 1n)
  const reopened = await h.open({ schema: WIDER })
  await expect(reopened.setProperties({}, SCHEMA)).rejects.toThrow('rows')
})

test('a schema that the table had is taken up again, with its id', async () => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 1n, { schema: RENAMED })
  await append(storage, 2n, { schema: { ...RENAMED, fields: [...RENAMED.fields] } })
  await append(storage, 3n, { schema: SCHEMA })
  const metadata = await h.metadata()
  expect(snapshotsOf(metadata).map((snapshot) => snapshot['schema-id'])).toEqual([1, 1, 0])
  // The ids of columns that are gone are never given again.
  expect(metadata).toMatchObject({ 'current-schema-id': 0, 'last-column-id': 2 })
  expect(metadata['schemas']).toHaveLength(2)
})

test.each(['before', 'after'] as const)('a commit with a schema whose answer is lost %s it took effect is made once', async (when) => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 1n)
  h.catalog.failNext.push(when)
  await append(storage, 2n, { schema: WIDER })
  const metadata = await h.metadata()
  expect(snapshotsOf(metadata).map((snapshot) => snapshot['schema-id'])).toEqual([0, 1])
  expect(metadata['schemas']).toHaveLength(2)
})

test('a schema that somebody else changed is noticed, be it without a snapshot', async () => {
  const h = harness()
  const storage = await h.open()
  await append(storage, 1n)
  h.catalog.interfere = () =>
    h.catalog.commit(
      IDENTIFIER,
      [],
      [
        { action: 'add-schema', schema: schemaToJson(WIDER) },
        { action: 'set-current-schema', 'schema-id': -1 },
      ],
    )
  await expect(append(storage, 2n)).rejects.toMatchObject({ kind: 'conflict', code: 'ICEBERG_SCHEMA_CHANGED' })
})

test('a schema that the owner before commits just before the table is taken over is not taken for the one that is expected', async () => {
  const h = harness()
  const old = await h.open()
  await append(old, 1n)
  h.catalog.interfere = () => append(old, 2n, { schema: WIDER })
  await expect(h.open({ takesOver: true })).rejects.toMatchObject({ kind: 'invalid', code: 'SCHEMA_MISMATCH' })
  expect((await h.open({ takesOver: true, schema: WIDER })).snapshot).toMatchObject({ committedLsn: 2n, schema: WIDER })
})

test('a key that Iceberg does not take as an identifier stays the mirror’s', async () => {
  const h = harness()
  const float: TableSchema = { fields: [{ ...id, type: { kind: 'double' } }], identifierFieldIds: [1] }
  const storage = await h.open({ schema: float })
  expect((await storage.commit({ ...NOTHING, lsn: 1n })).schema).toEqual(float)
  const keyed: TableSchema = { fields: [...float.fields, { ...note, required: false }], identifierFieldIds: [2] }
  expect((await storage.commit({ ...NOTHING, lsn: 2n, schema: keyed })).schema).toEqual(keyed)
  expect((await h.open({ schema: keyed })).snapshot.schema.identifierFieldIds).toEqual([2])
})

test('add-schema finds an equal schema however it is written', async () => {
  const h = harness()
  await append(await h.open(), 1n)
  const metadata = await h.metadata()
  const written = {
    'schema-id': 99,
    'identifier-field-ids': [1],
    fields: [{ name: 'id', required: true, type: 'long', id: 1 }],
    type: 'struct',
  }
  const same = applyUpdates(
    metadata,
    [],
    [
      { action: 'add-schema', schema: written },
      { action: 'set-current-schema', 'schema-id': -1 },
    ],
    0,
  )
  expect(same['schemas']).toHaveLength(1)
  const other = applyUpdates(metadata, [], [{ action: 'add-schema', schema: { ...written, 'identifier-field-ids': [] } }], 0)
  expect(other['schemas']).toHaveLength(2)
})
