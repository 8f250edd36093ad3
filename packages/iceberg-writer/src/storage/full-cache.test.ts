import { MoonlinkError, type LocalFiles } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { ParquetPort } from './parquet-port.ts'
import { batchOf, fakeParquet, harness, rowsOf } from './harness.test.support.ts'

test.each(['CACHE_TOO_SMALL', 'STORE_FULL'])('a file that finds no room in the local cache (%s) is read from the store', async (code) => {
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
  }
  const storage = await harness().open({ parquet, localFiles })
  const staged = await storage.writeFile(rowsOf(1))
  const { files } = await storage.commit({ kind: 'append', addFiles: [staged], removeFiles: [], vectors: [], lsn: 1n })
  await storage.fetchRows(files[0], Uint32Array.of(0), storage.snapshot.schema.fields)
  expect(sources).toEqual([{ bytes: new TextEncoder().encode('rows 1') }])
})
