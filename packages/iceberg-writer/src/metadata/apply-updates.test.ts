import type { JsonObject } from '@moonlink/core'
import { expect, test } from 'vitest'
import { applyUpdates } from './apply-updates.ts'
import { newTableMetadata } from './new-table.ts'

const NOW = 1_700_000_000_000
const SCHEMA = {
  type: 'struct',
  fields: [
    { id: 1, name: 'id', required: true, type: 'long' },
    { id: 2, name: 'tags', required: false, type: { type: 'list', 'element-id': 7, element: 'string', 'element-required': false } },
  ],
}
const empty = newTableMetadata({ uuid: 'u-1', location: 'file:///t', schema: SCHEMA, properties: { a: '1' }, nowMs: NOW })

function snapshot(id: number | bigint, sequenceNumber: number, more: Record<string, number | bigint> = {}): JsonObject {
  return {
    'snapshot-id': id,
    'sequence-number': sequenceNumber,
    'timestamp-ms': NOW + sequenceNumber,
    'manifest-list': `file:///t/${id}.avro`,
    summary: { operation: 'append' },
    'schema-id': 0,
    'first-row-id': (sequenceNumber - 1) * 10,
    'added-rows': 10,
    ...more,
  }
}
const add = (item: JsonObject): JsonObject => ({ action: 'add-snapshot', snapshot: item })
const setMain = (id: number | bigint): JsonObject => ({ action: 'set-snapshot-ref', 'ref-name': 'main', type: 'branch', 'snapshot-id': id })
const apply = (metadata: JsonObject, ...updates: JsonObject[]) => applyUpdates(metadata, [], updates, NOW)

const BIG = 9_007_199_254_740_993n
const two = apply(apply(empty, add(snapshot(1, 1)), setMain(1)), add(snapshot(BIG, 2, { 'parent-snapshot-id': 1 })), setMain(BIG))

test('a new table counts nested field ids', () => {
  expect(empty['last-column-id']).toBe(7)
})

test('a snapshot moves sequence number, row ids, main and the log', () => {
  expect(two).toMatchObject({
    'last-sequence-number': 2,
    'next-row-id': 20,
    'current-snapshot-id': BIG,
    refs: { main: { 'snapshot-id': BIG, type: 'branch' } },
    'snapshot-log': [
      { 'snapshot-id': 1, 'timestamp-ms': NOW + 1 },
      { 'snapshot-id': BIG, 'timestamp-ms': NOW + 2 },
    ],
  })
})

test('the input stays as it was', () => {
  expect(empty).toMatchObject({ 'last-sequence-number': 0, snapshots: [], 'current-snapshot-id': null })
})

test('snapshots built on older metadata are conflicts', () => {
  expect(() => apply(two, add(snapshot(5, 2)))).toThrow(expect.objectContaining({ code: 'COMMIT_CONFLICT' }))
  expect(() => apply(two, add(snapshot(5, 3, { 'first-row-id': 19 })))).toThrow(expect.objectContaining({ code: 'COMMIT_CONFLICT' }))
  expect(() => apply(two, add(snapshot(1, 3)))).toThrow(expect.objectContaining({ code: 'UPDATE_INVALID' }))
})

const holding: [JsonObject, JsonObject][] = [
  [
    { type: 'assert-table-uuid', uuid: 'u-1' },
    { type: 'assert-table-uuid', uuid: 'u-2' },
  ],
  [
    { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': BIG },
    { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': BIG - 1n },
  ],
  [
    { type: 'assert-ref-snapshot-id', ref: 'other', 'snapshot-id': null },
    { type: 'assert-ref-snapshot-id', ref: 'main', 'snapshot-id': null },
  ],
  [
    { type: 'assert-last-assigned-field-id', 'last-assigned-field-id': 7 },
    { type: 'assert-last-assigned-field-id', 'last-assigned-field-id': 6 },
  ],
  [
    { type: 'assert-current-schema-id', 'current-schema-id': 0 },
    { type: 'assert-current-schema-id', 'current-schema-id': 1 },
  ],
  [{ type: 'assert-last-assigned-partition-id', 'last-assigned-partition-id': 999 }, { type: 'assert-create' }],
  [
    { type: 'assert-default-spec-id', 'default-spec-id': 0 },
    { type: 'assert-default-spec-id', 'default-spec-id': 3 },
  ],
  [
    { type: 'assert-default-sort-order-id', 'default-sort-order-id': 0 },
    { type: 'assert-default-sort-order-id', 'default-sort-order-id': 3 },
  ],
]

test.each(holding)('requirement %o', (holds, fails) => {
  expect(() => applyUpdates(two, [holds], [], NOW)).not.toThrow()
  expect(() => applyUpdates(two, [holds, fails], [], NOW)).toThrow(expect.objectContaining({ kind: 'conflict', code: 'COMMIT_CONFLICT' }))
})

test('a rollback is logged when it happens, and a removed snapshot takes what led to it out of the log', () => {
  const back = applyUpdates(two, [], [setMain(1)], NOW + 500)
  expect(back['current-snapshot-id']).toBe(1)
  expect((back['snapshot-log'] as readonly JsonObject[]).at(-1)).toEqual({ 'snapshot-id': 1, 'timestamp-ms': NOW + 500 })
  const removed = apply(back, { action: 'remove-snapshots', 'snapshot-ids': [BIG] })
  expect(removed['snapshots']).toHaveLength(1)
  expect(removed['snapshot-log']).toEqual([{ 'snapshot-id': 1, 'timestamp-ms': NOW + 500 }])
  expect(() => apply(two, { action: 'remove-snapshots', 'snapshot-ids': [BIG] })).toThrow(/current one/)
})

test('removing snapshots removes their refs and statistics', () => {
  const tagged = apply(
    two,
    { action: 'set-snapshot-ref', 'ref-name': 'old', type: 'tag', 'snapshot-id': 1, 'max-ref-age-ms': 5 },
    { action: 'set-statistics', statistics: { 'snapshot-id': 1, 'statistics-path': 'file:///s' } },
  )
  expect(tagged['refs']).toMatchObject({ old: { 'snapshot-id': 1, type: 'tag', 'max-ref-age-ms': 5 } })
  const removed = apply(tagged, { action: 'remove-snapshots', 'snapshot-ids': [1] })
  expect(removed['refs']).toEqual({ main: { 'snapshot-id': BIG, type: 'branch' } })
  expect(removed['statistics']).toEqual([])
  expect(apply(tagged, { action: 'remove-snapshot-ref', 'ref-name': 'old' })['refs']).not.toHaveProperty('old')
})

test('schemas, specs, sort orders: ids are given here, -1 is the last one added', () => {
  const schema = { type: 'struct', fields: [{ id: 9, name: 'x', required: false, type: 'int' }] }
  const spec = { fields: [{ 'source-id': 1, 'field-id': 1000, name: 'b', transform: 'bucket[4]' }] }
  const order = { fields: [{ 'source-id': 1, transform: 'identity', direction: 'asc', 'null-order': 'nulls-first' }] }
  const next = apply(
    empty,
    { action: 'add-schema', schema },
    { action: 'set-current-schema', 'schema-id': -1 },
    { action: 'add-spec', spec },
    { action: 'set-default-spec', 'spec-id': -1 },
    { action: 'add-sort-order', 'sort-order': order },
    { action: 'set-default-sort-order', 'sort-order-id': -1 },
  )
  expect(next).toMatchObject({
    'current-schema-id': 1,
    'last-column-id': 9,
    'default-spec-id': 1,
    'last-partition-id': 1000,
    'default-sort-order-id': 1,
  })
  expect(apply(next, { action: 'remove-schemas', 'schema-ids': [0] })['schemas']).toHaveLength(1)
  expect(() => apply(empty, { action: 'set-current-schema', 'schema-id': -1 })).toThrow(/none was/)
  expect(() => apply(empty, { action: 'set-default-spec', 'spec-id': 8 })).toThrow(/no spec-id 8/)
})

test('properties are set and removed, also by their older names', () => {
  const next = apply(
    empty,
    { action: 'set-properties', updates: { b: '2' } },
    { action: 'set-properties', updated: { c: '3' } },
    { action: 'remove-properties', removals: ['a'] },
    { action: 'remove-properties', removed: ['b'] },
  )
  expect(next['properties']).toEqual({ c: '3' })
})

test('what is not known is refused', () => {
  expect(() => apply(empty, { action: 'melt' })).toThrow(expect.objectContaining({ code: 'UPDATE_UNKNOWN' }))
  expect(() => applyUpdates(empty, [{ type: 'assert-mood' }], [], NOW)).toThrow(expect.objectContaining({ code: 'REQUIREMENT_UNKNOWN' }))
})
