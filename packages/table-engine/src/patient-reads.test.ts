import { MoonlinkError, silentLogger, type ColumnBatch, type DataFile, type ScannedBatch } from '@moonlink/core'
import { expect, test } from 'vitest'
import { PatientReads } from './patient-reads.ts'

const file: DataFile = { path: 'memory://a', recordCount: 4, sizeBytes: 1, firstRowId: 0, dataSequenceNumber: 1 }
const rowsOf = (length: number) => ({ fields: [], columns: [], length }) satisfies ColumnBatch
const away = () => new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'the store is away')

/** Reads that fail so many times, the scan between its two batches. */
function setUp(failures: number, error = away()) {
  let left = failures
  let nowMs = 0
  const state = { isEnding: false, slept: 0 }
  const reads = new PatientReads({
    table: 'public.t',
    storage: {
      fetchRows: async () => {
        if (left-- > 0) throw error
        return rowsOf(1)
      },
      scanFile: async function* () {
        yield { firstRow: 0, rows: rowsOf(2), rowIds: null, lastUpdated: null } satisfies ScannedBatch
        if (left-- > 0) throw error
        yield { firstRow: 2, rows: rowsOf(2), rowIds: null, lastUpdated: null } satisfies ScannedBatch
      },
    },
    clock: {
      nowMs: () => nowMs,
      sleep: async (ms) => {
        nowMs += ms
        state.slept += ms
      },
    },
    logger: silentLogger,
    isEnding: () => state.isEnding,
  })
  return { reads, state }
}

test('a store that is away is waited for, and a scan goes on where it was', async () => {
  const { reads, state } = setUp(5)
  expect((await reads.fetchRows(file, Uint32Array.of(0), [])).length).toBe(1)
  expect(state.slept).toBeGreaterThan(1000)
  const scanned: number[] = []
  for await (const { firstRow } of setUp(3).reads.scanFile(file, [])) scanned.push(firstRow)
  expect(scanned).toEqual([0, 2])
})

test('what will not pass is thrown at once, and so is everything at the end', async () => {
  const damaged = setUp(1, new MoonlinkError('corrupt', 'PARQUET_MALFORMED', 'damaged'))
  await expect(damaged.reads.fetchRows(file, Uint32Array.of(0), [])).rejects.toMatchObject({ code: 'PARQUET_MALFORMED' })
  expect(damaged.state.slept).toBe(0)
  const ending = setUp(Number.POSITIVE_INFINITY)
  const reading = ending.reads.fetchRows(file, Uint32Array.of(0), [])
  ending.state.isEnding = true
  await expect(reading).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
})
