import { close, closeSync, fstat, open, read } from 'node:fs'
import { rm } from 'node:fs/promises'
import { promisify } from 'node:util'
import { assert } from '@moonlink/core'
import { CachedFile, type BlockCache } from './block-cache.ts'
import { BLOCK_BYTES, BLOCK_WORDS, DATA_WORDS, isIntact } from './blocks.ts'
import { filterOf, mayContain } from './filter.ts'
import type { KeyHashes } from './key-hashes.ts'
import { isSortedByHash, sortByHash, type MatchBuffer } from './match-buffer.ts'
import {
  COUNT_AT,
  decodeHeader,
  FILTER_WORDS,
  FILTERS_PER_BLOCK,
  LOW_AT,
  ROW_AT,
  ROW_IDS_PER_BLOCK,
  type SealedLayout,
} from './sealed-format.ts'

const openFile = promisify(open)
const closeFile = promisify(close)
const statFile = promisify(fstat)
const readFile = promisify(read)

/** What an index must have been made for. */
export interface ExpectedDataFile {
  readonly dataFile: string
  readonly recordCount: number
}

/** Takes rows one by one; an array of numbers is one. */
export interface RowSink {
  push(row: number): unknown
}

/**
 * The index of one data file, key hash → rows, on local disk. In memory: a filter and a directory, about 1.6 bytes a key; the
 * entries come block by block through a `BlockCache`. A key that the file lacks costs no read but for 1 in 200, a key it has one
 * block of 4 KiB.
 *
 * Reads are synchronous. They throw `corrupt`/`INDEX_CORRUPT` where the file was damaged; wrong candidates are never given.
 * Holds a file descriptor until `close`.
 */
export class SealedKeyIndex {
  /** Rows of the data file. */
  readonly recordCount: number
  private readonly layout: SealedLayout
  private readonly file: CachedFile
  private readonly cache: BlockCache
  private readonly fences: Uint32Array
  private readonly filter: Int32Array

  private constructor(layout: SealedLayout, file: CachedFile, cache: BlockCache, fences: Uint32Array, filter: Int32Array) {
    this.recordCount = layout.recordCount
    this.layout = layout
    this.file = file
    this.cache = cache
    this.fences = fences
    this.filter = filter
  }

  /**
   * Opens the index at `path`. Null where there is none, or one of another version, for another data file, cut off or damaged: make
   * it again with `writeSealedIndex`.
   */
  static async open(path: string, expected: ExpectedDataFile, cache: BlockCache): Promise<SealedKeyIndex | null> {
    let fd: number
    try {
      fd = await openFile(path, 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    try {
      const index = await load(fd, expected, (layout, fences, filter) => {
        return new SealedKeyIndex(layout, new CachedFile(path, fd, layout.blockCount), cache, fences, filter)
      })
      if (index === null) await closeFile(fd)
      return index
    } catch (error) {
      await closeFile(fd)
      throw error
    }
  }

  /** Removes the file at `path`, if there is one, and what an interrupted write left beside it. Open indexes of it stay usable. */
  static async remove(path: string): Promise<void> {
    await rm(path, { force: true })
    await rm(`${path}.tmp`, { force: true })
  }

  /** Bytes held in memory, without the shared cache. */
  get byteSize(): number {
    return this.fences.byteLength + this.filter.byteLength + this.file.slots.byteLength
  }

  /** True where the data file stores `_row_id`s. */
  get hasRowIds(): boolean {
    return this.layout.hasRowIds
  }

  /** False where no row has that hash. Never reads. About 1 in 200 absent hashes gives true. */
  mayContain(low: number, high: number): boolean {
    return mayContain(this.filter, filterOf(high, this.layout.filterCount) * FILTER_WORDS, low)
  }

  /**
   * Appends the rows with that hash to `into`, ascending: at most `limit`, after leaving out the first `skip`. Returns how many were
   * appended. Unless the hasher is exact, they may be rows of another key; dead rows are among them.
   */
  candidates(low: number, high: number, into: RowSink, limit = Infinity, skip = 0): number {
    if (!this.mayContain(low, high)) return 0
    return this.scan(low >>> 0, high >>> 0, into, limit, skip)
  }

  /**
   * Looks up the hashes at `selection` in `hashes` and appends (index in `hashes`, row) pairs to `out`: pairs of one entry of the
   * selection together, their rows ascending, entries in the order of `sortByHash`, so that each block is touched once. Returns how
   * many pairs were appended. For several indexes, sort the selection once, with that function, before.
   */
  candidatesBatch(hashes: KeyHashes, selection: Uint32Array, out: MatchBuffer): number {
    const { low, high } = hashes
    const before = out.length
    const rows: number[] = []
    for (const index of isSortedByHash(hashes, selection) ? selection : sortByHash(hashes, selection)) {
      rows.length = 0
      this.candidates(low[index]!, high[index]!, rows)
      for (const row of rows) out.push(index, row)
    }
    return out.length - before
  }

  /** `_row_id` that the data file stores for that row; -1 where it stores none. */
  rowIdAt(row: number): number {
    if (!this.layout.hasRowIds) return -1
    assert(row < this.recordCount, 'a row lies within its file', { row, recordCount: this.recordCount })
    const at = this.cache.fetch(this.file, this.layout.rowIdsAt + Math.floor(row / ROW_IDS_PER_BLOCK))
    const { words } = this.cache
    return new Float64Array(words.buffer, words.byteOffset + at * 4, ROW_IDS_PER_BLOCK)[row % ROW_IDS_PER_BLOCK]!
  }

  /** Gives memory and file descriptor back. May be called again; lookups are not allowed any more. */
  close(): void {
    if (this.file.isClosed) return
    this.file.isClosed = true
    this.cache.forget(this.file)
    closeSync(this.file.fd)
  }

  private scan(low: number, high: number, into: RowSink, limit: number, skip: number): number {
    let count = 0
    for (let block = this.firstBlock(high); block < this.layout.entryBlocks; block++) {
      const base = this.cache.fetch(this.file, this.layout.entriesAt + block)
      const { words } = this.cache
      const end = words[base + COUNT_AT]!
      for (let at = this.lowerBound(words, base, block, low, high); at < end; at++) {
        if (words[base + at]! >>> 0 !== high || words[base + LOW_AT + at]! >>> 0 !== low) return count
        if (skip > 0) {
          skip--
          continue
        }
        if (count >= limit) return count
        into.push(words[base + ROW_AT + at]! >>> 0)
        count++
      }
      if (block + 1 < this.fences.length && this.fences[block + 1]! > high) return count
    }
    return count
  }

  /** The first block that may hold entries with that `high`: the one before the first block that starts with it or with a greater. */
  private firstBlock(high: number): number {
    const { fences } = this
    const guess = Math.floor((high * fences.length) / 0x1_0000_0000)
    return Math.max(0, firstAtLeast(fences, 0, fences.length, high, guess) - 1)
  }

  /** First entry of a block at or after (high, low), by its place in the block; guessed from the neighbouring fences. */
  private lowerBound(words: Int32Array, base: number, block: number, low: number, high: number): number {
    const count = words[base + COUNT_AT]!
    const first = this.fences[block]!
    const next = block + 1 < this.fences.length ? this.fences[block + 1]! : 0x1_0000_0000
    const guess = next > first && high > first ? Math.floor(((high - first) / (next - first)) * count) : 0
    let at = firstAtLeast(words, base, count, high, guess)
    while (at < count && words[base + at]! >>> 0 === high && words[base + LOW_AT + at]! >>> 0 < low) at++
    return at
  }
}

const FIRST_STEP = 4

/** First index from `base` on whose word is at least `value`, both unsigned; `count` if none. Fast where it is near `guess`. */
function firstAtLeast(words: Int32Array | Uint32Array, base: number, count: number, value: number, guess: number): number {
  // Words before `from` are less than the value, words from `to` on are not.
  let from = 0
  let to = count
  let at = Math.min(guess, count - 1)
  for (let step = FIRST_STEP; at >= from && at < to; step *= 2) {
    if (words[base + at]! >>> 0 < value) {
      from = at + 1
      at = from + step
    } else {
      to = at
      at = to - 1 - step
    }
  }
  while (from < to) {
    const middle = (from + to) >>> 1
    if (words[base + middle]! >>> 0 < value) from = middle + 1
    else to = middle
  }
  return from
}

async function load<T>(
  fd: number,
  { dataFile, recordCount }: ExpectedDataFile,
  make: (layout: SealedLayout, fences: Uint32Array, filter: Int32Array) => T,
): Promise<T | null> {
  const header = await readBlocks(fd, 0, 1)
  const layout = header && decodeHeader(header, dataFile, recordCount)
  if (!layout || (await statFile(fd)).size !== layout.blockCount * BLOCK_BYTES) return null
  const fences = await readBlocks(fd, layout.fencesAt, layout.filterAt - layout.fencesAt)
  const filter = await readBlocks(fd, layout.filterAt, layout.entriesAt - layout.filterAt)
  if (!fences || !filter) return null
  return make(
    layout,
    new Uint32Array(unpack(fences, DATA_WORDS, layout.entryBlocks).buffer),
    unpack(filter, FILTERS_PER_BLOCK * FILTER_WORDS, layout.filterCount * FILTER_WORDS),
  )
}

/** Reads blocks; null where some are missing or damaged. */
async function readBlocks(fd: number, firstBlock: number, count: number): Promise<Int32Array | null> {
  const words = new Int32Array(count * BLOCK_WORDS)
  const bytes = new Uint8Array(words.buffer)
  for (let done = 0; done < bytes.length;) {
    const { bytesRead } = await readFile(fd, bytes, done, bytes.length - done, firstBlock * BLOCK_BYTES + done)
    if (bytesRead === 0) return null
    done += bytesRead
  }
  for (let index = 0; index < count; index++) if (!isIntact(words, index * BLOCK_WORDS, firstBlock + index)) return null
  return words
}

/** The first `length` words of what blocks hold, `perBlock` of each, without gaps. */
function unpack(blocks: Int32Array, perBlock: number, length: number): Int32Array {
  const words = new Int32Array(length)
  for (let at = 0, block = 0; at < length; at += perBlock, block += BLOCK_WORDS) {
    words.set(blocks.subarray(block, block + Math.min(perBlock, length - at)), at)
  }
  return words
}
