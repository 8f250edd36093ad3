import { expect, test } from 'vitest'
import { textTable } from './text-table.ts'

test('columns are aligned, and the rule ends with them', () => {
  expect(
    textTable(
      ['name', 'n'],
      [
        ['a', '1'],
        ['日本', '20'],
      ],
      new Set([1]),
    ),
  ).toEqual(['name   n', '────────', 'a      1', '日本  20'])
})

test('a rule is not drawn as wide as a long text in the last column', () => {
  const [header, rule, row] = textTable(['table', 'reason'], [['public.a', 'x'.repeat(300)]])
  expect(header).toBe('table     reason')
  expect(rule).toBe('─'.repeat('public.a'.length + 2 + 60))
  expect(row).toHaveLength('public.a'.length + 2 + 300)
})
