import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { joinBytes, systemDisk, type Field, type LocalDisk, type LocalFiles, type Value } from '@moonlink/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { encodeParquet } from './encode.ts'
import { field, listOf, structOf, toBatch, toRows } from './rows.test.support.ts'
import { VariantTextCopies } from './variant-text-copies.ts'
import { ParquetWorkerPool } from './worker-pool.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-copies-'))
const parquet = new ParquetWorkerPool({ workers: 2 })
afterAll(async () => {
  await parquet.close()
  rmSync(directory, { recursive: true })
})

const variant = { kind: 'variant' } as const
const fields = [
  field(1, { kind: 'long' }),
  field(2, variant),
  field(3, listOf(variant, 4)),
  field(5, structOf(field(6, variant), field(7, { kind: 'decimal', precision: 20, scale: 2 }))),
]
const rows: Value[][] = [
  [1n, '{"a": [1.50]}', ['null', null], ['"x"', 5n]],
  [2n, 'null', [], null],
  [3n, null, null, [null, null]],
]
/** Objects that are files already; `pinned` counts. */
let pinned = 0
const localFiles: LocalFiles = {
  pin: async (uri) => {
    pinned++
    return { path: join(directory, uri), release: () => void pinned-- }
  },
  drop: async () => false,
}

beforeAll(() => {
  for (const name of ['a', 'b', 'c']) {
    const { bytes } = encodeParquet(
      { rows: toBatch(fields, rows), rowIds: null, lastUpdated: null },
      { fields, identifierFieldIds: [] },
      { rowGroupRows: 2 },
    )
    writeFileSync(join(directory, name), joinBytes(bytes))
  }
})

const open = (maxBytes: number) => VariantTextCopies.open({ localFiles, parquet, directory: join(directory, 'copies'), maxBytes })

async function read(path: string, of: readonly Field[]): Promise<Value[][]> {
  const all: Value[][] = []
  for await (const batch of parquet.scan({ path }, { fields: of, lineage: null })) all.push(...toRows(batch.rows))
  return all
}

const string = { kind: 'string' } as const
const texts = [
  fields[0],
  field(2, string),
  field(3, listOf(string, 4)),
  field(5, structOf(field(6, string), field(7, { kind: 'decimal', precision: 20, scale: 2 }))),
]

test('a copy has the same rows with text for variants, a column that was added included, and is made once', async () => {
  const copies = await open(1 << 20)
  const [first, second] = await Promise.all([copies.pin('a', 1, fields), copies.pin('a', 1, fields)])
  expect(second.path).toBe(first.path)
  expect(await read(first.path, texts)).toEqual(rows)
  const more = [...fields, field(9, variant), { ...field(10, string), initialDefault: 'given' }]
  const later = await copies.pin('a', 1, more)
  expect(await read(later.path, [field(9, string), field(10, string)])).toEqual(rows.map(() => [null, 'given']))
  expect(pinned).toBe(0)
})

test('beyond the limit the copy used least recently goes, unless it is pinned; what an earlier process left goes too', async () => {
  mkdirSync(join(directory, 'copies'), { recursive: true })
  writeFileSync(join(directory, 'copies', 'left.parquet'), '')
  const copies = await open(1)
  expect(existsSync(join(directory, 'copies', 'left.parquet'))).toBe(false)
  const a = await copies.pin('a', 1, fields)
  const b = await copies.pin('b', 1, fields)
  expect(readdirSync(join(directory, 'copies')).length).toBe(2)
  a.release()
  a.release()
  await copies.pin('c', 1, fields)
  expect([a, b].map(({ path }) => existsSync(path))).toEqual([false, true])
  expect(await read((await copies.pin('a', 1, fields)).path, texts)).toEqual(rows)
})

test('two copies are made at a time, and one that fails holds up no other', async () => {
  const ends: (() => void)[] = []
  const begun: string[] = []
  const held: LocalFiles = {
    ...localFiles,
    pin: async (uri, sizeBytes) => {
      begun.push(uri)
      await new Promise<void>((resolve) => ends.push(resolve))
      return localFiles.pin(uri, sizeBytes)
    },
  }
  const copies = await VariantTextCopies.open({ localFiles: held, parquet, directory: join(directory, 'copies'), maxBytes: 1 << 20 })
  const all = ['missing yet', 'a', 'b', 'c'].map((uri) => copies.pin(uri, 1, fields))
  await expect.poll(() => begun).toEqual(['missing yet', 'a'])
  // The second one ends first; another takes its place alone.
  ends[1]()
  expect(await read((await all[1]).path, texts)).toEqual(rows)
  expect(begun).toEqual(['missing yet', 'a', 'b'])
  ends[0]()
  await expect(all[0]).rejects.toMatchObject({ code: 'PARQUET_FILE_NOT_FOUND' })
  await expect.poll(() => begun).toEqual(['missing yet', 'a', 'b', 'c'])
  for (const end of ends) end()
  for (const copy of [all[2], all[3]]) expect(await read((await copy).path, texts)).toEqual(rows)
  expect(pinned).toBe(0)
})

test('a file that can not be read is tried again by the next', async () => {
  const copies = await open(1 << 20)
  await expect(copies.pin('missing', 1, fields)).rejects.toMatchObject({ code: 'PARQUET_FILE_NOT_FOUND' })
  writeFileSync(join(directory, 'missing'), 'no Parquet, but longer than its trailer')
  await expect(copies.pin('missing', 1, fields)).rejects.toMatchObject({ kind: 'corrupt' })
  expect(await read((await copies.pin('b', 1, fields)).path, texts)).toEqual(rows)
  expect(pinned).toBe(0)
})

test('a copy that does not fit on the disk leaves nothing there, and is made by the next read once it does', async () => {
  const full = Object.assign(new Error('no space left'), { code: 'ENOSPC' })
  const failures: Error[] = [full]
  const disk: LocalDisk = {
    ...systemDisk,
    rename: async (from, to) => {
      const failure = failures.shift()
      if (failure !== undefined) throw failure
      return systemDisk.rename(from, to)
    },
  }
  const place = join(directory, 'full')
  const copies = await VariantTextCopies.open({ localFiles, parquet, directory: place, disk, maxBytes: 1 << 20 })
  await expect(copies.pin('a', 1, fields)).rejects.toMatchObject({ kind: 'retry', code: 'VARIANT_COPY_FAILED', cause: full })
  expect(readdirSync(place)).toEqual([])
  expect(await read((await copies.pin('a', 1, fields)).path, texts)).toEqual(rows)
})
