import { readFileSync } from 'node:fs'
import { expect, expectTypeOf, test } from 'vitest'
import type { z } from 'zod'
import { parseConfig, pgSourceConfig, type PgSourceConfig } from './config.ts'
import { connectionParts, type ConnectionParts } from './connection-config.ts'

test('a configuration has the keys that it is checked for', () => {
  expectTypeOf<keyof PgSourceConfig>().toEqualTypeOf<keyof z.input<typeof pgSourceConfig>>()
  expectTypeOf<keyof ConnectionParts>().toEqualTypeOf<keyof z.input<typeof connectionParts>>()
})

test('every key has a text, and the default that this names', () => {
  const source = readFileSync(new URL(import.meta.resolve('./config.ts')), 'utf8')
  const texts = new Map(Array.from(source.matchAll(/\/\*\* (.*) \*\/\n {2}readonly (\w+)/g), ([, text, key]) => [key, text]))
  expect([...texts.keys()]).toEqual(Object.keys(pgSourceConfig.shape))
  const defaults = Object.entries(parseConfig({ connection: '' })).filter(([key]) => key !== 'connection')
  for (const [key, value] of defaults) expect(texts.get(key), key).toMatch(new RegExp(` Default: ${defaultText(value)}\\.$`))
})

function defaultText(value: unknown): string {
  if (typeof value === 'object') return 'none'
  if (typeof value === 'number' && value >= 2 ** 20) return `${value / 2 ** 20} MiB`
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
}
