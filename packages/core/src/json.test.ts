import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isJsonObject, parseJsonLossless, stringifyJsonLossless } from './json.ts'
import type { JsonValue } from './ports/catalog.ts'

describe('lossless JSON', () => {
  test('an integer that a number cannot hold comes as a bigint', () => {
    const text = '{"snapshot-id":9223372036854775807,"min":-9223372036854775808,"edge":9007199254740991,"past":9007199254740992}'
    expect(parseJsonLossless(text)).toEqual({
      'snapshot-id': 9223372036854775807n,
      min: -9223372036854775808n,
      edge: 9007199254740991,
      past: 9007199254740992n,
    })
    expect(stringifyJsonLossless(parseJsonLossless(text))).toBe(text)
  })

  test('fractions, exponents and digits within strings stay what JSON.parse makes of them', () => {
    const text = '[12345678901234567.5,1e20,"12345678901234567890",-0,null,true]'
    expect(parseJsonLossless(text)).toEqual(JSON.parse(text))
  })

  test('a malformed text is named and not quoted', () => {
    expect(() => parseJsonLossless('{"token":secret}', 'the answer of /v1/config')).toThrow(
      expect.objectContaining({ kind: 'corrupt', code: 'JSON_MALFORMED', message: expect.not.stringContaining('secret') }),
    )
  })

  test('what is not finite is not written as null', () => {
    expect(() => stringifyJsonLossless({ a: Number.NaN })).toThrow(expect.objectContaining({ kind: 'bug' }))
  })

  test('objects are told from arrays and null', () => {
    expect([{}, [], null, 'a', undefined].map(isJsonObject)).toEqual([true, false, false, false, false])
  })

  test('what was printed is read back', () => {
    const leaf = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.constant(null),
      fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }),
    )
    const { value } = fc.letrec<{ value: JsonValue }>((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        leaf,
        fc.array(tie('value')),
        fc.dictionary(fc.string(), tie('value'), { noNullPrototype: true }),
      ),
    }))
    fc.assert(
      fc.property(value, (json) => {
        const text = stringifyJsonLossless(json)
        expect(stringifyJsonLossless(parseJsonLossless(text))).toBe(text)
      }),
    )
  })

  test('minus zero keeps its sign', () => {
    expect(stringifyJsonLossless([-0, 0])).toBe('[-0,0]')
    expect(parseJsonLossless(stringifyJsonLossless(-0))).toBe(-0)
  })

  test('a large double that prints as an integer reads back as that integer', () => {
    expect(parseJsonLossless(stringifyJsonLossless(1e20))).toBe(100000000000000000000n)
  })
})
