import { byteLength, type FieldType, type PrimitiveType, type Value } from '@moonlink/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodeParquet } from './encode.ts'
import { anyFields, anyRows, anyValue, field, listOf, toBatch } from './rows.test.support.ts'
import type { FileMetrics } from './types.ts'

function metricsOf(type: FieldType, values: readonly Value[], rowGroupRows = 1000): FileMetrics {
  const fields = [field(1, type)]
  const rows = toBatch(
    fields,
    values.map((value) => [value]),
  )
  return encodeParquet({ rows, rowIds: null, lastUpdated: null }, { fields, identifierFieldIds: [] }, { rowGroupRows }).metrics
}

function boundsOf(type: FieldType, values: readonly Value[]): (string | null)[] {
  const { lowerBounds, upperBounds } = metricsOf(type, values)
  return [lowerBounds[1], upperBounds[1]].map((bound) => (bound === undefined ? null : Buffer.from(bound).toString('hex')))
}

const text = (value: string) => Buffer.from(value).toString('hex')

describe('bounds', () => {
  it('are single-value serializations', () => {
    expect(boundsOf({ kind: 'boolean' }, [true, null])).toEqual(['01', '01'])
    expect(boundsOf({ kind: 'int' }, [34, -1])).toEqual(['ffffffff', '22000000'])
    expect(boundsOf({ kind: 'long' }, [-(2n ** 63n), 2n ** 32n, 2n ** 31n])).toEqual(['0000000000000080', '0000000001000000'])
    expect(boundsOf({ kind: 'decimal', precision: 9, scale: 2 }, [128n, -128n, 0n])).toEqual(['80', '0080'])
    expect(boundsOf({ kind: 'decimal', precision: 38, scale: 0 }, [-(10n ** 37n), -(2n ** 64n)])).toEqual([
      BigInt.asUintN(128, -(10n ** 37n)).toString(16),
      'ff0000000000000000',
    ])
    expect(boundsOf({ kind: 'float' }, [1.5, -2])).toEqual(['000000c0', '0000c03f'])
  })

  it('leave NaN out, have no upper one beside it, and let zero stand for both zeros', () => {
    expect(boundsOf({ kind: 'double' }, [NaN, null])).toEqual([null, null])
    expect(boundsOf({ kind: 'double' }, [0, null])).toEqual(['0000000000000080', '0000000000000000'])
    expect(boundsOf({ kind: 'double' }, [0, NaN])).toEqual(['0000000000000080', null])
    expect(metricsOf({ kind: 'double' }, [0, NaN, null]).nanCounts).toEqual({ 1: 1 })
    expect(metricsOf({ kind: 'float' }, [NaN, null]).nanCounts).toEqual({ 1: 1 })
    expect(metricsOf({ kind: 'float' }, [NaN, NaN]).nanCounts).toEqual({})
  })

  it('truncate text at 16 code points, upwards for the upper one', () => {
    const smile = '\u{1f600}'
    expect(boundsOf({ kind: 'string' }, ['abc', ''])).toEqual(['', text('abc')])
    expect(boundsOf({ kind: 'string' }, [smile.repeat(16)])).toEqual([text(smile.repeat(16)), text(smile.repeat(16))])
    expect(boundsOf({ kind: 'string' }, [smile.repeat(17)])).toEqual([text(smile.repeat(16)), text(`${smile.repeat(15)}\u{1f601}`)])
    expect(boundsOf({ kind: 'string' }, ['\ud7ff'.repeat(17)])[1]).toBe(text(`${'\ud7ff'.repeat(15)}\ue000`))
    expect(boundsOf({ kind: 'string' }, [`a${'\u{10ffff}'.repeat(16)}`])[1]).toBe(text('b'))
    expect(boundsOf({ kind: 'string' }, ['\u{10ffff}'.repeat(17)])[1]).toBe(null)
    expect(boundsOf({ kind: 'string' }, [`\ufeff${'x'.repeat(16)}`])[1]).toBe(text(`\ufeff${'x'.repeat(14)}y`))
    expect(boundsOf({ kind: 'string' }, ['x'.repeat(16), 'x'.repeat(17)])).toEqual([text('x'.repeat(16)), text(`${'x'.repeat(15)}y`)])
  })

  it('truncate binaries at 16 bytes and not values of fixed width', () => {
    expect(boundsOf({ kind: 'binary' }, [new Uint8Array(17)])).toEqual(['00'.repeat(16), `${'00'.repeat(15)}01`])
    expect(boundsOf({ kind: 'binary' }, [Uint8Array.of(1, ...new Uint8Array(16).fill(255))])[1]).toBe('02')
    expect(boundsOf({ kind: 'binary' }, [new Uint8Array(17).fill(255)])[1]).toBe(null)
    expect(boundsOf({ kind: 'fixed', length: 18 }, [new Uint8Array(18).fill(255)])).toEqual(['ff'.repeat(18), 'ff'.repeat(18)])
  })

  it('are not written for variants, whose values and nulls are counted all the same', () => {
    const metrics = metricsOf({ kind: 'variant' }, ['{"a": 1}', null, 'null'], 2)
    expect(metrics).toMatchObject({ valueCounts: { 1: 3 }, nullCounts: { 1: 1 }, nanCounts: {}, lowerBounds: {}, upperBounds: {} })
    expect(Object.keys(metrics.columnSizes)).toEqual(['1'])
    expect(metricsOf(listOf({ kind: 'variant' }, 2), [['1'], null])).toMatchObject({ valueCounts: {}, nullCounts: {}, lowerBounds: {} })
  })

  it('are not written for UUIDs, which readers do not order alike', () => {
    const metrics = metricsOf({ kind: 'uuid' }, [new Uint8Array(16), new Uint8Array(16).fill(255), null])
    expect(metrics).toMatchObject({ valueCounts: { 1: 3 }, nullCounts: { 1: 1 }, lowerBounds: {}, upperBounds: {} })
  })

  it('are not written for lists', () => {
    const metrics = metricsOf(listOf({ kind: 'int' }, 2), [[1], null])
    expect(metrics).toMatchObject({ valueCounts: {}, nullCounts: {}, nanCounts: {}, lowerBounds: {}, upperBounds: {} })
    expect(Object.keys(metrics.columnSizes)).toEqual(['2'])
  })

  const ordered: PrimitiveType[] = [
    { kind: 'int' },
    { kind: 'long' },
    { kind: 'double' },
    { kind: 'decimal', precision: 38, scale: 0 },
    { kind: 'string' },
  ]
  it.each(ordered)('enclose every value, the lower one exactly ($kind)', (type) => {
    fc.assert(
      fc.property(fc.array(fc.option(anyValue(type)), { maxLength: 20 }), (values) => {
        const { lowerBounds, upperBounds } = metricsOf(type, values)
        const present = values.filter((value) => value !== null && !Number.isNaN(value))
        expect(lowerBounds[1] !== undefined).toBe(present.length > 0)
        const each = present.map((value) => metricsOf(type, [value]))
        if (each.length > 0) expect(each.map((bounds) => bounds.lowerBounds[1])).toContainEqual(lowerBounds[1])
        for (const bounds of each) {
          expect(compare(type, lowerBounds[1], bounds.lowerBounds[1])).toBeLessThanOrEqual(0)
          if (upperBounds[1] !== undefined) expect(compare(type, upperBounds[1], bounds.upperBounds[1])).toBeGreaterThanOrEqual(0)
        }
      }),
      { numRuns: 25 },
    )
  })
})

describe('counts', () => {
  it('are exact over row groups, and split offsets ascend from the first page', () => {
    fc.assert(
      fc.property(
        anyFields.chain((fields) => fc.tuple(fc.constant(fields), anyRows(fields, 30))),
        ([fields, rows]) => {
          const schema = { fields, identifierFieldIds: [] }
          const {
            metrics,
            recordCount,
            bytes: parts,
          } = encodeParquet({ rows: toBatch(fields, rows), rowIds: null, lastUpdated: null }, schema, {
            rowGroupRows: 8,
          })
          expect(recordCount).toBe(rows.length)
          fields.forEach(({ id, type }, index) => {
            if (type.kind === 'list' || type.kind === 'struct') return
            expect(metrics.valueCounts[id]).toBe(rows.length)
            expect(metrics.nullCounts[id]).toBe(rows.filter((row) => row[index] === null).length)
            const isFloat = type.kind === 'float' || type.kind === 'double'
            const nanCount = rows.filter((row) => Number.isNaN(row[index])).length
            expect(metrics.nanCounts[id]).toBe(isFloat && (rows.length === 0 || nanCount < rows.length) ? nanCount : undefined)
          })
          expect(metrics.splitOffsets).toHaveLength(Math.ceil(rows.length / 8))
          expect(metrics.splitOffsets).toEqual(metrics.splitOffsets.toSorted((a, b) => a - b))
          if (rows.length > 0) expect(metrics.splitOffsets[0]).toBe(4)
          expect(Object.values(metrics.columnSizes).reduce((sum, size) => sum + size, 0)).toBeLessThan(byteLength(parts))
        },
      ),
      { numRuns: 30 },
    )
  })
})

function compare(type: PrimitiveType, a: Uint8Array, b: Uint8Array): number {
  const [x, y] = [a, b].map((bytes) => orderedValue(type, bytes))
  return x < y ? -1 : x > y ? 1 : 0
}

function orderedValue(type: PrimitiveType, bytes: Uint8Array): bigint | number | string {
  const buffer = Buffer.from(bytes)
  if (type.kind === 'int') return buffer.readInt32LE()
  if (type.kind === 'long') return buffer.readBigInt64LE()
  if (type.kind === 'double') return buffer.readDoubleLE()
  if (type.kind === 'decimal') return BigInt.asIntN(bytes.length * 8, BigInt(`0x${buffer.toString('hex')}`))
  return buffer.toString('hex')
}
