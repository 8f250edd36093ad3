import { formatTableName } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { ListedSourceTable } from './parts.ts'
import { chooseTables } from './table-set.ts'

const listed: ListedSourceTable[] = ['a', 'b', 'c'].map((name) => ({
  table: { schema: 'public', name },
  schema: { fields: [], identifierFieldIds: [] },
  appendOnly: false,
  reason: name === 'c' ? 'column "x" has type point' : null,
}))
const names = (wanted: Partial<Parameters<typeof chooseTables>[1]>) =>
  chooseTables(listed, { configured: [], added: [], dropped: [], ...wanted }).map((table) => formatTableName(table.table))

test('every mirrorable table by default, but for those dropped', () => {
  expect(names({})).toEqual(['public.a', 'public.b'])
  expect(names({ dropped: ['public.a'] })).toEqual(['public.b'])
})

test('those named, and those added later', () => {
  expect(names({ configured: ['public.b'] })).toEqual(['public.b'])
  expect(names({ configured: ['public.b'], added: ['public.a'], dropped: ['public.b'] })).toEqual(['public.a'])
})

test('a named table must be there and be mirrorable', () => {
  expect(() => names({ configured: ['public.aa'] })).toThrow('did you mean public.a?')
  expect(() => names({ configured: ['public.c'] })).toThrow('column "x" has type point')
})
