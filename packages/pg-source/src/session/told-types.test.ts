import { expect, test } from 'vitest'
import { relationShape, shapeType, type ShapeType } from './relation-shape.ts'
import { isAware, ToldTypes, type Teller } from './told-types.ts'

const START = 100n
const MOOD = 16_400
const PAIR = 16_410

/** A transaction that sees those before `next`, save the ones that are running. */
const by = (xid: string, next: number, running: readonly number[] = [], isFresh = true): Teller => ({
  xid,
  snapshot: `${Math.min(next, ...running)}:${next}:${running.join(',')}`,
  sinceLsn: START,
  isFresh,
})

const mood = (...labels: string[]) => type(MOOD, { name: 'mood', kind: 'e', labels: labels.map((label, index) => [index, label]) })
const pairOfMoods = type(PAIR, {
  name: 'pair',
  kind: 'c',
  attributes: [{ name: 'm', number: 1, typeOid: MOOD, typmod: -1, dimensions: 0 }],
})

function type(oid: number, more: object): ShapeType {
  const none = { schema: 'public', extension: null, isSendable: true, delimiter: ',', elementOid: 0, baseOid: 0, baseTypmod: -1 }
  return shapeType.parse({ oid, ...none, baseDimensions: 0, partOid: 0, attributes: [], ...more })
}

/** A table with one column of a type. */
function table(typeOid: number, types: readonly ShapeType[], changedBy: string | null = null) {
  const column = { name: 'c', number: 1, typeOid, typmod: -1, dimensions: 0, typeName: '', isNotNull: false, generated: '' }
  return relationShape.parse({ oid: 1, schema: 'public', name: 't', replicaIdentity: 'd', columns: [column], types, keys: [], changedBy })
}

const saw = (...types: ShapeType[]) => ({ oids: new Set<number>(), types })
const altered = (...types: ShapeType[]) => ({ oids: new Set([types[0].oid]), types })
const labels = (types: readonly ShapeType[] | null) => types?.find(({ oid }) => oid === MOOD)?.labels?.map(([, label]) => label) ?? null

test.each([
  ['its own', '7', '7:9:', true],
  ['one that ended before', '5', '7:9:', true],
  ['one that ended while others ran', '8', '7:9:7', true],
  ['one that ran', '8', '8:9:8', false],
  ['a later one', '9', '7:9:', false],
  ['what the catalog had before', '<8', '7:9:7', true],
  ['what the catalog had just now', '<9', '9:9:', true],
  ['what the catalog may have had in between', '<9', '7:9:7', false],
])('what a transaction saw: %s', (_, other, snapshot, expected) => {
  expect(isAware({ xid: '7', snapshot, sinceLsn: START, isFresh: false }, other)).toBe(expected)
})

test('of two that altered a type and a table at the same time, each counts for what it altered', () => {
  const types = new ToldTypes(START)
  const known = table(MOOD, [mood('sad')])
  types.note(by('7', 7), altered(mood('sad', 'new')), false)
  expect(labels(types.merge(known.columns, by('8', 8, [7]), saw(mood('sad')), known))).toEqual(['sad', 'new'])
  expect(labels(types.merge(known.columns, by('8', 8), saw(mood('blue', 'new')), known))).toEqual(['blue', 'new'])
  // The first column of the type, and one of a type that holds it.
  const none = table(23, [])
  expect(labels(types.merge(known.columns, by('8', 8, [7]), saw(mood('sad')), none))).toEqual(['sad', 'new'])
  const pairs = table(PAIR, [])
  expect(labels(types.merge(pairs.columns, by('8', 8, [7]), saw(pairOfMoods, mood('sad')), none))).toEqual(['sad', 'new'])
})

test('what a type was made of comes with it', () => {
  const types = new ToldTypes(START)
  const bare = { ...pairOfMoods, attributes: [] }
  const known = table(PAIR, [bare])
  types.note(by('7', 7), altered(pairOfMoods, mood('sad')), false)
  const merged = types.merge(known.columns, by('8', 8, [7]), saw(bare), known)
  expect(merged?.map(({ changedBy, oid }) => [oid, changedBy])).toEqual([
    [PAIR, '7'],
    [MOOD, null],
  ])
})

test('a type that two altered, neither knowing of the other, is in doubt', () => {
  const types = new ToldTypes(START)
  const known = table(MOOD, [{ ...mood('sad'), changedBy: '7' }])
  expect(types.merge(known.columns, by('8', 8, [7]), altered(mood('sad', 'new')), known)).toBeNull()
  expect(labels(types.merge(known.columns, by('8', 8), altered(mood('sad', 'new')), known))).toEqual(['sad', 'new'])
})

test('so is one of which a change may have been rolled back', () => {
  const types = new ToldTypes(START)
  const known = table(23, [])
  types.note(by('7', 7), altered(mood('sad', 'new')), true)
  expect(types.merge(table(MOOD, []).columns, by('8', 8, [7]), saw(mood('sad')), known)).toBeNull()
  expect(labels(types.merge(table(MOOD, []).columns, by('9', 9), saw(mood('sad')), known))).toEqual(['sad'])
})

test('a type that is new to a table is in doubt where somebody may have altered it before the stream, or was forgotten', () => {
  const types = new ToldTypes(START)
  const none = table(23, [])
  const { columns } = table(MOOD, [])
  expect(labels(types.merge(columns, by('8', 8), saw(mood('sad')), none))).toEqual(['sad'])
  expect(types.merge(columns, { ...by('8', 8), sinceLsn: START - 1n }, saw(mood('sad')), none)).toBeNull()
  expect(types.merge(columns, by('8', 8, [], false), saw(mood('sad')), none)).toBeNull()
  const builtIn = { ...mood(), schema: 'pg_catalog' }
  expect(types.merge(columns, by('8', 8, [], false), saw(builtIn), none)).not.toBeNull()
  for (let oid = 20_000; oid <= 21_000; oid++) types.note(by('7', 7), altered(type(oid, { name: 'x', kind: 'e' })), false)
  expect(types.merge(columns, by('8', 8, [7]), saw(mood('sad')), none)).toBeNull()
  expect(labels(types.merge(columns, by('9', 9), saw(mood('sad')), none))).toEqual(['sad'])
})

test('a snapshot as old as its transaction may lack what the catalog had', () => {
  const types = new ToldTypes(START)
  const known = table(MOOD, [mood('sad', 'new')], '<8')
  expect(labels(types.merge(known.columns, by('9', 7, [], false), saw(mood('sad')), known))).toEqual(['sad', 'new'])
  expect(types.merge(known.columns, by('9', 7, [], false), altered(mood('sad', 'blue')), known)).toBeNull()
  expect(labels(types.merge(known.columns, by('9', 9, [], false), saw(mood('sad')), known))).toEqual(['sad'])
})
