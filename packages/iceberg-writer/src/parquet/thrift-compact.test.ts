import { isMoonlinkError } from '@moonlink/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readThrift, ThriftStruct, ThriftType, writeThrift, type ThriftValue } from './thrift-compact.ts'

type Typed = readonly [type: number, value: ThriftValue]

const leaf: fc.Arbitrary<Typed> = fc.oneof(
  fc.boolean().map((value): Typed => [ThriftType.TRUE, value]),
  fc.integer({ min: -128, max: 127 }).map((value): Typed => [ThriftType.I8, value]),
  fc.integer({ min: -32768, max: 32767 }).map((value): Typed => [ThriftType.I16, value]),
  fc.integer().map((value): Typed => [ThriftType.I32, value]),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value): Typed => [ThriftType.I64, value]),
  fc.uint8Array({ minLength: 8, maxLength: 8 }).map((value): Typed => [ThriftType.DOUBLE, value]),
  fc.uint8Array({ maxLength: 200 }).map((value): Typed => [ThriftType.BINARY, value]),
)

const { struct } = fc.letrec<{ value: Typed; struct: ThriftStruct }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.array(leaf, { maxLength: 20 }).map((items): Typed => {
      const same = items.filter(([type]) => type === items[0][0])
      return [ThriftType.LIST, { elementType: same[0]?.[0] ?? ThriftType.I32, items: same.map(([, value]) => value) }]
    }),
    fc
      .array(fc.tuple(fc.integer(), fc.boolean()), { maxLength: 5 })
      .map((entries): Typed => [
        ThriftType.MAP,
        entries.length === 0 ? { keyType: 0, valueType: 0, entries } : { keyType: ThriftType.I32, valueType: ThriftType.TRUE, entries },
      ]),
    tie('struct').map((value): Typed => [ThriftType.STRUCT, value]),
  ),
  struct: fc
    .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 2000 }), tie('value')), { maxLength: 6, selector: ([id]) => id })
    .map((fields) => {
      const result = new ThriftStruct()
      for (const [id, [type, value]] of fields) result.set(id, value === false ? ThriftType.FALSE : type, value)
      return result
    }),
}))

describe('thrift compact protocol', () => {
  it('writes again what it has read, unknown fields included', () => {
    fc.assert(
      fc.property(struct, (original) => {
        const bytes = writeThrift(original)
        const read = readThrift(bytes)
        expect(read.ids).toEqual(original.ids)
        expect(writeThrift(read)).toEqual(bytes)
      }),
    )
  })

  it('refuses what is malformed and never runs away', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          readThrift(bytes)
        } catch (error) {
          expect(isMoonlinkError(error, 'corrupt')).toBe(true)
        }
      }),
    )
  })

  it('encodes as the specification says', () => {
    const bytes = writeThrift(new ThriftStruct().setI32(1, -1).setI64(16, 300).set(40, ThriftType.TRUE, true).setText(41, 'ab'))
    expect([...bytes]).toEqual([0x15, 0x01, 0xf6, 0xd8, 0x04, 0x01, 0x50, 0x18, 0x02, 0x61, 0x62, 0x00])
  })
})
