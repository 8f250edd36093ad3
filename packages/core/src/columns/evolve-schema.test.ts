import { expect, test } from 'vitest'
import type { Field, TableSchema } from '../types.ts'
import { evolveSchema } from './evolve-schema.ts'

const int: Field = { id: 1, name: 'id', type: { kind: 'int' }, required: true }
const text: Field = { id: 2, name: 'a', type: { kind: 'string' }, required: false }
const schema = (...fields: Field[]): TableSchema => ({ fields, identifierFieldIds: [1] })

test('columns are renamed, widened, dropped and added', () => {
  const added: Field = { id: 3, name: 'a', type: { kind: 'boolean' }, required: true }
  const before = schema({ ...int, initialDefault: 7 }, text)
  expect(evolveSchema(before, schema({ ...int, type: { kind: 'long' } }, { ...text, name: 'b', required: true }, added))).toEqual(
    schema({ ...int, type: { kind: 'long' }, initialDefault: 7n }, { ...text, name: 'b' }, { ...added, required: false }),
  )
  expect(evolveSchema(before, schema(int))).toEqual(schema({ ...int, initialDefault: 7 }))
})

test('a type that old values are none of is not taken on', () => {
  expect(evolveSchema(schema(int, text), schema({ ...int, type: { kind: 'string' } }, text))).toBeNull()
  expect(evolveSchema(schema({ ...int, type: { kind: 'long' } }), schema(int))).toBeNull()
})
