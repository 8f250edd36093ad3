import {
  isMoonlinkError,
  type Catalog,
  type CreateTable,
  type JsonObject,
  type JsonValue,
  type LoadedTable,
  type TableIdentifier,
} from '@moonlink/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/** A catalog to put through the suite. */
export interface CatalogUnderTest {
  readonly catalog: Catalog
  /** Starts the names of the namespaces that the suite makes; nobody else uses such names. Letters and digits. */
  readonly namespacePrefix: string
  close?(): Promise<void>
}

/** Ids that a catalog which numbers fields itself would change: out of order, with gaps, nested ones before others. */
const SCHEMA = {
  type: 'struct',
  'schema-id': 0,
  'identifier-field-ids': [7],
  fields: [
    { id: 7, name: 'id', required: true, type: 'long' },
    { id: 2, name: 'tags', required: false, type: { type: 'list', 'element-id': 12, element: 'string', 'element-required': false } },
    { id: 9, name: 'price', required: false, type: 'decimal(10, 2)' },
  ],
} as const satisfies JsonObject

/** Beyond what a number holds exactly. */
const SNAPSHOT_IDS = [8_765_432_109_876_543_211n, 1_234_567_890_123_456_789n] as const

/** What core's `Catalog` port promises, as tests. `factory` is called once. */
export function describeCatalog(name: string, factory: () => Promise<CatalogUnderTest>): void {
  describe(`${name}: the Catalog contract`, () => {
    let subject: CatalogUnderTest
    let tables = 0
    beforeAll(async () => {
      subject = await factory()
    })
    afterAll(async () => {
      await subject.close?.()
    })
    const fixture: Fixture = {
      catalog: () => subject.catalog,
      namespace: (suffix) => `${subject.namespacePrefix}${suffix}`,
      unused: () => ({ namespace: `${subject.namespacePrefix}shared`, name: `t${tables++}` }),
      async created(options) {
        const table = fixture.unused()
        return { table, loaded: await subject.catalog.create(table, { schema: SCHEMA, properties: {}, ...options }) }
      },
    }
    describeTables(fixture)
    describeCommits(fixture)
    describeSnapshots(fixture)
    describeRaces(fixture)
  })
}

interface Fixture {
  catalog(): Catalog
  namespace(suffix: string): string
  unused(): TableIdentifier
  created(options?: Partial<CreateTable>): Promise<{ readonly table: TableIdentifier; readonly loaded: LoadedTable }>
}

const tableExists = expect.objectContaining({ kind: 'conflict', code: 'TABLE_EXISTS' })
const commitConflict = expect.objectContaining({ kind: 'conflict', code: 'COMMIT_CONFLICT' })

function describeTables(fixture: Fixture): void {
  test('load gives null for a table, and for a namespace, that is not there', async () => {
    await fixture.created()
    expect(await fixture.catalog().load(fixture.unused())).toBeNull()
    expect(await fixture.catalog().load({ namespace: fixture.namespace('nowhere'), name: 't' })).toBeNull()
  })

  test('create makes an empty version 3 table, its namespace too', async () => {
    const table = { namespace: fixture.namespace('fresh'), name: 'orders' }
    const loaded = await fixture.catalog().create(table, { schema: SCHEMA, properties: { owner: 'moonlink' } })
    expect(loaded.metadataLocation).toMatch(/^[a-z0-9]+:\/.*\.metadata\.json$/)
    expect(loaded.metadata['location']).toMatch(/^[a-z0-9]+:\//)
    expect(loaded.metadata).toMatchObject({ 'format-version': 3, 'next-row-id': 0, 'last-sequence-number': 0, 'last-column-id': 12 })
    expect(loaded.metadata['table-uuid']).toMatch(/^[0-9a-f-]{36}$/)
    expect(loaded.metadata['current-snapshot-id'] ?? null).toBeNull()
    expect(loaded.metadata['snapshots'] ?? []).toEqual([])
    expect(loaded.metadata['partition-specs']).toEqual([{ 'spec-id': 0, fields: [] }])
    expect(loaded.metadata['sort-orders']).toEqual([{ 'order-id': 0, fields: [] }])
    expect(loaded.metadata['properties']).toMatchObject({ owner: 'moonlink' })
    expect(loaded.metadata['properties']).not.toHaveProperty('format-version')
    expect(await fixture.catalog().load(table)).toMatchObject({ metadataLocation: loaded.metadataLocation, metadata: loaded.metadata })
  })

  test('field ids are kept as given, nested and identifier ones too', async () => {
    const { loaded } = await fixture.created()
    expect(schemaOf(loaded)).toMatchObject({ fields: SCHEMA.fields, 'identifier-field-ids': [7] })
  })

  test('create fails where the table is there, and leaves it alone', async () => {
    const { table, loaded } = await fixture.created()
    const again = fixture.catalog().create(table, { schema: SCHEMA, properties: { second: 'yes' } })
    await expect(again).rejects.toEqual(tableExists)
    expect((await fixture.catalog().load(table))?.metadata).toEqual(loaded.metadata)
  })

  test('list gives the tables of one namespace', async () => {
    const namespace = fixture.namespace('listed')
    const names = ['a', 'b', 'c']
    expect(await fixture.catalog().list(namespace)).toEqual([])
    for (const name of names) await fixture.catalog().create({ namespace, name }, { schema: SCHEMA, properties: {} })
    const listed = await fixture.catalog().list(namespace)
    expect([...listed].sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual(names.map((name) => ({ namespace, name })))
  })

  test.each([false, true])('a dropped table (purge: %s) is gone; its name can be used again', async (purge) => {
    const { table, loaded } = await fixture.created()
    await fixture.catalog().drop(table, purge)
    expect(await fixture.catalog().load(table)).toBeNull()
    expect(await fixture.catalog().list(table.namespace)).not.toContainEqual(table)
    await fixture.catalog().drop(table, purge)
    const next = await fixture.catalog().create(table, { schema: SCHEMA, properties: {} })
    expect(next.metadata['table-uuid']).not.toBe(loaded.metadata['table-uuid'])
  })

  test('drop is fine where there is no namespace', async () => {
    await expect(fixture.catalog().drop({ namespace: fixture.namespace('nowhere'), name: 't' }, false)).resolves.toBeUndefined()
  })

  test.each(['Mixed Case', 'ünïcödé', 'dot.ted', 'percent%41', 'plus+and&', 'question?hash#'])('the name "%s" is kept', async (name) => {
    const table = { namespace: fixture.namespace('names'), name }
    await fixture.catalog().create(table, { schema: SCHEMA, properties: {} })
    expect(await fixture.catalog().load(table)).not.toBeNull()
    expect(await fixture.catalog().list(table.namespace)).toContainEqual(table)
  })
}

function describeCommits(fixture: Fixture): void {
  test('properties are set and removed; each commit has a metadata file of its own, and its metadata log names the one before', async () => {
    const { table, loaded } = await fixture.created({ properties: { keep: 'k', drop: 'd' } })
    const committed = await fixture.catalog().commit(
      table,
      [uuidIs(loaded)],
      [
        { action: 'set-properties', updates: { added: 'a', 'moonlink.lsn': '0/16B3748' } },
        { action: 'remove-properties', removals: ['drop'] },
      ],
    )
    expect(committed.metadata['properties']).toMatchObject({ keep: 'k', added: 'a', 'moonlink.lsn': '0/16B3748' })
    expect(committed.metadata['properties']).not.toHaveProperty('drop')
    expect(committed.metadataLocation).not.toBe(loaded.metadataLocation)
    const log = committed.metadata['metadata-log'] as readonly JsonObject[]
    expect(log.map((entry) => fileName(entry['metadata-file']))).toEqual([fileName(loaded.metadataLocation)])
    expect((await fixture.catalog().load(table))?.metadata).toEqual(committed.metadata)
  })

  const stale: readonly (readonly [string, JsonObject])[] = [
    ['uuid', { type: 'assert-table-uuid', uuid: '00000000-0000-4000-8000-000000000000' }],
    ['snapshot', { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': SNAPSHOT_IDS[0] }],
    ['schema', { type: 'assert-current-schema-id', 'current-schema-id': 5 }],
    ['last field id', { type: 'assert-last-assigned-field-id', 'last-assigned-field-id': 3 }],
    ['creation', { type: 'assert-create' }],
  ]
  test.each(stale)('a commit whose %s requirement fails is a conflict and changes nothing', async (_, requirement) => {
    const { table, loaded } = await fixture.created()
    const commit = fixture.catalog().commit(table, [requirement], [{ action: 'set-properties', updates: { a: 'b' } }])
    await expect(commit).rejects.toEqual(commitConflict)
    expect((await fixture.catalog().load(table))?.metadata).toEqual(loaded.metadata)
  })

  test('a commit to a table that is not there says so', async () => {
    const commit = fixture.catalog().commit(fixture.unused(), [], [{ action: 'set-properties', updates: { a: 'b' } }])
    await expect(commit).rejects.toMatchObject({ kind: 'invalid', code: 'TABLE_NOT_FOUND' })
  })

  test('a schema is added with our ids and made the current one', async () => {
    const { table, loaded } = await fixture.created()
    const added = { id: 20, name: 'note', required: false, type: 'string' }
    const schema = { ...SCHEMA, 'schema-id': 1, fields: [...SCHEMA.fields, added] }
    const committed = await fixture.catalog().commit(
      table,
      [uuidIs(loaded), { type: 'assert-current-schema-id', 'current-schema-id': 0 }],
      [
        { action: 'add-schema', schema, 'last-column-id': 20 },
        { action: 'set-current-schema', 'schema-id': -1 },
      ],
    )
    expect(committed.metadata).toMatchObject({ 'last-column-id': 20, 'current-schema-id': 1 })
    expect(schemaOf(committed)['fields']).toEqual(schema.fields)
    expect(committed.metadata['schemas']).toHaveLength(2)
  })
}

function describeSnapshots(fixture: Fixture): void {
  test('snapshots carry 64-bit ids, the branch, sequence numbers and row lineage', async () => {
    const { table, loaded } = await fixture.created()
    const first = await fixture.catalog().commit(table, [uuidIs(loaded), mainIs(null)], addSnapshot(loaded, { index: 0, rows: 100 }))
    expect(first.metadata).toMatchObject({
      'current-snapshot-id': SNAPSHOT_IDS[0],
      'last-sequence-number': 1,
      'next-row-id': 100,
      refs: { main: { 'snapshot-id': SNAPSHOT_IDS[0], type: 'branch' } },
    })
    const second = await fixture.catalog().commit(table, [mainIs(SNAPSHOT_IDS[0])], addSnapshot(first, { index: 1, rows: 5 }))
    expect(second.metadata).toMatchObject({ 'current-snapshot-id': SNAPSHOT_IDS[1], 'last-sequence-number': 2, 'next-row-id': 105 })
    expect(second.metadata['snapshots']).toMatchObject([
      { 'snapshot-id': SNAPSHOT_IDS[0], 'first-row-id': 0, 'added-rows': 100, summary: { operation: 'append', 'moonlink.lsn': '0/0' } },
      { 'snapshot-id': SNAPSHOT_IDS[1], 'first-row-id': 100, 'added-rows': 5, 'parent-snapshot-id': SNAPSHOT_IDS[0] },
    ])
    expect(second.metadata['snapshot-log']).toMatchObject(SNAPSHOT_IDS.map((id) => ({ 'snapshot-id': id })))
    expect((await fixture.catalog().load(table))?.metadata).toEqual(second.metadata)
  })

  test('a snapshot and a property are committed together or not at all', async () => {
    const { table, loaded } = await fixture.created()
    const property = { action: 'set-properties', updates: { 'moonlink.committed-lsn': '0/5' } }
    const updates = [...addSnapshot(loaded, { index: 0, rows: 1 }), property]
    await expect(fixture.catalog().commit(table, [mainIs(SNAPSHOT_IDS[1])], updates)).rejects.toEqual(commitConflict)
    expect((await fixture.catalog().load(table))?.metadata).toEqual(loaded.metadata)
    const committed = await fixture.catalog().commit(table, [mainIs(null)], updates)
    expect(committed.metadata).toMatchObject({
      'current-snapshot-id': SNAPSHOT_IDS[0],
      properties: { 'moonlink.committed-lsn': '0/5' },
    })
  })

  test('a schema with a default comes with the snapshot made under it; one that the table had is taken up again', async () => {
    const { table, loaded } = await fixture.created()
    const added = { id: 20, name: 'note', required: true, type: 'string', 'initial-default': 'none', 'write-default': 'none' }
    const wider = { ...SCHEMA, fields: [...SCHEMA.fields, added] }
    const widening = [
      { action: 'add-schema', schema: wider, 'last-column-id': 20 },
      { action: 'set-current-schema', 'schema-id': -1 },
    ]
    const first = await fixture
      .catalog()
      .commit(table, [mainIs(null)], [...widening, ...addSnapshot(loaded, { index: 0, rows: 1, schemaId: 1 })])
    expect(schemaOf(first)['fields']).toContainEqual(added)
    const back = { action: 'set-current-schema', 'schema-id': 0 }
    const second = await fixture.catalog().commit(table, [], [back, ...addSnapshot(first, { index: 1, rows: 1 })])
    expect(second.metadata).toMatchObject({ 'current-schema-id': 0, 'last-column-id': 20 })
    expect(second.metadata['schemas']).toHaveLength(2)
    expect(second.metadata['snapshots']).toMatchObject([{ 'schema-id': 1 }, { 'schema-id': 0 }])
  })

  test('a snapshot whose sequence number or first row id was passed meanwhile is a conflict', async () => {
    const { table, loaded } = await fixture.created()
    await fixture.catalog().commit(table, [], addSnapshot(loaded, { index: 0, rows: 10 }))
    const stale = fixture.catalog().commit(table, [], addSnapshot(loaded, { index: 1, rows: 10 }))
    await expect(stale).rejects.toEqual(commitConflict)
  })

  test('removed snapshots are gone, the current one stays', async () => {
    const { table, loaded } = await fixture.created()
    const first = await fixture.catalog().commit(table, [], addSnapshot(loaded, { index: 0, rows: 10 }))
    await fixture.catalog().commit(table, [], addSnapshot(first, { index: 1, rows: 10 }))
    const removed = await fixture
      .catalog()
      .commit(table, [mainIs(SNAPSHOT_IDS[1])], [{ action: 'remove-snapshots', 'snapshot-ids': [SNAPSHOT_IDS[0]] }])
    expect(removed.metadata['snapshots']).toMatchObject([{ 'snapshot-id': SNAPSHOT_IDS[1] }])
    expect(removed.metadata).toMatchObject({ 'current-snapshot-id': SNAPSHOT_IDS[1], 'next-row-id': 20 })
  })
}

function describeRaces(fixture: Fixture): void {
  test('of commits from one state at once exactly one wins', async () => {
    const { table, loaded } = await fixture.created()
    const attempts = Array.from({ length: 4 }, (_, index) =>
      outcome(
        fixture
          .catalog()
          .commit(
            table,
            [mainIs(null)],
            [...addSnapshot(loaded, { index: 0, rows: 7 }), { action: 'set-properties', updates: { winner: String(index) } }],
          ),
      ),
    )
    const outcomes = await Promise.all(attempts)
    const left = await fixture.catalog().load(table)
    const winner = Number((left?.metadata['properties'] as JsonObject | undefined)?.['winner'])
    expect(left?.metadata).toMatchObject({ 'current-snapshot-id': SNAPSHOT_IDS[0], 'next-row-id': 7 })
    expect(left?.metadata['snapshots']).toHaveLength(1)
    expect(outcomes[winner], 'the one that the table has').toSatisfy(
      (one) => one === 'done' || isUnknown(one),
      'is done, or COMMIT_UNKNOWN',
    )
    for (const loser of outcomes.toSpliced(winner, 1))
      expect(loser, 'one that the table does not have').toSatisfy(
        (one) => isUnknown(one) || isConflict(one),
        'is COMMIT_CONFLICT, or COMMIT_UNKNOWN',
      )
  })

  test('of creates of one name at once exactly one wins', async () => {
    const table = { namespace: fixture.namespace('racing'), name: 't' }
    const attempts = ['a', 'b', 'c'].map((owner) => outcome(fixture.catalog().create(table, { schema: SCHEMA, properties: { owner } })))
    const outcomes = await Promise.all(attempts)
    const left = await fixture.catalog().load(table)
    const winner = ['a', 'b', 'c'].indexOf((left?.metadata['properties'] as JsonObject | undefined)?.['owner'] as string)
    expect(outcomes[winner], 'the one that the table is of').toSatisfy(
      (one) => one === 'done' || isMoonlinkError(one, 'retry'),
      'is done, or to be tried again',
    )
    for (const loser of outcomes.toSpliced(winner, 1))
      expect(loser, 'one that the table is not of').toSatisfy(
        (one) => isMoonlinkError(one, 'retry') || isConflict(one),
        'is TABLE_EXISTS, or to be tried again',
      )
  })
}

/** A server under contention may fail without saying whether it committed; the port allows that, and the loaded table decides. */
function isUnknown(error: unknown): boolean {
  return isMoonlinkError(error, 'retry') && error.code === 'COMMIT_UNKNOWN'
}

function isConflict(error: unknown): boolean {
  return isMoonlinkError(error, 'conflict') && (error.code === 'COMMIT_CONFLICT' || error.code === 'TABLE_EXISTS')
}

async function outcome(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => 'done',
    (error: unknown) => error,
  )
}

function uuidIs(loaded: LoadedTable): JsonObject {
  return { type: 'assert-table-uuid', uuid: loaded.metadata['table-uuid'] ?? null }
}

function mainIs(snapshotId: bigint | null): JsonObject {
  return { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': snapshotId }
}

/** A snapshot of `rows` new rows on top of `base`, as updates. No catalog looks into its manifest list. */
function addSnapshot(
  base: LoadedTable,
  { index, rows, schemaId = 0 }: { readonly index: 0 | 1; readonly rows: number; readonly schemaId?: number },
): JsonObject[] {
  const { location, 'last-sequence-number': sequenceNumber, 'last-updated-ms': updatedMs } = base.metadata
  const parent = base.metadata['current-snapshot-id'] ?? null
  const id = SNAPSHOT_IDS[index]
  const snapshot = {
    'snapshot-id': id,
    ...(parent === null ? {} : { 'parent-snapshot-id': parent }),
    'sequence-number': Number(sequenceNumber) + 1,
    'timestamp-ms': Number(updatedMs) + 1,
    'manifest-list': `${location as string}/metadata/snap-${id}-1-none.avro`,
    'schema-id': schemaId,
    'first-row-id': base.metadata['next-row-id'] ?? 0,
    'added-rows': rows,
    summary: { operation: 'append', 'added-records': String(rows), 'moonlink.lsn': `0/${index}` },
  }
  return [
    { action: 'add-snapshot', snapshot },
    { action: 'set-snapshot-ref', 'ref-name': 'main', type: 'branch', 'snapshot-id': id },
  ]
}

function schemaOf(loaded: LoadedTable): JsonObject {
  const schemas = loaded.metadata['schemas'] as readonly JsonObject[]
  return schemas.find((schema) => schema['schema-id'] === loaded.metadata['current-schema-id'])!
}

function fileName(uri: JsonValue | undefined): string | undefined {
  return typeof uri === 'string' ? uri.slice(uri.lastIndexOf('/') + 1) : undefined
}
