import { ColumnBuilder, valueAt, type FieldType, type Value } from '@moonlink/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as binary from './binary.ts'
import { binaryDate, binaryTime, binaryTimestamp } from './datetime.ts'
import { binaryNumeric } from './decimal.ts'
import type { DecodeValue } from './decoder.ts'
import { runOf } from './runs.ts'

const EDGES = [
  '7fffffffffffffff',
  '8000000000000000',
  '7ff8000000000001',
  'fff0000000000000',
  '7f800000',
  'ff800001',
  '80000000',
  '7fffffff',
  '01',
  '00',
  '',
].map((hex) => Buffer.from(hex, 'hex'))
const decoders: [string, FieldType, DecodeValue, number][] = [
  ['int2', { kind: 'int' }, binary.binaryInt2, 2],
  ['int4', { kind: 'int' }, binary.binaryInt4, 4],
  ['int8', { kind: 'long' }, binary.binaryInt8, 8],
  ['float4', { kind: 'float' }, binary.binaryFloat4, 4],
  ['float8', { kind: 'double' }, binary.binaryFloat8, 8],
  ['date', { kind: 'date' }, binaryDate, 4],
  ['time', { kind: 'time' }, binaryTime, 8],
  ['timestamp', { kind: 'timestamp' }, binaryTimestamp, 8],
  ['bool', { kind: 'boolean' }, binary.binaryBool, 1],
  ['uuid', { kind: 'uuid' }, binary.binaryUuid, 16],
  ['text', { kind: 'string' }, binary.rawBytes, 12],
  ['jsonb', { kind: 'string' }, binary.binaryVersioned, 12],
  ['numeric', { kind: 'decimal', precision: 20, scale: 2 }, binaryNumeric(20, 2), 10],
]

interface Outcome {
  readonly values: Value[]
  readonly error: string | null
}

function decode(
  type: FieldType,
  cells: readonly (Uint8Array | null)[],
  append: (source: Buffer, at: Int32Array, builder: ColumnBuilder) => void,
): Outcome {
  const source = Buffer.concat([Buffer.of(9), ...cells.map((cell) => cell ?? Buffer.alloc(0))])
  const places = new Int32Array(cells.length * 2)
  let at = 1
  cells.forEach((cell, index) => {
    places.set([at, cell === null ? -1 : at + cell.length], index * 2)
    at += cell?.length ?? 0
  })
  const builder = new ColumnBuilder(type)
  let error: string | null = null
  try {
    append(source, places, builder)
  } catch (thrown) {
    error = String(thrown)
  }
  const column = builder.view()
  return { values: Array.from({ length: builder.length }, (_, row) => valueAt(column, row)), error }
}

describe('a decoder of runs', () => {
  it.each(decoders)('appends what the decoder of single values does: %s', (_, type, single, size) => {
    const value = fc.oneof(
      { weight: 20, arbitrary: fc.uint8Array({ minLength: size, maxLength: size }) },
      { weight: 10, arbitrary: fc.uint8Array({ minLength: size, maxLength: size }).map((bytes) => Uint8Array.of(1, ...bytes.subarray(1))) },
      { weight: 3, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.constantFrom(...EDGES) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }) },
    )
    const run = runOf(single)
    fc.assert(
      fc.property(fc.array(value, { maxLength: 60 }), (cells) => {
        const one = (source: Buffer, places: Int32Array, index: number, builder: ColumnBuilder) => {
          if (places[index * 2 + 1] < 0) builder.appendNull()
          else single(source, places[index * 2], places[index * 2 + 1], builder)
        }
        const singles = decode(type, cells, (source, places, builder) => {
          for (let index = 0; index < cells.length; index++) one(source, places, index, builder)
        })
        const runs = decode(type, cells, (source, places, builder) => {
          for (let done = 0; done < cells.length;) {
            done += run(source, places, done * 2, cells.length - done, builder)
            if (done < cells.length) one(source, places, done++, builder)
          }
        })
        expect(runs).toEqual(singles)
      }),
      { numRuns: 300 },
    )
  })
})
