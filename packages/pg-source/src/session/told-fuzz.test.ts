import { formatTableName, isMoonlinkError, stringifyJsonLossless, type FieldType, type JsonValue, type TableSchema } from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeState, encodeState } from '../decode/decoder-state.ts'
import { defaultMapping } from '../types/mapping.ts'
import { parseConnectionString } from './connection-config.ts'
import { parseDdlMessage } from './ddl-message.ts'
import { describeShape, type MappedShape, type ShapeOptions } from './describe-shape.ts'
import { evolveShape, restoreShape } from './evolve-shape.ts'
import { attachmentsOfMark, editionOfMark, isSameMark } from './publication-changes.ts'
import { relationShape, shapeType, type RelationShape, type ShapeType } from './relation-shape.ts'
import { parseTimelineHistory } from './server-history.ts'
import { decodeSourceState } from './source-state.ts'
import { StreamShapes } from './stream-shapes.ts'
import { DDL_VERSION } from './told-since.ts'

const table = { schema: 'public', name: 't' }
const options: ShapeOptions = {
  excludeColumns: {},
  appendOnly: [],
  publications: { main: null, append: null },
  versionNumber: 180_000,
  mapping: defaultMapping,
}

function type(oid: number, more: object): ShapeType {
  const none = {
    schema: 'pg_catalog',
    extension: null,
    isSendable: true,
    delimiter: ',',
    elementOid: 0,
    baseOid: 0,
    baseTypmod: -1,
    kind: 'b',
  }
  return shapeType.parse({ oid, ...none, baseDimensions: 0, partOid: 0, attributes: [], ...more })
}

const attribute = (number: number, name: string, typeOid: number, dimensions = 0) => ({ number, name, typeOid, typmod: -1, dimensions })
const column = (number: number, name: string, typeOid: number, more: object = {}) => ({
  ...attribute(number, name, typeOid),
  typeName: name,
  isNotNull: number === 1,
  generated: '',
  stamp: '700',
  ...more,
})
const MOOD = 16_400
const PAIR = 16_410
const types = [
  type(20, { name: 'int8' }),
  type(25, { name: 'text' }),
  type(1700, { name: 'numeric' }),
  type(1009, { name: '_text', elementOid: 25 }),
  type(MOOD, { name: 'mood', schema: 'public', kind: 'e', labels: [[16_401, 'sad']] }),
  type(PAIR, { name: 'pair', schema: 'public', kind: 'c', attributes: [attribute(1, 'a', 1009, 1), attribute(3, 'b', MOOD)] }),
  type(16_420, { name: 'whole', schema: 'public', kind: 'd', baseOid: 20 }),
]
const shape: RelationShape = relationShape.parse({
  oid: 16_384,
  ...table,
  replicaIdentity: 'd',
  filenode: 16_384,
  attributeCount: 7,
  rowTypeOid: 16_386,
  toldSince: '690',
  changedBy: '699',
  columns: [
    column(1, 'id', 20),
    column(2, 'note', 25, { missing: 'none' }),
    column(4, 'amount', 1700, { typmod: ((20 << 16) | 3) + 4 }),
    column(5, 'tags', 1009, { dimensions: 2 }),
    column(6, 'pair', PAIR),
    column(7, 'whole', 16_420),
  ],
  types,
  keys: [{ isPrimary: true, isReplicaIdentity: false, isImmediate: true, columns: [1] }],
})
const known = describeShape(table, shape, options)
const added = relationShape.parse({
  ...shape,
  changedBy: null,
  columns: [...shape.columns, column(8, 'more', 25, { missing: 'x' })],
  attributeCount: 8,
})
const teller = { version: DDL_VERSION, xid: '720', snapshot: '720:720:', sinceLsn: '0/10', isFresh: true }
const messages = [
  { ...teller, kind: 'shape', relation: added, rewrite: null },
  { ...teller, kind: 'shape', relation: shape, rewrite: { reason: 2, isPlain: true } },
  { ...teller, kind: 'types', altered: [MOOD, PAIR], types: types.slice(3) },
  { version: DDL_VERSION, kind: 'partitions', command: 'ALTER TABLE', tables: { 16_384: 'x' } },
  { version: DDL_VERSION, kind: 'rows', reason: 'truncated by itself', above: [16_384] },
  { version: DDL_VERSION, kind: 'dropped', oid: 16_384 },
  { version: DDL_VERSION, kind: 'unknown', reason: 'too large' },
] as readonly unknown[] as readonly JsonValue[]

const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
const bytesOf = (text: string) => new TextEncoder().encode(text)
/** Texts of JSON that are others by one value, or by some of their bytes. */
function spoiled(...originals: readonly JsonValue[]): fc.Arbitrary<string> {
  const lies = originals.flatMap((original) => Array.from(damagedJson(original), ({ value }) => stringifyJsonLossless(value)))
  const texts = originals.map((original) => bytesOf(stringifyJsonLossless(original)))
  return fc.oneof(
    fc.constantFrom(...lies),
    fc.tuple(fc.constantFrom(...texts), damages).map(([text, what]) => textOf(damaged(text, what))),
  )
}

function idsOf(one: FieldType): number[] {
  if (one.kind === 'list') return [one.elementId, ...idsOf(one.element)]
  return one.kind === 'struct' ? one.fields.flatMap((field) => [field.id, ...idsOf(field.type)]) : []
}

/** What may be written down as a table's schema. */
function expectSchema({ fields, identifierFieldIds }: TableSchema): void {
  const ids = fields.flatMap((field) => [field.id, ...idsOf(field.type)])
  expect(ids.every((id) => Number.isInteger(id) && id > 0 && id < 2 ** 31)).toBe(true)
  expect(new Set(ids).size).toBe(ids.length)
  expect(new Set(fields.map(({ name }) => name)).size).toBe(fields.length)
  // Where one is optional, the catalog is told of none.
  expect(identifierFieldIds.every((id) => fields.some((field) => field.id === id))).toBe(true)
}

function shapesOf(mapped: MappedShape): StreamShapes {
  return new StreamShapes([mapped], [], options, () => undefined, 0n)
}

describe('messages that event triggers write', () => {
  test('of which those that are damaged below are none', () => {
    expect(messages.map((message) => shapesOf(known).read(stringifyJsonLossless(message), () => false, false))).toMatchObject([
      [{ kind: 'reshape', stale: null }],
      [{ kind: 'reshape' }],
      [],
      [{ kind: 'reshape' }],
      [{ kind: 'stale' }],
      [{ kind: 'refuse' }],
      [{ kind: 'refuse' }],
    ])
  })

  test('whatever they say, are taken for what a table can be, or not at all', () => {
    fc.assert(
      fc.property(fc.array(spoiled(...messages), { minLength: 1, maxLength: 3 }), fc.boolean(), (texts, isDoubtful) => {
        const shapes = shapesOf(known)
        for (const text of [...texts, stringifyJsonLossless(messages[2])]) {
          for (const alteration of shapes.read(text, () => false, isDoubtful)) {
            expect(['reshape', 'refuse', 'stale']).toContain(alteration.kind)
            if (alteration.kind === 'refuse') expect(alteration.reason).not.toBe('')
            if (alteration.kind === 'reshape') expectSchema(alteration.mirrored.schema)
          }
        }
        for (const { schema, sourceState } of shapes.all()) {
          expectSchema(schema)
          expect(decodeSourceState(sourceState)).not.toBeNull()
        }
      }),
      fuzzing(1500),
    )
  })

  const told = (more: readonly ShapeType[], dimensions = 0) => ({
    ...teller,
    kind: 'shape',
    rewrite: null,
    relation: { ...added, columns: [...added.columns, { ...column(9, 'odd', 20_000), dimensions }], types: [...types, ...more] },
  })
  const deep = Array.from({ length: 20_000 }, (_, index) =>
    type(20_000 + index, { name: `d${index}`, kind: 'd', baseOid: index === 19_999 ? 20 : 20_001 + index }),
  )
  const doubled = Array.from({ length: 40 }, (_, index) =>
    type(20_000 + index, {
      name: `p${index}`,
      kind: 'c',
      attributes: index === 39 ? [attribute(1, 'a', 20)] : [attribute(1, 'a', 20_001 + index), attribute(2, 'b', 20_001 + index)],
    }),
  )
  test.each([
    ['contains itself', told([type(20_000, { name: 'own', kind: 'd', baseOid: 20_000 })]), 'refuse'],
    ['is not described', told([]), 'refuse'],
    ['lies in thousands of others', told(deep), 'refuse'],
    ['doubles at each level', told(doubled), 'refuse'],
    ['has more dimensions than any array', told([type(20_000, { name: '_x', elementOid: 20 })], 32_767), 'reshape'],
  ])('a type that %s ends the table, and nothing else', (_, message, kind) => {
    expect(shapesOf(known).read(JSON.stringify(message), () => false, false)).toMatchObject([{ kind }])
  })

  test('an id of a transaction that is none is no message of ours, whatever comes later', () => {
    const shapes = shapesOf(known)
    for (const xid of ['x', '', '1'.repeat(100_000)])
      expect(parseDdlMessage(JSON.stringify({ ...(messages[0] as object), xid }))).toBeNull()
    expect(shapes.read(JSON.stringify({ ...(messages[0] as object), xid: 'x' }), () => false, false)).toEqual([])
    expect(shapes.read(JSON.stringify(messages[0]), () => false, false)).toMatchObject([{ kind: 'reshape' }])
  })
})

describe('what a table keeps of its source', () => {
  const state = JSON.parse(known.sourceState) as JsonValue

  test('whatever it says, leads to the table that there is, or nowhere', () => {
    fc.assert(
      fc.property(spoiled(state), (sourceState) => {
        const kept = { schema: known.schema, sourceState }
        const restored = restoreShape(table, kept, options)
        if (restored !== null) expect(restored.schema.fields.map(({ id }) => id)).toEqual(known.schema.fields.map(({ id }) => id))
        const resumed = new StreamShapes([known], [{ table, shape: kept, throughLsn: 5n }], options, () => undefined, 0n)
        expectSchema(resumed.all()[0].schema)
        const { mapped } = evolveShape(table, kept, added, options)
        expectSchema(mapped.schema)
      }),
      fuzzing(1000),
    )
  })

  test('where it can not be read, its rows are not taken for what the catalog says now', () => {
    for (const sourceState of ['', 'x', '{}', JSON.stringify({ ...(state as object), version: 99 })])
      expect(evolveShape(table, { schema: known.schema, sourceState }, added, options).stale).toMatch(/is not known/)
    expect(evolveShape(table, known, added, options).stale).toBeNull()
  })
})

test('a mark of how a table was published is the same, or another, whatever is in it', () => {
  const mark = [16_500, [[16_501, 16_502, '700 701', '690'], [16_503, 16_504, '702'], 16_505], 'given p 700'] as const
  const whole = JSON.stringify(mark)
  expect(isSameMark(whole, whole)).toBe(true)
  fc.assert(
    fc.property(spoiled(mark as readonly unknown[] as readonly JsonValue[]), (text) => {
      const [, partitions, edition] = isSameMark(text, whole) ? (JSON.parse(text) as unknown[]) : mark
      expect(edition).toBe(mark[2])
      expect((partitions as unknown[]).length).toBe(3)
      expect(['string', 'object']).toContain(typeof editionOfMark(text))
      expect(attachmentsOfMark(text)).toBeInstanceOf(Map)
    }),
    fuzzing(1000),
  )
  for (const none of ['', 'x', 'null', '{}', '[]', '7']) {
    expect(isSameMark(none, whole)).toBe(false)
    expect(editionOfMark(none)).toBeNull()
    expect(attachmentsOfMark(none).size).toBe(0)
  }
})

test('what a log keeps of a decoder is what it was, or is refused', async () => {
  const relations = [
    { oid: 5, schema: 'public', name: 't', replicaIdentity: 'd', columns: [{ name: 'id', typeOid: 20, typmod: -1, isKey: true }] },
  ]
  const state = JSON.parse(textOf(encodeState(relations))) as JsonValue
  await fc.assert(
    fc.asyncProperty(spoiled(state), async (text) => {
      const read = await readOrRefuse(() => decodeState(bytesOf(text)))
      for (const { columns, oid } of read ?? []) {
        expect(Number.isInteger(oid) && oid >= 0).toBe(true)
        expect(columns.every(({ typeOid, typmod }) => Number.isInteger(typeOid) && Number.isInteger(typmod))).toBe(true)
      }
    }),
    fuzzing(500),
  )
})

test('timeline histories and connection strings are read or refused', async () => {
  const history = bytesOf('1\t0/3000028\tno recovery target specified\n2\tA/5000A0\tbefore 2026-01-01\n')
  const url = bytesOf('postgres://user:p%40ss@[::1]:5432,host.example:5433/db?sslmode=require&application_name=x')
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      const switches = await readOrRefuse(() => parseTimelineHistory(textOf(damaged(history, what))))
      for (const { endLsn, timeline } of switches ?? []) expect(timeline >= 0 && endLsn >= 0n && endLsn < 2n ** 64n).toBe(true)
      try {
        parseConnectionString(textOf(damaged(url, what)))
      } catch (error) {
        if (!isMoonlinkError(error, 'invalid')) throw error
        expect(error.message).not.toContain('p@ss')
      }
    }),
    fuzzing(1000),
  )
})

test('the table that is told of below is one', () => {
  expect(formatTableName(known.table)).toBe('public.t')
  expectSchema(known.schema)
})
