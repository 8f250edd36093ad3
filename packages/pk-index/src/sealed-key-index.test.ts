import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, appendFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMoonlinkError } from '@moonlink/core'
import { damaged, damages, describeKeyIndex, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { BlockCache } from './block-cache.ts'
import type { KeyHashes } from './key-hashes.ts'
import { MatchBuffer, sortByHash } from './match-buffer.ts'
import { SealedKeyIndex } from './sealed-key-index.ts'
import { writeSealedIndex } from './sealed-writer.ts'

const directory = mkdtempSync(join(tmpdir(), 'sealed-index-'))
afterAll(() => rmSync(directory, { recursive: true }))

let fileCount = 0
const newPath = () => join(directory, `${fileCount++}.idx`)
const DATA_FILE = 's3://bucket/table/data/00001.parquet'

async function seal(hashes: KeyHashes, rowIds: Float64Array | null = null): Promise<string> {
  const path = newPath()
  await writeSealedIndex({ path, dataFile: DATA_FILE, hashes, rowIds })
  return path
}

async function openSealed(
  path: string,
  recordCount: number,
  cache = new BlockCache(2 ** 20),
  residentFilter = true,
): Promise<SealedKeyIndex> {
  const index = await SealedKeyIndex.open(path, { dataFile: DATA_FILE, recordCount }, cache, { residentFilter })
  if (index === null) throw new Error('the index opens')
  return index
}

function rowsOf(index: SealedKeyIndex, low: number, high: number, limit?: number, skip?: number): number[] {
  const rows: number[] = []
  const count = index.candidates(low, high, rows, limit, skip)
  // By hand: it is called too often for matchers.
  if (count !== rows.length) expect.fail(`candidates tells ${count} and gives ${rows.length}`)
  return rows
}

function scattered(length: number, seed = 1): KeyHashes {
  const hashes = { low: new Uint32Array(length), high: new Uint32Array(length), length }
  for (let row = 0; row < length; row++) {
    hashes.low[row] = Math.imul(row + seed, 0x9e3779b1)
    hashes.high[row] = Math.imul(hashes.low[row] ^ (hashes.low[row] >>> 15), 0x85ebca77)
  }
  return hashes
}

describe.each([true, false])('resident filter: %s', (residentFilter) => {
  describeKeyIndex('SealedKeyIndex', async (hashes) => {
    const path = await seal(hashes)
    // The least cache there is, so that blocks come and go.
    const index = await openSealed(path, hashes.length, new BlockCache(0), residentFilter)
    return { candidates: (low, high) => rowsOf(index, low, high), close: () => index.close() }
  })
})

describe('lookups', () => {
  test('rows that share a hash come ascending, a page at a time if wanted', async () => {
    const hashes = scattered(3000)
    for (let row = 0; row < 3000; row += 2) {
      hashes.low[row] = 5
      hashes.high[row] = 0x8000_0000
    }
    const index = await openSealed(await seal(hashes), 3000)
    const even = Array.from({ length: 1500 }, (_, i) => i * 2)
    expect(rowsOf(index, 5, 0x8000_0000)).toEqual(even)
    expect(rowsOf(index, 5, 0x8000_0000, 3)).toEqual([0, 2, 4])
    expect(rowsOf(index, 5, 0x8000_0000, 400, 700)).toEqual(even.slice(700, 1100))
    expect(rowsOf(index, 5, 0x8000_0000, 10, 1495)).toEqual(even.slice(1495))
    expect(rowsOf(index, 5, 0x8000_0000, 0)).toEqual([])
    index.close()
  })

  test('a batch gives what single lookups give', async () => {
    const hashes = scattered(20_000)
    for (let row = 0; row < 200; row++) {
      hashes.low[row] = 9
      hashes.high[row] = 77
    }
    const index = await openSealed(await seal(hashes), 20_000)
    const asked = { low: Uint32Array.from(hashes.low), high: Uint32Array.from(hashes.high), length: 20_000 }
    for (let i = 0; i < 20_000; i += 3) asked.low[i] ^= 1
    const selection = Uint32Array.from({ length: 5000 }, (_, i) => (i * 7919) % 20_000)
    const out = new MatchBuffer(1)
    const count = index.candidatesBatch(asked, selection, out)
    expect(out.length).toBe(count)
    const sorted = sortByHash(asked, selection)
    const expected = [...sorted].flatMap((i) => rowsOf(index, asked.low[i], asked.high[i]).map((row) => [i, row]))
    expect(Array.from({ length: count }, (_, at) => [out.indices[at], out.rows[at]])).toEqual(expected)
    expect([...sorted].toSorted((a, b) => a - b)).toEqual([...selection].toSorted((a, b) => a - b))
    const again = new MatchBuffer()
    expect(index.candidatesBatch(asked, sorted, again)).toBe(count)
    expect(again.rows.slice(0, count)).toEqual(out.rows.slice(0, count))
    index.close()
  })

  test('a key that the file lacks mostly costs no read', async () => {
    const index = await openSealed(await seal(scattered(50_000)), 50_000)
    const other = scattered(50_000, 0x4000_0000)
    let passed = 0
    for (let row = 0; row < 50_000; row++) if (index.mayContain(other.low[row], other.high[row])) passed++
    expect(passed / 50_000).toBeLessThan(0.01)
    index.close()
  })

  test('row ids come by row', async () => {
    const rowIds = Float64Array.from({ length: 2000 }, (_, row) => (row % 3 === 0 ? -1 : 2 ** 52 + row))
    const index = await openSealed(await seal(scattered(2000), rowIds), 2000)
    for (let row = 0; row < 2000; row++) expect(index.rowIdAt(row)).toBe(rowIds[row])
    index.close()
    const without = await openSealed(await seal(scattered(2000)), 2000)
    expect(without.rowIdAt(5)).toBe(-1)
    without.close()
  })
})

describe('memory', () => {
  test('an index holds less than 2 bytes a key; the cache stays within its bound, whatever goes through it', async () => {
    const cache = new BlockCache(2 ** 18)
    const hashes = scattered(40_000)
    const indexes = [await openSealed(await seal(hashes), 40_000, cache), await openSealed(await seal(hashes), 40_000, cache)]
    for (let row = 0; row < 40_000; row += 3) {
      for (const index of indexes) expect(rowsOf(index, hashes.low[row], hashes.high[row])).toEqual([row])
    }
    for (const index of indexes) expect(index.byteSize / 40_000).toBeLessThan(1.6)
    indexes[1].releaseFilter()
    expect(indexes[1].byteSize / 40_000).toBeLessThan(0.05)
    expect(cache.byteSize).toBeLessThan(2 ** 18 + 8192)
    expect(cache.readCount).toBeGreaterThan(1000)
    indexes[0].close()
    indexes[0].close()
    expect(rowsOf(indexes[1], hashes.low[0], hashes.high[0])).toEqual([0])
    expect(() => rowsOf(indexes[0], hashes.low[0], hashes.high[0])).toThrow(/closed/)
    indexes[1].close()
  })

  test('a filter that was let go of comes back, and may be on its way when the index closes', async () => {
    const hashes = scattered(40_000)
    const index = await openSealed(await seal(hashes), 40_000)
    const held = index.byteSize
    index.releaseFilter()
    expect([index.isFilterResident, held - index.byteSize]).toEqual([false, index.filterBytes])
    const loading = index.loadFilter()
    expect(rowsOf(index, hashes.low[7], hashes.high[7])).toEqual([7])
    await loading
    expect([index.isFilterResident, index.byteSize]).toEqual([true, held])
    for (let row = 0; row < 40_000; row += 7) expect(index.mayContain(hashes.low[row], hashes.high[row])).toBe(true)
    let absent = 0
    for (let row = 0; row < 10_000; row++) if (index.mayContain(hashes.low[row] ^ 0x5555, hashes.high[row])) absent++
    expect(absent).toBeLessThan(200)
    index.releaseFilter()
    const last = index.loadFilter()
    index.close()
    await last
    expect(index.isFilterResident).toBe(false)
  })

  test('blocks in use stay', async () => {
    const cache = new BlockCache(64 * 4096)
    const hashes = scattered(340 * 200)
    const index = await openSealed(await seal(hashes), hashes.length, cache)
    rowsOf(index, hashes.low[0], hashes.high[0])
    for (let row = 1; row < 2000; row++) {
      rowsOf(index, hashes.low[row], hashes.high[row])
      const before = cache.readCount
      rowsOf(index, hashes.low[0], hashes.high[0])
      expect(cache.readCount).toBe(before)
    }
    index.close()
  })

  test('sorting lets other work run', async () => {
    const hashes = scattered(400_000)
    let turns = 0
    let isDone = false
    const count = async () => {
      while (!isDone) {
        await new Promise((resolve) => setImmediate(resolve))
        turns++
      }
    }
    const counting = count()
    const path = await seal(hashes)
    isDone = true
    await counting
    expect(turns).toBeGreaterThan(20)
    const index = await openSealed(path, hashes.length)
    for (let row = 0; row < hashes.length; row += 101) expect(rowsOf(index, hashes.low[row], hashes.high[row])).toEqual([row])
    index.close()
  })
})

describe('what does not match', () => {
  test('is null: absent, of another file, count, version or length', async () => {
    const cache = new BlockCache(0)
    const path = await seal(scattered(1000))
    const expected = { dataFile: DATA_FILE, recordCount: 1000 }
    expect(await SealedKeyIndex.open(join(directory, 'absent'), expected, cache)).toBeNull()
    expect(await SealedKeyIndex.open(path, { ...expected, dataFile: `${DATA_FILE}x` }, cache)).toBeNull()
    expect(await SealedKeyIndex.open(path, { ...expected, recordCount: 999 }, cache)).toBeNull()
    const size = statSync(path).size
    for (const length of [0, 1, 4095, 4096, 8192, size - 4096, size - 1]) {
      const copy = newPath()
      writeFileSync(copy, readFileSync(path))
      truncateSync(copy, length)
      expect(await SealedKeyIndex.open(copy, expected, cache)).toBeNull()
    }
    appendFileSync(path, new Uint8Array(4096))
    expect(await SealedKeyIndex.open(path, expected, cache)).toBeNull()
    await SealedKeyIndex.remove(path)
    await SealedKeyIndex.remove(path)
    expect(readdirSync(directory)).not.toContain(path)
  })

  test('a file is replaced whole, and a failed write leaves nothing', async () => {
    const path = await seal(scattered(1000))
    writeFileSync(`${path}.tmp`, 'left by a crash')
    await writeSealedIndex({ path, dataFile: DATA_FILE, hashes: scattered(2000), rowIds: null })
    const index = await openSealed(path, 2000)
    index.close()
    await expect(writeSealedIndex({ path, dataFile: 'x'.repeat(5000), hashes: scattered(10), rowIds: null })).rejects.toThrow('at most')
    expect(readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([])
    ;(await openSealed(path, 2000)).close()
  })
})

describe('damage', () => {
  const COUNT = 1500
  const hashes = scattered(COUNT)
  const rowIds = Float64Array.from({ length: COUNT }, (_, row) => row + 0.5)

  /** Reads everything; false where damage was reported. Anything but the right answers fails the test. */
  async function readsWell(path: string, residentFilter = true): Promise<boolean> {
    const expected = { dataFile: DATA_FILE, recordCount: COUNT }
    const index = await SealedKeyIndex.open(path, expected, new BlockCache(0), { residentFilter })
    if (index === null) return false
    try {
      for (let row = 0; row < COUNT; row += 11) {
        expect(rowsOf(index, hashes.low[row], hashes.high[row])).toEqual([row])
        expect(index.rowIdAt(row)).toBe(row + 0.5)
      }
      return true
    } catch (error) {
      if (isMoonlinkError(error, 'corrupt')) return false
      throw error
    } finally {
      index.close()
    }
  }

  test('of any byte is reported', async () => {
    const path = await seal(hashes, rowIds)
    expect(await readsWell(path)).toBe(true)
    const intact = readFileSync(path)
    const spoiled = newPath()
    const at = fc.oneof(fc.nat({ max: 4095 }), fc.nat({ max: intact.length - 1 }))
    await fc.assert(
      fc.asyncProperty(at, fc.integer({ min: 1, max: 255 }), fc.boolean(), async (offset, mask, residentFilter) => {
        const bytes = Buffer.from(intact)
        bytes[offset] ^= mask
        writeFileSync(spoiled, bytes)
        expect(await readsWell(spoiled, residentFilter)).toBe(false)
      }),
      fuzzing(300),
    )
  })

  test('of any kind and length is reported', async () => {
    const intact = readFileSync(await seal(hashes, rowIds))
    const spoiled = newPath()
    await fc.assert(
      fc.asyncProperty(damages, fc.boolean(), async (what, residentFilter) => {
        const bytes = damaged(intact, what)
        writeFileSync(spoiled, bytes)
        expect(await readsWell(spoiled, residentFilter)).toBe(intact.equals(bytes))
      }),
      fuzzing(150),
    )
  })

  test('of blocks that changed places, or were lost, is reported', async () => {
    const intact = readFileSync(await seal(hashes, rowIds))
    const blocks = intact.length / 4096
    const spoiled = newPath()
    for (let a = 0; a < blocks; a++) {
      const lost = Buffer.from(intact)
      lost.fill(0, a * 4096, (a + 1) * 4096)
      writeFileSync(spoiled, lost)
      expect(await readsWell(spoiled)).toBe(false)
      for (let b = a + 1; b < blocks; b++) {
        const swapped = Buffer.from(intact)
        intact.copy(swapped, a * 4096, b * 4096, (b + 1) * 4096)
        intact.copy(swapped, b * 4096, a * 4096, (a + 1) * 4096)
        writeFileSync(spoiled, swapped)
        expect(await readsWell(spoiled)).toBe(false)
      }
    }
  })
})
