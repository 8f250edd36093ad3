import { expect, test } from 'vitest'
import { visible, visibleJson } from './visible.ts'

test('control characters are written out', () => {
  expect(visible('a\u001b[2J\u0007\u009b1mb\n\t\r\u007fé日')).toBe('a\\x1B[2J\\x07\\x9B1mb\\n\\t\\r\\x7Fé日')
  expect(visible(visible('\u001b'))).toBe('\\x1B')
})

test('JSON stays what it is', () => {
  const value = { 'a\u009b': 'b\u007f\u0085\u001b"é' }
  const text = visibleJson(JSON.stringify(value))
  expect(text).not.toMatch(/\p{Control}/u)
  expect(JSON.parse(text)).toEqual(value)
})
