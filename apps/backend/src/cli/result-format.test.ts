import { expect, test } from 'vitest'
import type { JsonValue } from '@moonlink/core'
import { resultPrinter, type ResultFormat } from './result-format.ts'
import { textWidth } from './text-table.ts'

function print(format: ResultFormat, rows: JsonValue[][]): string {
  const printer = resultPrinter(format)
  const columns = [
    { name: 'id', type: 'BIGINT' },
    { name: 'a "name"', type: 'VARCHAR' },
  ]
  return printer.begin(columns) + rows.map((row) => printer.row(row)).join('') + printer.end()
}

const rows: JsonValue[][] = [
  [1, 'plain'],
  [9007199254740993n, 'with, "both"\n'],
  [null, ''],
  [-2, null],
]

test('csv quotes what needs it and tells NULL from empty', () => {
  expect(print('csv', rows)).toBe('id,"a ""name"""\n1,plain\n9007199254740993,"with, ""both""\n"\n,""\n-2,\n')
})

test('json keeps every digit', () => {
  const text = print('json', rows)
  expect(text).toContain('{"id":9007199254740993,')
  expect(JSON.parse(text)).toHaveLength(4)
  expect(JSON.parse(print('json', []))).toEqual([])
})

test('json keeps columns of one name apart, as DuckDB names them', () => {
  const printer = resultPrinter('json')
  const columns = ['a', 'b', 'a', 'a_1', 'a', '__proto__', '__proto__'].map((name) => ({ name, type: 'INTEGER' }))
  const text = printer.begin(columns) + printer.row([1, 2, 3, 4, 5, 6, 7]) + printer.end()
  expect(text).toBe('[\n{"a":1,"b":2,"a_2":3,"a_1":4,"a_3":5,"__proto__":6,"__proto___1":7}\n]\n')
})

test('a plan is shown as it is drawn', () => {
  const printer = resultPrinter('table')
  const begun = printer.begin([
    { name: 'explain_key', type: 'VARCHAR' },
    { name: 'explain_value', type: 'VARCHAR' },
  ])
  const row = printer.row(['physical_plan', '┌───┐\n│ \u001b │\n└───┘\n'])
  expect(begun + row + printer.end()).toBe('┌───┐\n│ \\x1B │\n└───┘\n')
})

test('a table aligns numbers to the right and shows no control characters', () => {
  const lines = print('table', [...rows, [5, '\u001b[2J日本']]).split('\n')
  expect(lines[2]).toBe('               1  plain')
  expect(lines.join('\n')).not.toContain('\u001b')
  expect(lines[3]).toContain('with, "both"\\n')
  expect(lines.at(-2)).toBe('(5 rows)')
  expect(textWidth('日本')).toBe(4)
})

test('where there is little room, wide text is cut with a mark, numbers are not; only in a table', () => {
  const wide: JsonValue[][] = [
    [1234567890123456789n, 'x'.repeat(100)],
    [2, '日本語'.repeat(9)],
  ]
  const printed = (format: ResultFormat, room?: number) => {
    const printer = resultPrinter(format, room)
    const columns = [
      { name: 'id', type: 'BIGINT' },
      { name: 'text', type: 'VARCHAR' },
    ]
    return printer.begin(columns) + wide.map((row) => printer.row(row)).join('') + printer.end()
  }
  const lines = printed('table', 40).split('\n')
  for (const line of lines.slice(0, 4)) expect(textWidth(line)).toBeLessThanOrEqual(40)
  expect(lines[2]).toBe(`1234567890123456789  ${'x'.repeat(18)}…`)
  expect(lines[3]).toBe('                  2  日本語日本語日本語…')
  expect(lines[4]).toBe('(2 rows; cells that end in … are cut to fit, --format csv or json has them whole)')
  expect(printed('table', 200)).toBe(printed('table'))
  expect(printed('csv', 40)).toBe(printed('csv'))
  expect(printed('json', 40)).toBe(printed('json'))
})

test('the names of columns do not drive the terminal either', () => {
  const printer = resultPrinter('table')
  expect(printer.begin([{ name: '\u001b[2J', type: 'VARCHAR' }]) + printer.end()).not.toContain('\u001b')
})
