import { expect, test } from 'vitest'
import { canonicalTableName, formatTableName, parseTableName } from './table-name.ts'

const parts = ['orders', 'a', 'a.b', 'b.c', '.', '"', '""', '"a"', '"a".b', 'a"b', 'Ä.ß', 'a b', "it's", '\n', '".', '."', 'Orders']

test('no two tables are written alike, and each is read as it was written', () => {
  const tables = parts.flatMap((schema) => parts.map((name) => ({ schema, name })))
  const texts = tables.map(formatTableName)
  expect(new Set(texts).size).toBe(tables.length)
  for (const [index, text] of texts.entries()) {
    expect(parseTableName(text)).toEqual(tables[index])
    expect(canonicalTableName(text)).toBe(text)
  }
})

test('quotes are written where they are needed alone, and read anywhere', () => {
  expect(formatTableName({ schema: 'public', name: 'Big.table "x"' })).toBe('public.Big.table "x"')
  expect(formatTableName({ schema: 'a.b', name: 'c' })).toBe('"a.b".c')
  expect(canonicalTableName('"public"."orders"')).toBe('public.orders')
  expect(canonicalTableName('public."b.c"')).toBe('public.b.c')
  expect(canonicalTableName('"a""b"."c"')).toBe('a"b.c')
  expect(parseTableName('a.b.c')).toEqual({ schema: 'a', name: 'b.c' })
})

test.each(['orders', '', '.', 'a.', '.a', '"a.b', '"".x', 'a.""', '"a"b.c', 'a."b"c', 'a."b'])('%j is no table name', (text) => {
  expect(() => parseTableName(text)).toThrow('is not a table name; write schema.name, as in public.orders.')
})
