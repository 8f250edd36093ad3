import { isMoonlinkError, joinBytes, type ColumnBatch, type Field, type RowsToWrite } from '@moonlink/core'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { field, listOf, toBatch, toRows } from './rows.test.support.ts'
import type { EncodeOptions } from './types.ts'
import { ParquetWorkerPool } from './worker-pool.ts'

const fields: readonly Field[] = [field(1, { kind: 'long' }, true), field(3, { kind: 'string' }), field(5, listOf({ kind: 'int' }, 6))]
const schema = { fields, identifierFieldIds: [1] }
const values = Array.from({ length: 100 }, (_, row) => [BigInt(row), `row ${row}`, [row]])
const rows = (): RowsToWrite => ({ rows: toBatch(fields, values), rowIds: null, lastUpdated: null })

const pools: ParquetWorkerPool[] = []
function open(options?: ConstructorParameters<typeof ParquetWorkerPool>[0]): ParquetWorkerPool {
  const pool = new ParquetWorkerPool(options)
  pools.push(pool)
  return pool
}
afterAll(() => Promise.all(pools.map((pool) => pool.close())))

async function encode(pool: ParquetWorkerPool, options: EncodeOptions = {}): Promise<{ bytes: Uint8Array; recordCount: number }> {
  const { bytes, recordCount } = await pool.encode(rows(), schema, options)
  return { bytes: joinBytes(bytes), recordCount }
}

describe('ParquetWorkerPool', () => {
  it('writes, scans and fetches in threads, from memory and from disk', async () => {
    const pool = open({ workers: 2 })
    const { bytes, recordCount } = await encode(pool, { rowGroupRows: 30, compression: 'gzip' })
    expect(recordCount).toBe(100)
    const directory = await mkdtemp(join(tmpdir(), 'parquet-'))
    const path = join(directory, 'a.parquet')
    await writeFile(path, bytes)
    for (const source of [{ bytes }, { path }]) {
      expect(await scanAll(pool, source)).toEqual(values)
      const fetched = await pool.fetch(source, Uint32Array.of(0, 29, 30, 99), [fields[1]])
      expect(toRows(fetched)).toEqual([['row 0'], ['row 29'], ['row 30'], ['row 99']])
    }
    expect(bytes.length).toBeGreaterThan(0)
    await rm(path)
    await expect(pool.fetch({ path }, Uint32Array.of(0), fields)).rejects.toMatchObject({ code: 'PARQUET_FILE_NOT_FOUND' })
    await rm(directory, { recursive: true })
  })

  it('tells a file that the system could not read from a damaged one', async () => {
    const pool = open()
    const directory = await mkdtemp(join(tmpdir(), 'parquet-'))
    const file = join(directory, 'a.parquet')
    await writeFile(file, 'no Parquet file, whatever its name says')
    const reading = (path: string) => pool.fetch({ path }, Uint32Array.of(0), fields)
    await expect(reading(file)).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(reading(join(directory, 'b.parquet'))).rejects.toMatchObject({ kind: 'invalid', code: 'PARQUET_FILE_NOT_FOUND' })
    const isAway = { kind: 'retry', code: 'STORE_UNAVAILABLE' }
    // As of a disk that is not mounted; and EISDIR, as EIO and ESTALE.
    await expect(reading(join(directory, 'data', 'c.parquet'))).rejects.toMatchObject(isAway)
    await expect(reading(join(file, 'd.parquet'))).rejects.toMatchObject(isAway)
    await expect(reading(directory)).rejects.toMatchObject(isAway)
    await rm(directory, { recursive: true })
  })

  it('writes files in parts that keep lineage, and refuses to mix', async () => {
    const pool = open({ workers: 2 })
    const file = pool.createFile(fields)
    for (let from = 0; from < 100; from += 40) {
      const part = values.slice(from, from + 40)
      const rowIds = Float64Array.from(part, (_, index) => 1000 + from + index)
      await file.append(toBatch(fields, part), { rowIds, lastUpdated: rowIds.map((id) => id % 7) })
    }
    await expect(file.append(toBatch(fields, values))).rejects.toThrow(/lineage/)
    expect(file.recordCount).toBe(100)
    const bytes = joinBytes(file.finish().bytes)
    expect(await scanAll(pool, { bytes })).toEqual(values)
    const rowIds: number[] = []
    const lastUpdated: number[] = []
    for await (const scanned of pool.scan({ bytes }, { fields, lineage: { firstRowId: 0, dataSequenceNumber: 99 } })) {
      rowIds.push(...scanned.rowIds!)
      lastUpdated.push(...scanned.lastUpdated!)
    }
    expect(rowIds).toEqual(values.map((_, row) => 1000 + row))
    expect(lastUpdated).toEqual(rowIds.map((id) => id % 7))
  })

  it('takes over the memory of what it writes, but no empty buffers, which builders share', async () => {
    const given = rows()
    const list = given.rows.columns[2]
    expect(list.values.length).toBe(0)
    const first = open({ workers: 1 }).encode(given, schema)
    expect(given.rows.columns[0].values.length).toBe(0)
    expect(() => new Int32Array(list.values.buffer)).not.toThrow()
    await first
    await open({ workers: 1 }).encode(rows(), schema)
  })

  it('takes columns that share a buffer and memory that cannot be moved', async () => {
    const pool = open({ workers: 1 })
    const { bytes } = await encode(pool)
    const batches: ColumnBatch[] = []
    for await (const { rows } of pool.scan({ bytes }, { fields, lineage: null })) batches.push(rows)
    expect(batches).toHaveLength(1)
    const text = Buffer.from('shared')
    const pooled = {
      ...batches[0].columns[1],
      length: 100,
      values: new Uint8Array(text.buffer, text.byteOffset, text.length),
      offsets: new Int32Array(101).fill(6, 1),
    }
    const mixed = { fields, columns: [batches[0].columns[0], pooled, batches[0].columns[2]], length: 100 }
    const again = await pool.encode({ rows: mixed, rowIds: null, lastUpdated: null }, schema)
    expect((await scanAll(pool, { bytes: joinBytes(again.bytes) }))[0]).toEqual([0n, 'shared', [0]])
    expect(text.toString()).toBe('shared')
  })

  it('works through more jobs than threads and replaces threads that grew too large', async () => {
    const pool = open({ workers: 2, maxWorkerBytes: 1 })
    const files = await Promise.all(Array.from({ length: 6 }, () => encode(pool)))
    const scans = await Promise.all(files.map((file) => scanAll(pool, file)))
    for (const scan of scans) expect(scan).toEqual(values)
  })

  it('passes errors on and stays usable', async () => {
    const pool = open({ workers: 1 })
    const missing = { rows: toBatch([], []), rowIds: null, lastUpdated: null }
    const wrong = pool.encode({ ...missing, rows: { ...missing.rows, length: 3 } }, schema)
    await expect(wrong).rejects.toSatisfy((error) => isMoonlinkError(error, 'invalid') && error.code === 'PARQUET_REQUIRED_FIELD_NULL')
    const { bytes } = await encode(pool)
    const damaged = bytes.slice().fill(0xab, 4, bytes.length / 2)
    await expect(scanAll(pool, { bytes: damaged })).rejects.toSatisfy((error) => isMoonlinkError(error, 'corrupt'))
    expect(await scanAll(pool, { bytes })).toEqual(values)
  })

  it('rejects what is left when it is closed, and everything after', async () => {
    const pool = open({ workers: 1 })
    const jobs = [pool.encode(rows(), schema), pool.encode(rows(), schema)]
    const settled = Promise.allSettled(jobs)
    await pool.close()
    for (const result of await settled) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'PARQUET_POOL_CLOSED' } })
    await expect(pool.encode(rows(), schema)).rejects.toMatchObject({ code: 'PARQUET_POOL_CLOSED' })
  })
})

async function scanAll(pool: ParquetWorkerPool, source: { readonly bytes: Uint8Array } | { readonly path: string }): Promise<unknown[]> {
  const result: unknown[] = []
  for await (const { rows } of pool.scan(source, { fields, lineage: null })) result.push(...toRows(rows))
  return result
}
