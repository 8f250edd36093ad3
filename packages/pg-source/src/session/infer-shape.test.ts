import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Relation } from '../decode/index.ts'
import { isSeen } from './catalog-look.ts'
import { inferShape } from './infer-shape.ts'
import { relationShape, type RelationShape } from './relation-shape.ts'

interface Change {
  readonly kind: 'add' | 'drop' | 'rename' | 'retype' | 'rewrite' | 'truncate'
  readonly of: number
  readonly to: string
  readonly typeOid: number
}

const names = ['a', 'b', 'c']
const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('add', 'add', 'drop', 'rename', 'retype', 'rewrite', 'truncate'),
  of: fc.nat(9),
  to: fc.constantFrom(...names),
  typeOid: fc.constantFrom(25, 1043),
})

const column = (number: number, name: string, typeOid: number, stamp: number, missing: string | null = null) => ({
  name,
  number,
  typeOid,
  typmod: -1,
  dimensions: 0,
  typeName: 'text',
  isNotNull: false,
  generated: '',
  missing,
  isMissingMixed: false,
  stamp: String(stamp),
})

const FIRST = relationShape.parse({
  oid: 1,
  schema: 'public',
  name: 't',
  replicaIdentity: 'd',
  filenode: 1,
  attributeCount: 2,
  types: [],
  columns: [column(1, 'id', 23, 0), column(2, 'a', 25, 0)],
  keys: [{ isPrimary: true, isReplicaIdentity: false, isImmediate: true, columns: [1] }],
})

/** The table after a change, and whether that computed values of columns anew. The key stays. */
function altered(
  shape: RelationShape,
  { kind, of, to, typeOid }: Change,
  stamp: number,
): { readonly shape: RelationShape; readonly computes: boolean } {
  const { attributeCount, columns } = shape
  const others = columns.filter(({ number }) => number > 1)
  const chosen = others[of % Math.max(1, others.length)]
  const isTaken = columns.some(({ name }) => name === to)
  const same = { shape, computes: false }
  if (kind === 'truncate') return { shape: { ...shape, filenode: stamp }, computes: false }
  if (kind === 'add') {
    if (isTaken) return same
    const added = column(attributeCount + 1, to, typeOid, stamp, of % 2 === 0 ? `default ${stamp}` : null)
    return { shape: { ...shape, attributeCount: attributeCount + 1, columns: [...columns, added] }, computes: false }
  }
  if (chosen === undefined) return same
  const replaced = (more: Partial<typeof chosen>) =>
    columns.map((known) => (known === chosen ? { ...known, ...more, stamp: String(stamp) } : known))
  if (kind === 'drop') return { shape: { ...shape, columns: columns.filter((known) => known !== chosen) }, computes: false }
  if (kind === 'rename') return isTaken ? same : { shape: { ...shape, columns: replaced({ name: to }) }, computes: false }
  if (kind === 'retype') return { shape: { ...shape, columns: replaced({ typeOid }) }, computes: false }
  // It takes what older rows lack into the rows.
  const rewritten = replaced({}).map((one) => ({ ...one, missing: null }))
  return { shape: { ...shape, filenode: stamp, columns: rewritten }, computes: true }
}

function message({ columns, name, oid, replicaIdentity, schema }: RelationShape): Relation {
  return { oid, schema, name, replicaIdentity, columns: columns.map((known) => ({ ...known, isKey: known.number === 1 })) }
}

const seen = { certain: 0, uncertain: 0 }

test('whatever happened before and after a Relation message, what is inferred is what was, and no value computed anew is taken for the old one', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), fc.array(change, { maxLength: 3 }), (before, after) => {
      let then = FIRST
      let computes = false
      const play = (changes: readonly Change[], from: number) => {
        let shape = then
        for (const [index, next] of changes.entries()) {
          const done = altered(shape, next, from + index)
          shape = done.shape
          computes ||= done.computes
        }
        return shape
      }
      then = play(before, 10)
      const isComputedBefore = computes
      const now = play(after, 20)
      const inferred = inferShape({ before: FIRST, relation: message(then), now, sends: () => true })
      if (!inferred.isCertain) return void seen.uncertain++
      seen.certain++
      const told = ({ columns }: RelationShape) => columns.map(({ name, number, typeOid }) => [number, name, typeOid])
      expect(told(inferred.shape)).toEqual(told(then))
      const missing = ({ columns }: RelationShape) =>
        columns.filter(({ number }) => number > FIRST.attributeCount).map((one) => one.missing)
      if (inferred.doubt === null) expect(missing(inferred.shape)).toEqual(missing(then))
      if (isComputedBefore && inferred.doubt === null) {
        // What was computed is in a column that is gone by now.
        const stamps = new Map(FIRST.columns.map(({ number, stamp }) => [number, stamp]))
        expect(then.columns.every(({ number, stamp }) => stamps.get(number) === stamp)).toBe(true)
      }
    }),
    { numRuns: 3000 },
  )
  // Neither all nor nothing is left undecided.
  expect(seen.certain).toBeGreaterThan(1000)
  expect(seen.uncertain).toBeGreaterThan(100)
})

const add: Change = { kind: 'add', of: 0, to: 'c', typeOid: 25 }

test('one message after the other leads to the same shape as the table', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 8 }), fc.nat(8), (changes, lag) => {
      const shapes = [FIRST]
      for (const [index, next] of changes.entries()) shapes.push(altered(shapes[index], next, 10 + index).shape)
      let before = FIRST
      for (const [index, then] of shapes.entries()) {
        const now = shapes[Math.min(shapes.length - 1, index + lag)]
        const inferred = inferShape({ before, relation: message(then), now, sends: () => true })
        if (!inferred.isCertain) return
        expect(inferred.shape.columns.map(({ name, number }) => [number, name])).toEqual(
          then.columns.map(({ name, number }) => [number, name]),
        )
        before = inferred.shape
      }
    }),
    {
      numRuns: 3000,
      examples: [[[add, { ...add, kind: 'drop', of: 1 }, add], 2]],
    },
  )
})

test('a column that was not sent and is gone by now may have been sent in between', () => {
  const before = { ...FIRST, columns: [FIRST.columns[0], { ...FIRST.columns[1], generated: 's' }] }
  const added = column(3, 'a', 25, 7, 'default')
  const now = { ...FIRST, attributeCount: 3, columns: [FIRST.columns[0], added] }
  const sends = ({ generated }: { generated: string }) => generated === ''
  expect(inferShape({ before, relation: message(FIRST), now, sends }).isCertain).toBe(false)
})

test('whole rows name rows where an index did: it is followed, with the primary key that the table had and has; another one is not guessed', () => {
  const index = { isPrimary: false, isReplicaIdentity: true, isImmediate: true, columns: [2] }
  const before: RelationShape = { ...FIRST, replicaIdentity: 'i', keys: [...FIRST.keys, index] }
  const infer = (keys: RelationShape['keys']) => {
    const now: RelationShape = { ...before, replicaIdentity: 'f', keys }
    const relation = { ...message(now), columns: now.columns.map((known) => ({ ...known, isKey: true })) }
    return inferShape({ before, relation, now, sends: () => true })
  }
  expect(infer(before.keys)).toMatchObject({ isCertain: true, doubt: null, shape: { replicaIdentity: 'f' } })
  expect(infer([{ ...FIRST.keys[0], columns: [2] }, index])).toMatchObject({ isCertain: false })
})

test.each([
  [100, '90:101:', true],
  [100, '90:100:', false],
  [100, '90:105:95,100', false],
  [100, '90:105:95,101', true],
  [100, `${2n ** 32n + 90n}:${2n ** 32n + 105n}:${2n ** 32n + 100n}`, false],
  [4294967290, `${2n ** 32n - 9n}:${2n ** 32n + 5n}:`, true],
  [3, `${2n ** 32n - 9n}:${2n ** 32n + 2n}:`, false],
])('transaction %d in snapshot %s: %s', (xid, snapshot, expected) => {
  expect(isSeen(xid, snapshot)).toBe(expected)
})
