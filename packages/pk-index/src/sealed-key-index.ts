import { assert, systemDisk, type LocalDisk } from '@moonlink/core'
import { CachedFile, type BlockCache } from './block-cache.ts'
import { filterOf, mayContain } from './filter.ts'
import type { KeyHashes } from './key-hashes.ts'
import { isSortedByHash, sortByHash, type MatchBuffer } from './match-buffer.ts'
import { COUNT_AT, FILTER_WORDS, FILTERS_PER_BLOCK, LOW_AT, ROW_AT, ROW_IDS_PER_BLOCK, type SealedLayout } from './sealed-format.ts'
import { loadFilter, loadIndex, type ExpectedDataFile, type LoadedIndex } from './sealed-loader.ts'
import { firstAtLeast } from './search.ts'

export interface OpenOptions {
  /** Keeps the filter in memory, 1.5 bytes a key (the default). Otherwise it goes through the cache, and a lookup may read it. */
  readonly residentFilter?: boolean
  /** Default: the system's. */
  readonly disk?: LocalDisk
}

/** Takes rows one by one; an array of numbers is one. */
export interface RowSink {
  push(row: number): unknown
}

/**
 * The index of one data file, key hash → rows, on local disk. In memory: a filter and a directory, 1.53 bytes a key (0.03 without
 * the filter); the entries come block by block through a `BlockCache`. A key that the file lacks costs no read but for 1 in 200, a
 * key it has one block of 4 KiB.
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
  private filter: Int32Array | null
  private isLoading = false

  private constructor(path: string, { file, layout, fences, filter }: LoadedIndex, cache: BlockCache) {
    this.recordCount = layout.recordCount
    this.layout = layout
    this.file = new CachedFile(path, file, layout.blockCount)
    this.cache = cache
    this.fences = fences
    this.filter = filter
  }

  /**
   * Opens the index at `path`. Null where there is none, or one of another version, for another data file, cut off or damaged: make
   * it again with `writeSealedIndex`.
   */
  static async open(
    path: string,
    expected: ExpectedDataFile,
    cache: BlockCache,
    options: OpenOptions = {},
  ): Promise<SealedKeyIndex | null> {
    const loaded = await loadIndex(options.disk ?? systemDisk, path, expected, options.residentFilter ?? true)
    return loaded && new SealedKeyIndex(path, loaded, cache)
  }

  /** Removes the file at `path`, if there is one, and what an interrupted write left beside it. Open indexes of it stay usable. */
  static async remove(path: string, disk: LocalDisk = systemDisk): Promise<void> {
    await disk.remove(path)
    await disk.remove(`${path}.tmp`)
  }

  /** Where it was opened; what it throws names it as `path`. */
  get path(): string {
    return this.file.path
  }

  /** Bytes held in memory, without the shared cache. */
  get byteSize(): number {
    return this.fences.byteLength + (this.filter?.byteLength ?? 0) + this.file.slots.byteLength
  }

  /** True where the data file stores `_row_id`s. */
  get hasRowIds(): boolean {
    return this.layout.hasRowIds
  }

  /** False where no row has that hash. About 1 in 200 absent hashes gives true. Reads only where the filter is not resident. */
  mayContain(low: number, high: number): boolean {
    const index = filterOf(high, this.layout.filterCount)
    if (this.filter) return mayContain(this.filter, index * FILTER_WORDS, low)
    const at = this.cache.fetch(this.file, this.layout.filterAt + Math.floor(index / FILTERS_PER_BLOCK))
    return mayContain(this.cache.words, at + (index % FILTERS_PER_BLOCK) * FILTER_WORDS, low)
  }

  /** Bytes that the filter takes while it is in memory. */
  get filterBytes(): number {
    return this.layout.filterCount * FILTER_WORDS * 4
  }

  get isFilterResident(): boolean {
    return this.filter !== null
  }

  get isClosed(): boolean {
    return this.file.isClosed
  }

  /** Lets go of the filter's memory; from now on it goes through the cache too. */
  releaseFilter(): void {
    this.filter = null
  }

  /** Takes the filter into memory again. Lookups go on meanwhile; where the file is damaged, it is they that say so. */
  async loadFilter(): Promise<void> {
    if (this.filter !== null || this.isClosed || this.isLoading) return
    this.isLoading = true
    try {
      const filter = await loadFilter(this.file.open, this.layout)
      if (!this.isClosed) this.filter = filter
    } finally {
      this.isLoading = false
    }
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
      this.candidates(low[index], high[index], rows)
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
    return new Float64Array(words.buffer, words.byteOffset + at * 4, ROW_IDS_PER_BLOCK)[row % ROW_IDS_PER_BLOCK]
  }

  /** Gives memory and file descriptor back. May be called again; lookups are not allowed any more. */
  close(): void {
    if (this.file.isClosed) return
    this.file.isClosed = true
    this.cache.forget(this.file)
    // It was only read: nothing depends on how that goes.
    this.file.open.close().catch(() => undefined)
  }

  private scan(low: number, high: number, into: RowSink, limit: number, skip: number): number {
    let count = 0
    for (let block = this.firstBlock(high); block < this.layout.entryBlocks; block++) {
      const base = this.cache.fetch(this.file, this.layout.entriesAt + block)
      const { words } = this.cache
      const end = words[base + COUNT_AT]
      for (let at = this.lowerBound(words, base, block, low, high); at < end; at++) {
        if (words[base + at] >>> 0 !== high || words[base + LOW_AT + at] >>> 0 !== low) return count
        if (skip > 0) {
          skip--
          continue
        }
        if (count >= limit) return count
        into.push(words[base + ROW_AT + at] >>> 0)
        count++
      }
      if (block + 1 < this.fences.length && this.fences[block + 1] > high) return count
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
    const count = words[base + COUNT_AT]
    const first = this.fences[block]
    const next = block + 1 < this.fences.length ? this.fences[block + 1] : 0x1_0000_0000
    const guess = next > first && high > first ? Math.floor(((high - first) / (next - first)) * count) : 0
    let at = firstAtLeast(words, base, count, high, guess)
    while (at < count && words[base + at] >>> 0 === high && words[base + LOW_AT + at] >>> 0 < low) at++
    return at
  }
}
