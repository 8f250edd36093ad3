import { formatTableName } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { ListedSourceTable } from './parts.ts'
import { chooseTables, listWith } from './table-set.ts'

const listed: ListedSourceTable[] = ['a', 'b', 'c'].map((name) => ({
  table: { schema: 'public', name },
  schema: { fields: [], identifierFieldIds: [] },
  sourceState: null,
  appendOnly: false,
  notes: [],
  refusal: name === 'c' ? { code: 'COLUMN_TYPE', reason: 'column "x" has type point' } : null,
}))
const names = (wanted: Partial<Parameters<typeof chooseTables>[1]>) =>
  chooseTables(listed, { configured: [], added: [], dropped: [], known: [], ...wanted }).chosen.map((table) => formatTableName(table.table))

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

test('one that was mirrored before does not stop the others', () => {
  const wanted = { configured: ['public.a', 'public.c', 'public.gone'], added: [], dropped: [], known: ['public.c', 'public.gone'] }
  const { chosen, refused } = chooseTables(listed, wanted)
  expect(chosen.map((table) => table.table.name)).toEqual(['a'])
  expect([...refused.keys()]).toEqual(['public.c', 'public.gone'])
})

test('where none is named, one that was mirrored before and can not be any more is not forgotten', () => {
  const wanted = { configured: [], added: [], dropped: ['public.old'], known: ['public.a', 'public.c', 'public.gone', 'public.old'] }
  const { chosen, refused } = chooseTables(listed, wanted)
  expect(chosen.map((table) => table.table.name)).toEqual(['a', 'b'])
  expect([...refused.keys()]).toEqual(['public.c', 'public.gone'])
  expect(refused.get('public.gone')).toMatch(/^TABLE_UNKNOWN .*moonlink tables drop public\.gone ends its mirroring/)
})

test('what is named and is no table is refused for what it is', async () => {
  const view = { ...listed[2], table: { schema: 'public', name: 'a.view' }, refusal: { code: 'TABLE_UNSUPPORTED', reason: 'it is a view' } }
  const source = { listTables: async (only?: readonly unknown[]) => (only === undefined ? listed : [view]) }
  expect(await listWith(source, ['public.a'])).toBe(listed)
  const all = await listWith(source, ['public.a', 'public.a.view'])
  expect(() => chooseTables(all, { configured: ['public.a.view'], added: [], dropped: [], known: [] })).toThrow('it is a view')
})
