import type { JsonObject } from '@moonlink/core'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { AvroReader, compileDecoder } from './avro-reader.ts'
import { AvroWriter } from './avro-writer.ts'
import { ContainerWriter, readContainer } from './container.ts'

const SYNC = new Uint8Array(16).fill(7)

test('longs survive over the whole 64-bit range, as a number where that is exact', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }), (value) => {
      const writer = new AvroWriter(1)
      writer.long(value)
      const read = new AvroReader(writer.take()).long()
      expect(BigInt(read)).toBe(value)
      expect(typeof read).toBe(Number.isSafeInteger(Number(value)) && BigInt(Number(value)) === value ? 'number' : 'bigint')
    }),
  )
})

test('numbers and bigints of one value are the same bytes', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const asNumber = new AvroWriter()
      const asBigInt = new AvroWriter()
      asNumber.long(value)
      asBigInt.long(BigInt(value))
      expect(asNumber.take()).toEqual(asBigInt.take())
    }),
  )
})

test('zig-zag examples of the Avro specification', () => {
  const examples: [number, number[]][] = [
    [0, [0x00]],
    [-1, [0x01]],
    [1, [0x02]],
    [-2, [0x03]],
    [-64, [0x7f]],
    [64, [0x80, 0x01]],
  ]
  for (const [value, bytes] of examples) {
    const writer = new AvroWriter()
    writer.long(value)
    expect([...writer.take()]).toEqual(bytes)
  }
})

test('a decoder follows the schema of whoever wrote the file', () => {
  const schema: JsonObject = {
    type: 'record',
    name: 'outer',
    fields: [
      { name: 'renamed', type: ['null', 'string'], 'field-id': 1 },
      { name: 'fixed', type: { type: 'fixed', name: 'two', size: 2 } },
      { name: 'again', type: 'two' },
      { name: 'kind', type: { type: 'enum', name: 'kinds', symbols: ['a', 'b'] } },
      { name: 'map', type: { type: 'map', values: 'long' } },
      { name: 'list', type: { type: 'array', items: 'double' } },
      { name: 'flag', type: 'boolean' },
    ],
  }
  const avro = new AvroWriter()
  avro.long(1)
  avro.string('x')
  avro.raw(new Uint8Array([1, 2]))
  avro.raw(new Uint8Array([3, 4]))
  avro.long(1)
  // A map block with a negative count carries its size in bytes.
  avro.long(-1)
  avro.long(99)
  avro.string('k')
  avro.long(5)
  avro.long(0)
  avro.long(1)
  avro.raw(new Uint8Array(new Float64Array([1.5]).buffer))
  avro.long(0)
  avro.raw(new Uint8Array([1]))
  const value = compileDecoder(schema, new Map([[1, 'name']]))(new AvroReader(avro.take()))
  expect(value).toEqual({
    name: 'x',
    fixed: new Uint8Array([1, 2]),
    again: new Uint8Array([3, 4]),
    kind: 'b',
    map: { k: 5 },
    list: [1.5],
    flag: true,
  })
})

test('a container of many blocks reads back, its header attributes kept', async () => {
  const schema: JsonObject = { type: 'record', name: 'r', fields: [{ name: 'text', type: 'string', 'field-id': 9 }] }
  const writer = new ContainerWriter(schema, { extra: 'yes' }, SYNC)
  const text = 'x'.repeat(400_000)
  for (let index = 0; index < 7; index++) await writer.append((avro) => avro.string(text + index))
  const { metadata, records } = await readContainer(await writer.finish(), new Map())
  expect(metadata['extra']).toBe('yes')
  expect(metadata['avro.schema']).toContain('"field-id":9')
  expect(records.map((record) => (record['text'] as string).slice(-1))).toEqual(['0', '1', '2', '3', '4', '5', '6'])
})

test('damaged containers are refused', async () => {
  const schema: JsonObject = { type: 'record', name: 'r', fields: [{ name: 'n', type: 'long' }] }
  const writer = new ContainerWriter(schema, {}, SYNC)
  for (let index = 0; index < 100; index++) await writer.append((avro) => avro.long(index))
  const bytes = new Uint8Array(await writer.finish())
  for (const length of [0, 3, bytes.length - 1, bytes.length - 17]) {
    await expect(readContainer(bytes.subarray(0, length), new Map())).rejects.toMatchObject({ kind: 'corrupt' })
  }
  bytes[bytes.length - 1] ^= 1
  await expect(readContainer(bytes, new Map())).rejects.toMatchObject({ code: 'AVRO_MALFORMED' })
})

test('a datum that ends early is refused, wherever it does', () => {
  const schema = {
    type: 'record',
    name: 'r',
    fields: [
      { name: 's', type: 'string' },
      { name: 'b', type: 'bytes' },
      { name: 'f', type: 'float' },
      { name: 'd', type: 'double' },
      { name: 'x', type: { type: 'fixed', name: 'x', size: 5 } },
      { name: 'l', type: { type: 'array', items: 'long' } },
    ],
  }
  const writer = new AvroWriter()
  writer.string('abc')
  writer.bytesValue(new Uint8Array([1, 2, 3, 4]))
  writer.raw(new Uint8Array(4 + 8 + 5))
  writer.long(2)
  writer.long(300)
  writer.long(-70_000)
  writer.long(0)
  const whole = writer.take()
  const decode = compileDecoder(schema, new Map())
  expect(decode(new AvroReader(whole))).toMatchObject({ s: 'abc', l: [300, -70_000] })
  for (let length = 0; length < whole.length; length++) {
    expect(() => decode(new AvroReader(whole.subarray(0, length))), `${length} bytes`).toThrow(
      expect.objectContaining({ code: 'AVRO_MALFORMED' }),
    )
  }
})
