import {
  isMoonlinkError,
  joinBytes,
  type ColumnBatch,
  type Field,
  type FieldType,
  type RowsToWrite,
  type ScannedBatch,
  type Value,
} from '@moonlink/core'
import fc from 'fast-check'
import { isDeepStrictEqual } from 'node:util'
import { describe, expect, it } from 'vitest'
import { fetchRows, planScan, readWindow } from './decode.ts'
import { encodeParquet } from './encode.ts'
import { chunkMetaData, ColumnMetaData, FileMetaData, PageEncodingStats, readFooter, RowGroup } from './footer.ts'
import { anyFields, anyRows, field, listOf, structOf, toBatch, toRows } from './rows.test.support.ts'
import type { EncodeOptions, FileLineage } from './types.ts'

function encode(rows: ColumnBatch, fields: readonly Field[], lineage: Partial<RowsToWrite> = {}, options: EncodeOptions = {}): Uint8Array {
  return joinBytes(encodeParquet({ rows, rowIds: null, lastUpdated: null, ...lineage }, { fields, identifierFieldIds: [] }, options).bytes)
}

function scan(bytes: Uint8Array, fields: readonly Field[], lineage: FileLineage | null = null): ScannedBatch[] {
  return planScan({ bytes }, fields, lineage).map((window) => readWindow({ bytes }, window, fields, lineage))
}

const fieldsAndRows = anyFields.chain((fields) => fc.tuple(fc.constant(fields), anyRows(fields, 40)))

describe('a Parquet file', () => {
  it('gives back the rows it was written from, and any of them by position', () => {
    fc.assert(
      fc.property(
        fieldsAndRows,
        fc.integer({ min: 1, max: 50 }),
        fc.infiniteStream(fc.boolean()),
        ([fields, rows], rowGroupRows, picks) => {
          const bytes = encode(toBatch(fields, rows), fields, {}, { rowGroupRows })
          const batches = scan(bytes, fields)
          expect(batches.flatMap((batch) => toRows(batch.rows))).toEqual(rows)
          expect(batches.map(({ firstRow }) => firstRow)).toEqual(
            Array.from({ length: Math.ceil(rows.length / rowGroupRows) }, (_, index) => index * rowGroupRows),
          )

          const positions = Uint32Array.from(rows.flatMap((_, row) => (picks.next().value === true ? [row] : [])))
          const reversed = fields.toReversed()
          const expected = [...positions].map((position) => rows[position].toReversed())
          expect(toRows(fetchRows({ bytes }, positions, reversed))).toEqual(expected)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('is written from the rows of a batch whose arrays lie anywhere', () => {
    const fields = [
      field(1, { kind: 'string' }),
      field(3, listOf({ kind: 'int' }, 4)),
      field(5, { kind: 'boolean' }),
      field(7, { kind: 'long' }),
    ]
    const rows: Value[][] = Array.from({ length: 30 }, (_, row) => [`row ${row}`, row % 3 ? [row, null] : null, row % 2 === 0, BigInt(row)])
    const bytes = encode(toBatch(fields, rows), fields)
    // What a scan returns shares one buffer, which Arrow's own IPC writer mixes up.
    const [{ rows: scanned }] = scan(bytes, fields)
    expect(new Set(scanned.columns.map(({ values }) => values.buffer)).size).toBeLessThan(4)
    const middle = { ...scanned, length: 20 }
    expect(scan(encode(middle, fields, {}, { rowGroupRows: 7 }), fields).flatMap((batch) => toRows(batch.rows))).toEqual(rows.slice(0, 20))
  })

  it('holds columns of many pages, dictionaries, runs and gaps', () => {
    const fields = [
      field(1, { kind: 'long' }, true),
      field(2, { kind: 'string' }),
      field(3, { kind: 'string' }),
      field(4, { kind: 'decimal', precision: 30, scale: 2 }),
      field(5, { kind: 'boolean' }),
      field(6, listOf({ kind: 'long' }, 7)),
      field(8, structOf(field(9, { kind: 'uuid' }), field(10, listOf(structOf(field(11, { kind: 'string' })), 12)))),
      field(13, { kind: 'fixed', length: 3 }),
      field(14, { kind: 'int' }),
    ]
    const bytes = (length: number, seed: number) => Uint8Array.from({ length }, (_, index) => (seed * 31 + index * 7) & 0xff)
    const gap = (row: number, every: number, value: Value): Value => (row % every === 0 ? null : value)
    const rows: Value[][] = Array.from({ length: 30_000 }, (_, row) => [
      BigInt(row) ** 3n,
      gap(row, 7, `colour ${row % 300}`),
      gap(row, 5, `${row} `.repeat(row % 40)),
      gap(row, 3, -(10n ** 25n) + BigInt(row % 1000)),
      gap(row, 11, row % 2 === 0),
      gap(
        row,
        13,
        Array.from({ length: row % 23 }, (_, index) => gap(row + index, 4, BigInt(row * index))),
      ),
      gap(row, 17, [
        gap(row, 2, bytes(16, row % 50)),
        gap(
          row,
          6,
          Array.from({ length: row % 5 }, () => gap(row, 4, [`part ${row % 9}`])),
        ),
      ]),
      bytes(3, row),
      row < 20_000 ? 1 : row >> 4,
    ])
    const file = encode(toBatch(fields, rows), fields, {}, { rowGroupRows: 25_000 })
    const read = scan(file, fields).flatMap((batch) => toRows(batch.rows))
    expect(read).toHaveLength(rows.length)
    expect(read.filter((row, index) => !isDeepStrictEqual(row, rows[index])).slice(0, 3)).toEqual([])
    const positions = Uint32Array.of(0, 1, 24_999, 25_000, 29_999)
    expect(toRows(fetchRows({ bytes: file }, positions, fields))).toEqual([...positions].map((position) => rows[position]))

    const [group] = readFooter(file).structs(FileMetaData.ROW_GROUPS)
    const chunks = group.structs(RowGroup.COLUMNS).map((chunk) => chunkMetaData(chunk))
    const hasDictionary = chunks.map((chunk) => chunk.i64(ColumnMetaData.DICTIONARY_PAGE_OFFSET) !== undefined)
    expect(hasDictionary).toEqual([false, true, false, true, false, false, true, true, true, true])
    const pages = [2, 5].map((chunk) => chunks[chunk].structs(ColumnMetaData.ENCODING_STATS).at(-1)!.i32(PageEncodingStats.COUNT)!)
    expect(pages.every((count) => count > 1)).toBe(true)
  })

  it('does not tell of UUIDs, in a column or within one, that all pages have a dictionary: Spark would take its order for that of the bytes', () => {
    const id: FieldType = { kind: 'uuid' }
    const fields = [field(1, id), field(2, listOf(id, 3)), field(4, structOf(field(5, id))), field(6, { kind: 'int' })]
    const uuid = new Uint8Array(16).fill(200)
    const file = encode(
      toBatch(
        fields,
        Array.from({ length: 100 }, () => [uuid, [uuid], [uuid], 1]),
      ),
      fields,
    )
    const [group] = readFooter(file).structs(FileMetaData.ROW_GROUPS)
    const chunks = group.structs(RowGroup.COLUMNS).map((chunk) => chunkMetaData(chunk))
    expect(chunks.map((chunk) => chunk.i64(ColumnMetaData.DICTIONARY_PAGE_OFFSET) !== undefined)).toEqual([true, true, true, true])
    expect(chunks.map((chunk) => chunk.structs(ColumnMetaData.ENCODING_STATS).length)).toEqual([0, 0, 0, 2])
  })

  it('stores lineage where a row keeps it, and lets the others inherit', () => {
    const fields = [field(1, { kind: 'int' })]
    const rows = toBatch(fields, [[1], [2], [3], [4]])
    const rowIds = Float64Array.of(-1, 7_000_000_000, -1, 0)
    const lineage = { firstRowId: 100, dataSequenceNumber: 9 }
    const kept = scan(encode(rows, fields, { rowIds }, { rowGroupRows: 2 }), fields, lineage)
    expect(kept.flatMap((batch) => [...batch.rowIds!])).toEqual([100, 7_000_000_000, 102, 0])
    expect(kept.flatMap((batch) => [...batch.lastUpdated!])).toEqual([9, 9, 9, 9])

    const compacted = scan(encode(rows, fields, { rowIds, lastUpdated: Float64Array.of(3, -1, 5, 2 ** 40) }), fields, lineage)
    expect([...compacted[0].lastUpdated!]).toEqual([3, 9, 5, 2 ** 40])
    expect([...scan(encode(rows, fields), fields, lineage)[0].rowIds!]).toEqual([100, 101, 102, 103])
  })

  it('reads columns by field id: renamed, missing, promoted', () => {
    const written = [
      field(1, { kind: 'int' }),
      field(3, { kind: 'float' }),
      field(5, { kind: 'decimal', precision: 9, scale: 2 }),
      field(7, { kind: 'date' }),
    ]
    const bytes = encode(
      toBatch(written, [
        [-5, 1.5, -123n, -1],
        [null, null, null, null],
      ]),
      written,
    )
    const wanted: Field[] = [
      field(9, { kind: 'string' }),
      { ...field(1, { kind: 'long' }), name: 'renamed' },
      field(3, { kind: 'double' }),
      field(5, { kind: 'decimal', precision: 38, scale: 2 }),
      field(7, { kind: 'timestamp' }),
      field(11, listOf({ kind: 'uuid' }, 12)),
    ]
    expect(toRows(scan(bytes, wanted)[0].rows)).toEqual([
      [null, -5n, 1.5, -123n, -86_400_000_000n, null],
      [null, null, null, null, null, null],
    ])
    expect(toRows(scan(bytes, [field(9, { kind: 'string' })])[0].rows)).toEqual([[null], [null]])
  })

  it('reads parts of a struct by field id: renamed, missing, dropped, promoted, in lists too', () => {
    const named = (id: number, name: string, kind: 'int' | 'long' | 'string'): Field => ({ ...field(id, { kind }), name })
    const written = structOf(named(2, 'a', 'int'), named(3, 'b', 'string'))
    const wanted = structOf(named(4, 'new', 'string'), named(2, 'renamed', 'long'))
    const apart = structOf(named(9, 'new', 'string'))
    const fields = [field(1, written), field(5, listOf(structOf(named(6, 'a', 'int'), named(7, 'b', 'string')), 8))]
    const bytes = encode(
      toBatch(fields, [
        [
          [1, 'x'],
          [[2, null], null],
        ],
        [null, null],
      ]),
      fields,
    )
    expect(toRows(scan(bytes, [field(1, wanted), field(5, listOf(structOf(named(6, 'z', 'long')), 8))])[0].rows)).toEqual([
      [
        [null, 1n],
        [[2n], null],
      ],
      [null, null],
    ])
    expect(toRows(scan(bytes, [field(1, apart)])[0].rows)).toEqual([[[null]], [null]])
  })

  it('refuses shredded variants, wherever they are, with the remedy', () => {
    const part = (id: number, name: string): Field => ({ ...field(id, { kind: 'binary' }), name })
    const variant = { kind: 'variant' } as const
    const parts = structOf(part(2, 'metadata'), part(3, 'value'), part(4, 'typed_value'))
    const bytes = encode(toBatch([field(1, parts)], [[null]]), [field(1, parts)])
    const lists = encode(toBatch([field(1, listOf(parts, 9))], [[null]]), [field(1, listOf(parts, 9))])
    for (const read of [() => scan(bytes, [field(1, variant)]), () => scan(lists, [field(1, listOf(variant, 9))])]) {
      expect(codeOf(read)).toBe('PARQUET_VARIANT_SHREDDED')
      expect(read).toThrow(/write\.parquet\.shred-variants to false/)
    }
  })

  it('refuses a column of another type, a position beyond the end, nulls where none may be, and damage', () => {
    const fields = [field(1, { kind: 'int' })]
    const bytes = encode(toBatch(fields, [[1], [null]]), fields)
    expect(codeOf(() => scan(bytes, [field(1, { kind: 'string' })]))).toBe('PARQUET_TYPE_MISMATCH')
    expect(codeOf(() => fetchRows({ bytes }, Uint32Array.of(1, 2), fields))).toBe('PARQUET_ROW_MISSING')
    expect(codeOf(() => encode(toBatch(fields, [[null]]), [field(1, { kind: 'int' }, true)]))).toBe('PARQUET_REQUIRED_FIELD_NULL')
    expect(codeOf(() => encode(toBatch(fields, [[1]]), [...fields, field(3, { kind: 'int' }, true)]))).toBe('PARQUET_REQUIRED_FIELD_NULL')
    expect(codeOf(() => scan(bytes.subarray(0, bytes.length - 1), fields))).toBe('PARQUET_MALFORMED')
    expect(codeOf(() => scan(new Uint8Array(3), fields))).toBe('PARQUET_MALFORMED')
  })
})

function codeOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    return isMoonlinkError(error) ? error.code : String(error)
  }
  return 'no error'
}
