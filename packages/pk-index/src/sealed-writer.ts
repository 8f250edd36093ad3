import { dirname } from 'node:path'
import { assert, systemDisk, type DiskFile, type LocalDisk } from '@moonlink/core'
import { BLOCK_BYTES, BLOCK_WORDS, DATA_WORDS, sealBlocks } from './blocks.ts'
import { addToFilter, filterOf } from './filter.ts'
import type { KeyHashes } from './key-hashes.ts'
import {
  COUNT_AT,
  encodeHeader,
  ENTRIES_PER_BLOCK,
  FILTER_WORDS,
  FILTERS_PER_BLOCK,
  layoutOf,
  LOW_AT,
  ROW_AT,
  ROW_IDS_PER_BLOCK,
  type SealedLayout,
} from './sealed-format.ts'
import { nextTurn, sortedRuns } from './sort-entries.ts'

/** Blocks written at a time: 256 KiB. */
const WRITE_BLOCKS = 64

export interface SealedIndexInput {
  /** Where the index goes, on local disk. Its directory exists. Replaced if present. */
  readonly path: string
  /** Name of the data file; `SealedKeyIndex.open` asks for it. */
  readonly dataFile: string
  /** Entry i is the hash of row i of the data file. Must not change until the returned promise settles. */
  readonly hashes: KeyHashes
  /** `_row_id` of each row, -1 where a row has none; null where the data file stores none. */
  readonly rowIds: Float64Array | null
  /** Default: the system's. */
  readonly disk?: LocalDisk
}

/**
 * Sorts the hashes and writes them as the sealed index of a data file: into a file beside `path`, synced, then renamed, so that
 * `path` is complete or absent. Sorts on this thread and lets other work run every few milliseconds.
 *
 * One writer a path at a time. I/O errors come as Node's.
 */
export async function writeSealedIndex(input: SealedIndexInput): Promise<void> {
  const { path, hashes, rowIds, disk = systemDisk } = input
  assert(rowIds === null || rowIds.length >= hashes.length, 'every row has its row id', { rows: hashes.length })
  const layout = layoutOf(hashes.length, rowIds !== null)
  const header = encodeHeader(input.dataFile, layout)
  const temporary = `${path}.tmp`
  const file = await disk.open(temporary, 'create')
  try {
    const { fences, filter } = await writeEntries(file, hashes, layout)
    await writeBlocks(file, fences, layout.fencesAt)
    await writeBlocks(file, filter, layout.filterAt)
    if (rowIds) await writeRowIds(file, rowIds, layout)
    await writeBlocks(file, header, 0)
    await file.sync()
  } catch (error) {
    await file.close()
    await disk.remove(temporary)
    throw error
  }
  await file.close()
  await disk.rename(temporary, path)
  await disk.syncDirectory(dirname(path))
}

/** Writes the sorted entries; returns the blocks of fences and filter that they make. */
async function writeEntries(file: DiskFile, hashes: KeyHashes, layout: SealedLayout): Promise<{ fences: Int32Array; filter: Int32Array }> {
  const fences = new Int32Array((layout.filterAt - layout.fencesAt) * BLOCK_WORDS)
  const filter = new Int32Array((layout.entriesAt - layout.filterAt) * BLOCK_WORDS)
  const buffer = new Int32Array(WRITE_BLOCKS * BLOCK_WORDS)
  let block = 0
  let base = 0
  let count = 0
  for await (const { high, low, rows, length } of sortedRuns(hashes)) {
    for (let from = 0; from < length;) {
      if (count === ENTRIES_PER_BLOCK) {
        count = 0
        block++
        base += BLOCK_WORDS
        if (base === buffer.length) {
          await writeBlocks(file, buffer, layout.entriesAt + block - WRITE_BLOCKS)
          buffer.fill(0)
          base = 0
        }
      }
      if (count === 0) fences[blockWord(block, DATA_WORDS)] = high[from]
      const to = Math.min(length, from + ENTRIES_PER_BLOCK - count)
      const at = base + count
      buffer.set(high.subarray(from, to), at)
      buffer.set(low.subarray(from, to), at + LOW_AT)
      buffer.set(rows.subarray(from, to), at + ROW_AT)
      count += to - from
      buffer[base + COUNT_AT] = count
      from = to
    }
    for (let index = 0; index < length; index++) {
      addToFilter(filter, filterWord(filterOf(high[index], layout.filterCount)), low[index])
    }
  }
  if (count > 0) await writeBlocks(file, buffer.subarray(0, base + BLOCK_WORDS), layout.entriesAt + block - base / BLOCK_WORDS)
  return { fences, filter }
}

async function writeRowIds(file: DiskFile, rowIds: Float64Array, layout: SealedLayout): Promise<void> {
  for (let from = 0; from < layout.recordCount; from += ROW_IDS_PER_BLOCK * WRITE_BLOCKS) {
    const rows = Math.min(ROW_IDS_PER_BLOCK * WRITE_BLOCKS, layout.recordCount - from)
    const doubles = new Float64Array(Math.ceil(rows / ROW_IDS_PER_BLOCK) * (BLOCK_BYTES / 8))
    for (let row = 0; row < rows; row++) doubles[blockWordOf(row, ROW_IDS_PER_BLOCK, BLOCK_BYTES / 8)] = rowIds[from + row]!
    await writeBlocks(file, new Int32Array(doubles.buffer), layout.rowIdsAt + from / ROW_IDS_PER_BLOCK)
    await nextTurn()
  }
}

/** Word of item `index` where every block holds `perBlock` items of one word. */
export function blockWord(index: number, perBlock: number): number {
  return blockWordOf(index, perBlock, BLOCK_WORDS)
}

/** First word of a 32-byte filter in the blocks of the filter. */
export function filterWord(index: number): number {
  return Math.floor(index / FILTERS_PER_BLOCK) * BLOCK_WORDS + (index % FILTERS_PER_BLOCK) * FILTER_WORDS
}

function blockWordOf(index: number, perBlock: number, wordsPerBlock: number): number {
  return Math.floor(index / perBlock) * wordsPerBlock + (index % perBlock)
}

async function writeBlocks(file: DiskFile, words: Int32Array, blockNumber: number): Promise<void> {
  sealBlocks(words, blockNumber)
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
  await file.write(bytes, blockNumber * BLOCK_BYTES)
}
