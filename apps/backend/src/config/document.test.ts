import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { configurationDocument } from './document.ts'

test('the committed documentation is that of the schema', () => {
  expect(readFileSync(join(import.meta.dirname, '../../../../docs/CONFIGURATION.md'), 'utf8')).toBe(configurationDocument())
})
