import type { Field, FieldType, TableSchema } from '@moonlink/core'
import { expect, test } from 'vitest'
import { lastColumnId, schemaFromJson, schemaToJson } from './schema-json.ts'

const KINDS = ['boolean', 'int', 'long', 'float', 'double', 'date', 'time', 'timestamp', 'timestamptz', 'string', 'uuid', 'binary'] as const

test('schemas survive the way to JSON and back', () => {
  const fields: Field[] = KINDS.map((kind, index) => ({ id: index + 1, name: kind, type: { kind }, required: index % 2 === 0 }))
  fields.push({ id: 20, name: 'd', type: { kind: 'decimal', precision: 38, scale: 10 }, required: true })
  fields.push({ id: 21, name: 'f', type: { kind: 'fixed', length: 3 }, required: false })
  fields.push({
    id: 22,
    name: 'l',
    type: { kind: 'list', elementId: 30, element: { kind: 'int' }, elementRequired: false },
    required: false,
  })
  const part: Field = { id: 41, name: 'street', type: { kind: 'string' }, required: false }
  const list: FieldType = {
    kind: 'list',
    elementId: 43,
    element: { kind: 'struct', fields: [{ ...part, id: 44 }] },
    elementRequired: false,
  }
  fields.push({ id: 23, name: 's', type: { kind: 'struct', fields: [part, { ...part, id: 42, name: 'l', type: list }] }, required: false })
  const schema: TableSchema = { fields, identifierFieldIds: [3, 20] }
  const json = schemaToJson(schema)
  expect(schemaFromJson(json)).toEqual(schema)
  expect(lastColumnId(json)).toBe(44)
  expect(json['fields']).toContainEqual({ id: 20, name: 'd', required: true, type: 'decimal(38, 10)' })
})

test('a key that Iceberg would refuse is not declared', () => {
  const field = (kind: 'double' | 'long', required: boolean): Field => ({ id: 1, name: 'k', type: { kind }, required })
  expect(schemaToJson({ fields: [field('double', true)], identifierFieldIds: [1] })).not.toHaveProperty('identifier-field-ids')
  expect(schemaToJson({ fields: [field('long', false)], identifierFieldIds: [1] })).not.toHaveProperty('identifier-field-ids')
  expect(schemaToJson({ fields: [field('long', true)], identifierFieldIds: [1] })).toHaveProperty('identifier-field-ids', [1])
})

test.each(['unknown', 'timestamp_ns', { type: 'struct', fields: [] }])('a column of type %o is refused by name', (type) => {
  const json = { type: 'struct', fields: [{ id: 1, name: 'strange', required: false, type }] }
  expect(() => schemaFromJson(json)).toThrow(/"strange"/)
})
