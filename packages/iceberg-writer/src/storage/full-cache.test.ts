import { MoonlinkError, type LocalFiles } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { ParquetPort } from './parquet-port.ts'
import { batchOf, fakeParquet, harness, rowsOf } from './harness.test.support.ts'

test.each(['CACHE_TOO_SMALL', 'CACHE_DISK_FULL'])(
  'a file that finds no room in the local cache (%s) is read from the store',
  async (code) => {
    const sources: unknown[] = []
    const parquet: ParquetPort = {
      ...fakeParquet,
      fetch: async (source) => {
        sources.push(source)
        return batchOf([1])
      },
    }
    const localFiles: LocalFiles = {
      pin: async () => {
        throw new MoonlinkError('invalid', code, 'no room')
      },
      drop: async () => false,
    }
    const storage = await harness().open({ parquet, localFiles })
    const staged = await storage.writeFile(rowsOf(1))
    const { files } = await storage.commit({ kind: 'append', addFiles: [staged], removeFiles: [], vectors: [], lsn: 1n })
    await storage.fetchRows(files[0], Uint32Array.of(0), storage.snapshot.schema.fields)
    expect(sources).toEqual([{ bytes: new TextEncoder().encode('rows 1') }])
  },
)

/** A cache whose copy is damaged until it was dropped so often, and Parquet that tells so, in the midst of a scan. */
async function damaged(drops: number) {
  let dropped = 0
  const check = () => {
    if (dropped < drops) throw new MoonlinkError('corrupt', 'PARQUET_MALFORMED', 'the file does not end in PAR1')
  }
  const parquet: ParquetPort = {
    ...fakeParquet,
    fetch: async () => {
      check()
      return batchOf([1])
    },
    scan: async function* () {
      yield { firstRow: 0, rows: batchOf([1]), rowIds: null, lastUpdated: null }
      check()
      yield { firstRow: 1, rows: batchOf([2]), rowIds: null, lastUpdated: null }
    },
  }
  const localFiles: LocalFiles = {
    pin: async () => ({ path: '/cache/a', release: () => undefined }),
    // What is damaged in the store is so in the next copy too.
    drop: async () => ++dropped > 0,
  }
  const storage = await harness().open({ parquet, localFiles })
  const staged = await storage.writeFile(rowsOf(2))
  const { files } = await storage.commit({ kind: 'append', addFiles: [staged], removeFiles: [], vectors: [], lsn: 1n })
  const { fields } = storage.snapshot.schema
  return {
    fetch: () => storage.fetchRows(files[0], Uint32Array.of(0), fields),
    scan: async () => {
      const firstRows: number[] = []
      for await (const { firstRow } of storage.scanFile(files[0], fields)) firstRows.push(firstRow)
      return firstRows
    },
  }
}

test('a damaged copy in the local cache is fetched again; a damaged file is said', async () => {
  expect((await (await damaged(1)).fetch()).length).toBe(1)
  expect(await (await damaged(1)).scan()).toEqual([0, 1])
  await expect((await damaged(9)).fetch()).rejects.toMatchObject({ kind: 'corrupt', code: 'PARQUET_MALFORMED' })
  await expect((await damaged(9)).scan()).rejects.toMatchObject({ kind: 'corrupt', code: 'PARQUET_MALFORMED' })
})
