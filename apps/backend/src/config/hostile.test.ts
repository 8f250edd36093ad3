import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMoonlinkError } from '@moonlink/core'
import { fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { settingKeys, type SettingKey } from './keys.ts'
import { setKey, type Settings } from './layers.ts'
import { loadConfig } from './load.ts'
import { parseBytes, parseDurationMs } from './units.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-config-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
const file = join(directory, 'moonlink.yaml')
const ODD = [
  null,
  true,
  -1,
  0.5,
  1e300,
  2 ** 53,
  '',
  ' ',
  'x',
  '-5s',
  '9e9d',
  '9'.repeat(400),
  'a\u0000b',
  [],
  [null],
  [5],
  [[]],
  {},
  { x: 1 },
  '${HOME}',
]

interface Outcome {
  readonly value: unknown
  readonly message: string | null
}

/** What a setting became, or the message that refused it. */
function outcome(setting: SettingKey, load: () => ReturnType<typeof loadConfig>): Outcome {
  try {
    const { config } = load()
    return { value: setting.key.split('.').reduce<unknown>((at, part) => (at as Settings)[part], config), message: null }
  } catch (error) {
    if (!isMoonlinkError(error, 'invalid')) throw error
    expect(error.message).not.toContain('\n')
    expect(error.message.length).toBeLessThan(1000)
    return { value: undefined, message: error.message }
  }
}

function inFile(setting: SettingKey, value: unknown): Outcome {
  const settings: Settings = {}
  setKey(settings, setting.key, value)
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(settings))
  return outcome(setting, () => loadConfig({ file, environment: {}, flags: {}, workingDirectory: directory }))
}

/** What a setting of such a type may be in the end. */
function isOfType({ type, key }: SettingKey, value: unknown): boolean {
  if (value === undefined) return true
  if (type === 'size' || type === 'time' || type === 'integer') return Number.isSafeInteger(value) && (value as number) >= 0
  if (type === 'number') return typeof value === 'number' && value >= 0 && value <= 1
  if (type === 'true \\| false') return typeof value === 'boolean'
  if (type === 'list') return Array.isArray(value) && value.every((item) => typeof item === 'string')
  if (type === 'map') return typeof value === 'object' && value !== null && !Array.isArray(value)
  return typeof value === 'string' || (key === 'warehouse' && value === null)
}

/** Only these make sense of a text that is a number, of a number that is a text, and so on. */
const isKept = (given: unknown, value: unknown) =>
  value === given ||
  parseBytes(String(given)) === value ||
  parseDurationMs(String(given)) === value ||
  JSON.stringify(value) === JSON.stringify(given)

test.each(settingKeys().map((setting) => [setting.key, setting] as const))(
  '%s: a value of any kind is taken as it is or refused by name',
  (key, setting) => {
    for (const odd of ODD) {
      const { value, message } = inFile(setting, odd)
      const what = `${JSON.stringify(odd)} became ${JSON.stringify(value)}`
      if (message !== null) expect(message, what).toContain(key)
      else {
        expect(isOfType(setting, value), what).toBe(true)
        if (['integer', 'number', 'size', 'time', 'true \\| false'].includes(setting.type)) expect(isKept(odd, value), what).toBe(true)
      }
      const text = typeof odd === 'string' ? odd : JSON.stringify(odd)
      const environment = { [setting.variable]: text.replaceAll('\u0000', '') }
      const fromEnvironment = outcome(setting, () => loadConfig({ environment, flags: {}, workingDirectory: '/nowhere' }))
      if (fromEnvironment.message === null) expect(isOfType(setting, fromEnvironment.value), `${setting.variable}=${text}`).toBe(true)
      else expect(fromEnvironment.message).toContain(key)
    }
  },
)

test('a section that is none is refused by name', () => {
  for (const section of new Set(settingKeys().map(({ key }) => key.split('.')[0]))) {
    for (const odd of [null, 'x', 5, [], [{}]]) {
      writeFileSync(file, JSON.stringify({ [section]: odd }))
      try {
        loadConfig({ file, environment: {}, flags: {}, workingDirectory: directory })
      } catch (error) {
        if (!isMoonlinkError(error, 'invalid')) throw error
        expect(error.message).toContain(section)
      }
    }
  }
})

test('any text is a configuration or is refused in one line', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'source',
      'flush:',
      '\n',
      '  ',
      ': ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '&a ',
      '*a',
      '<<: *a',
      '!!js/function ',
      '|\n',
      '%YAML 9\n',
      '---\n',
      '__proto__: ',
      '"',
      '? ',
    ),
    fc.string({ maxLength: 6, unit: 'binary' }),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      writeFileSync(file, pieces.join(''))
      try {
        loadConfig({ file, environment: {}, flags: {}, workingDirectory: directory })
      } catch (error) {
        if (!isMoonlinkError(error, 'invalid')) throw error
        expect(error.message).not.toContain('\n')
      }
    }),
    { ...fuzzing(300), examples: [[['? ', '? ', '\n']]] },
  )
})

test('a document that grows without end when it is read is refused', () => {
  const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
  for (let level = 1; level < 30; level++) lines.push(`a${level}: &a${level} [${`*a${level - 1}, `.repeat(10)}]`)
  writeFileSync(file, lines.join('\n'))
  expect(() => loadConfig({ file, environment: {}, flags: {}, workingDirectory: directory })).toThrow(
    expect.objectContaining({ kind: 'invalid', code: 'CONFIG_UNREADABLE' }),
  )
})

test('settings named like what every object has are settings, and change no object', () => {
  for (const key of ['__proto__.x', 'constructor.prototype.x', 'toString.x', '__proto__']) {
    const flags: Settings = {}
    setKey(flags, key, 1)
    expect(() => loadConfig({ environment: {}, flags, workingDirectory: '/nowhere' }), key).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(key.split('.')[0]) }),
    )
    expect(({} as { x?: unknown }).x).toBeUndefined()
  }
})
