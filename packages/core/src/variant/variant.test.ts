import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteSink } from '../byte-sink.ts'
import { isMoonlinkError } from '../errors.ts'
import { jsonbFitsVariant } from './jsonb-fits.ts'
import { VariantDecoder } from './variant-decoder.ts'
import { VariantEncoder } from './variant-encoder.ts'
import { jsonbText, readVariant, type Tree } from './variant.test.support.ts'

const encoder = new VariantEncoder()
const decoder = new VariantDecoder()

function encode(text: string): { readonly metadata: Uint8Array; readonly value: Uint8Array } {
  const bytes = new TextEncoder().encode(`..${text}..`)
  encoder.metadata.length = 0
  encoder.values.length = 0
  encoder.append(bytes, 2, bytes.length - 2)
  return { metadata: encoder.metadata.written().slice(), value: encoder.values.written().slice() }
}

function decode({ metadata, value }: { readonly metadata: Uint8Array; readonly value: Uint8Array }): string {
  const text = new ByteSink()
  decoder.append(metadata, 0, metadata.length, value, 0, value.length, text)
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text.written())
}

const read = (text: string): Tree => {
  const { metadata, value } = encode(text)
  return readVariant(metadata, value)
}

const strings = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 8 }).filter((text) => !text.includes('\0')),
  fc.constantFrom(
    '',
    'a',
    'id',
    'name',
    '"',
    '\\',
    '\b\f\n\r\t\u0001\u001f',
    'é',
    '😀',
    'ab',
    '\u007f',
    'x'.repeat(63),
    'x'.repeat(64),
    'ü'.repeat(300),
    '\ufeff',
  ),
)
const digits = fc.stringMatching(/^(0|[1-9][0-9]{0,37})$/)
const numbers = fc
  .tuple(fc.boolean(), digits, fc.oneof(fc.constant(''), fc.stringMatching(/^[0-9]{1,38}$/)))
  .map(([isNegative, whole, fraction]) => {
    const kept = fraction.slice(0, whole === '0' ? 38 : Math.max(0, 38 - whole.length))
    const isZero = /^0*$/.test(whole + kept)
    return { number: `${isNegative && !isZero ? '-' : ''}${whole}${kept === '' ? '' : `.${kept}`}`, type: '' }
  })
const { tree: trees } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<Tree>(null, true, false),
    strings,
    numbers,
    fc.array(tie('tree'), { maxLength: 6 }),
    fc.dictionary(strings, tie('tree'), { maxKeys: 6, noNullPrototype: true }).map((record): Tree => new Map(Object.entries(record))),
  ),
}))

/** The tree with numbers as text alone. */
function plain(tree: Tree): unknown {
  if (tree instanceof Map)
    return [...(tree as ReadonlyMap<string, Tree>)]
      .map(([key, value]) => [key, plain(value)] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  if (Array.isArray(tree)) return (tree as readonly Tree[]).map(plain)
  return tree !== null && typeof tree === 'object' ? `#${(tree as { number: string }).number}` : tree
}

/** Some other JSON text of the tree: white space, other escapes, keys in their own order. */
function loose(tree: Tree, space: string): string {
  const escaped = (text: string) =>
    `"${text
      .replaceAll(/[^ !#-[\]-~]/gu, (char) =>
        char
          .split('')
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
          .join(''),
      )
      .replaceAll('/', '\\/')}"`
  if (tree === null || typeof tree === 'boolean') return space + String(tree) + space
  if (typeof tree === 'string') return escaped(tree)
  if (Array.isArray(tree)) return `[${space}${(tree as readonly Tree[]).map((part) => loose(part, space)).join(`${space},`)}${space}]`
  if (tree instanceof Map)
    return `{${space}${[...(tree as ReadonlyMap<string, Tree>)].map(([key, value]) => `${escaped(key)}${space}:${loose(value, space)}`).join(',')}${space}}`
  return (tree as { number: string }).number
}

describe('any JSON', () => {
  test('is read by a reader of the specification as what it was, and comes back as Postgres prints it', () => {
    fc.assert(
      fc.property(trees, fc.constantFrom('', ' ', '\n\t\r '), (tree, space) => {
        const canonical = jsonbText(tree)
        for (const text of [canonical, loose(tree, space)]) {
          const variant = encode(text)
          expect(plain(readVariant(variant.metadata, variant.value))).toEqual(plain(tree))
          expect(decode(variant)).toBe(canonical)
        }
        const bytes = new TextEncoder().encode(canonical)
        expect(jsonbFitsVariant(bytes, 0, bytes.length)).toBe(true)
      }),
      { numRuns: 400 },
    )
  })

  test('of great depth and of many keys', () => {
    const deep = `${'[{"a": '.repeat(3000)}1${'}]'.repeat(3000)}`
    expect(decode(encode(deep))).toBe(deep)
    for (const count of [25, 255, 256, 66_000]) {
      const keys = Array.from({ length: count }, (_, index) => `k${(index * 7919) % count}`).map(
        (key) => [Buffer.byteLength(key), key] as const,
      )
      const sorted = keys.toSorted(([a, x], [b, y]) => a - b || (x < y ? -1 : 1)).map(([, key]) => key)
      const canonical = `{${sorted.map((key) => `"${key}": "${key}"`).join(', ')}}`
      const variant = encode(`{${keys.map(([, key]) => `"${key}":"${key}"`).join()}}`)
      expect(decode(variant)).toBe(canonical)
      expect((readVariant(variant.metadata, variant.value) as Map<string, Tree>).size).toBe(count)
      expect(decode(encode(`[${sorted.map((key) => `"${key}"`).join(', ')}]`))).toBe(`[${sorted.map((key) => `"${key}"`).join(', ')}]`)
    }
  })
})

test.each([
  ['0', '0', 'int8'],
  ['-0', '0', 'int8'],
  ['127', '127', 'int8'],
  ['-128', '-128', 'int8'],
  ['128', '128', 'int16'],
  ['-32769', '-32769', 'int32'],
  ['2147483648', '2147483648', 'int64'],
  ['-9007199254740993', '-9007199254740993', 'int64'],
  ['9223372036854775807', '9223372036854775807', 'int64'],
  ['-9223372036854775808', '-9223372036854775808', 'int64'],
  ['9223372036854775808', '9223372036854775808', 'decimal16'],
  ['1e2', '100', 'int8'],
  ['1E+18', '1000000000000000000', 'int64'],
  ['1.50', '1.50', 'decimal4'],
  ['-0.0', '0.0', 'decimal4'],
  ['1.0e1', '10', 'int8'],
  ['12e-1', '1.2', 'decimal4'],
  ['0e10', '0', 'int8'],
  ['999999999.9', '999999999.9', 'decimal8'],
  ['-123456789012345.678', '-123456789012345.678', 'decimal8'],
  ['1234567890123456.789', '1234567890123456.789', 'decimal16'],
  ['0.0000000001', '0.0000000001', 'decimal8'],
  ['1e37', '1' + '0'.repeat(37), 'decimal16'],
  ['-99999999999999999999999999999999999999', '-99999999999999999999999999999999999999', 'decimal16'],
  ['1e-38', '0.' + '0'.repeat(37) + '1', 'decimal16'],
])('the number %s is %s, as %s', (text, printed, type) => {
  expect(read(text)).toEqual({ number: printed, type })
  expect(decode(encode(text))).toBe(printed)
})

test.each([
  ['1e38', 'more than 38 digits'],
  ['1e400', 'more than 38 digits'],
  ['1e-39', 'more than 38 behind its point'],
  ['0.000000000000000000000000000000000000000', 'more than 38 behind its point'],
  ['{"a": [12345678901234567890123456789012345678.9]}', 'more than 38 digits'],
  [`1e${'9'.repeat(400)}`, 'more than 38 digits'],
  ['{"a": 1, "b": {"c": 1, "c": 1}}', 'the key "c" twice'],
  ['{"a": 1, "\\u0061": 2}', 'the key "a" twice'],
  ['"\\u0000"', 'u0000'],
  ['"\\ud800"', 'surrogate'],
  ['"\\ud800\\u0041"', 'surrogate'],
  ['"\\udc00"', 'surrogate'],
])('%s has no exact form, and nothing of it is kept', (text, problem) => {
  const kept = encode('[1]')
  encoder.metadata.length = 0
  encoder.values.length = 0
  const bytes = new TextEncoder().encode(`[1]${text}`)
  encoder.append(bytes, 0, 3)
  expect(() => encoder.append(bytes, 3, bytes.length)).toThrow(
    expect.objectContaining({ code: 'VARIANT_UNFIT', message: expect.stringContaining(problem) as string }),
  )
  expect([encoder.metadata.written(), encoder.values.written()]).toEqual([kept.metadata, kept.value])
})

test.each(['1e38', '[1, "2", -0.000000000000000000000000000000000000001]', '{"1": 123456789012345678901234567890123456789}'])(
  'jsonb with %s does not fit',
  (text) => {
    // As jsonb prints it: without exponents.
    const bytes = new TextEncoder().encode(text.replace('1e38', '1' + '0'.repeat(38)))
    expect(jsonbFitsVariant(bytes, 0, bytes.length)).toBe(false)
    const quoted = new TextEncoder().encode(JSON.stringify(text))
    expect(jsonbFitsVariant(quoted, 0, quoted.length)).toBe(true)
  },
)

test.each([
  '',
  ' ',
  '[',
  '{',
  '[1',
  '[1,]',
  '{"a"}',
  '{"a":}',
  '{a:1}',
  '[1 2]',
  'nul',
  'truex',
  '1 1',
  '01',
  '-',
  '1.',
  '.5',
  '1e',
  '"',
  '"\\x"',
  '"\\u12"',
  '[}',
  '{]',
])('what is no JSON is said: %s', (text) => {
  expect(() => encode(text)).toThrow(expect.objectContaining({ code: 'VARIANT_JSON_MALFORMED' }))
})

test('bytes that are no variant end in an error, never in a hang', () => {
  const bytes = fc.uint8Array({ maxLength: 40 })
  fc.assert(
    fc.property(
      fc.oneof(
        fc.tuple(bytes, bytes),
        trees.chain((tree) => mutated(encode(jsonbText(tree)))),
      ),
      ([metadata, value]) => {
        try {
          decoder.append(metadata, 0, metadata.length, value, 0, value.length, new ByteSink())
        } catch (error) {
          expect(isMoonlinkError(error)).toBe(true)
        }
      },
    ),
    { numRuns: 1000 },
  )
})

test('elements that lie in each other are not written again and again', () => {
  // Each array has two elements, both the array within it.
  let value = [0x0c, 1]
  for (let depth = 0; depth < 30; depth++) value = [3, 2, 0, 0, value.length, ...value]
  expect(() => decode({ metadata: new Uint8Array([1, 0, 0]), value: new Uint8Array(value) })).toThrow('overlap')
})

function mutated({
  metadata,
  value,
}: {
  readonly metadata: Uint8Array
  readonly value: Uint8Array
}): fc.Arbitrary<[Uint8Array, Uint8Array]> {
  return fc.tuple(fc.boolean(), fc.nat(), fc.nat(255)).map(([isValue, at, byte]) => {
    const copies: [Uint8Array, Uint8Array] = [metadata.slice(), value.slice()]
    const bytes = copies[isValue ? 1 : 0]
    bytes[at % bytes.length] = byte
    return copies
  })
}
