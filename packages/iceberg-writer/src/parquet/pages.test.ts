import { joinBytes, type Value } from '@moonlink/core'
import { describe, expect, it } from 'vitest'
import { withSource, readMetadata } from './byte-source.ts'
import { fetchRows, planScan, readWindow } from './decode.ts'
import { encodeParquet } from './encode.ts'
import { nodesOf } from './file-plan.ts'
import { pagesOf, runFile, runsOf } from './pages.ts'
import { field, toBatch, toRows } from './rows.test.support.ts'

describe('pages', () => {
  it('are chosen by row, neighbours together', () => {
    const pages = [0, 10, 20, 30, 40].map((firstRow) => ({ offset: 100 + firstRow, size: 10, firstRow }))
    const chosen = (rows: number[]) => runsOf(pages, Uint32Array.from(rows), 50).map((run) => [run.firstRow, run.endRow, run.pages.length])
    expect(chosen([])).toEqual([])
    expect(chosen([0, 9])).toEqual([[0, 10, 1]])
    expect(chosen([5, 15, 39, 49])).toEqual([
      [0, 20, 2],
      [30, 50, 2],
    ])
    expect(chosen([49])).toEqual([[40, 50, 1]])
  })

  it('of a large column are read where the wanted rows lie, and nothing else', () => {
    const fields = [field(1, { kind: 'long' }), field(2, { kind: 'string' }), field(3, { kind: 'string' })]
    const row = (index: number): Value[] => [
      BigInt(index),
      index % 5 === 0 ? null : `${index} `.repeat(700),
      // Few values, so a dictionary.
      `kind ${index % 3}`.repeat(50),
    ]
    const rows = Array.from({ length: 4000 }, (_, index) => row(index))
    const { bytes: parts } = encodeParquet(
      { rows: toBatch(fields, rows), rowIds: null, lastUpdated: null },
      { fields, identifierFieldIds: [] },
      { rowGroupRows: 2500 },
    )
    const bytes = joinBytes(parts)
    for (const wanted of [[0], [3999], [7, 8, 2499, 2500], [100, 1700, 1701, 3000], Array.from({ length: 40 }, (_, at) => at * 97)]) {
      expect(toRows(fetchRows({ bytes }, Uint32Array.from(wanted), fields))).toEqual(wanted.map(row))
    }
    withSource({ bytes }, (source) => {
      const metadata = readMetadata(source)
      const [, node] = nodesOf(metadata, fields)
      const pages = pagesOf(source, metadata, 0, node!)!
      expect(pages.length).toBeGreaterThan(4)
      let read = 0
      const counted = {
        size: source.size,
        readInto: (target: Uint8Array, at: number) => ((read += target.length), source.readInto(target, at)),
      }
      const [run] = runsOf(pages, Uint32Array.of(1200), 2500)
      runFile(counted, metadata, 0, node!, run)
      expect(read).toBe(run.pages[0].size)
    })
  })

  it.each(['zstd', 'uncompressed'] as const)('that are not what was written are refused, %s', (compression) => {
    const fields = [field(1, { kind: 'long' }), field(2, { kind: 'string' })]
    const rows = Array.from({ length: 300 }, (_, index): Value[] => [BigInt(index * index), `text ${index}`])
    const batch = { rows: toBatch(fields, rows), rowIds: null, lastUpdated: null }
    const bytes = joinBytes(encodeParquet(batch, { fields, identifierFieldIds: [] }, { compression }).bytes)
    const read = {
      byPlace: (damaged: Uint8Array) => toRows(fetchRows({ bytes: damaged }, Uint32Array.of(3, 150, 299), fields)),
      whole: (damaged: Uint8Array) =>
        planScan({ bytes: damaged }, fields, null).flatMap((window) => toRows(readWindow({ bytes: damaged }, window, fields, null).rows)),
    }
    expect([read.byPlace(bytes), read.whole(bytes)]).toEqual([[rows[3], rows[150], rows[299]], rows])
    const ends = withSource({ bytes }, (source) => {
      const metadata = readMetadata(source)
      return nodesOf(metadata, fields).map((node) => pagesOf(source, metadata, 0, node!)!.map(({ offset, size }) => offset + size - 1))
    }).flat()
    for (const end of ends) {
      for (const at of [end, end - 20]) {
        const damaged = bytes.slice()
        damaged[at] ^= 4
        for (const reading of Object.values(read)) {
          expect(() => reading(damaged)).toThrow(
            expect.objectContaining({ kind: 'corrupt', message: expect.stringContaining('not what was written') }),
          )
        }
      }
    }
  })
})
