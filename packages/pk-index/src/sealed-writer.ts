import { dirname } from 'node:path'
import { assert, systemDisk, type DiskFile, type LocalDisk } from '@moonlink/core'
import { BLOCK_BYTES, BLOCK_WORDS, sealBlocks } from './blocks.ts'
import { EntryBlocks } from './entry-blocks.ts'
import { addRunToFilter } from './filter.ts'
import type { KeyHashes } from './key-hashes.ts'
import { blockWordOf, encodeHeader, layoutOf, ROW_IDS_PER_BLOCK, type SealedLayout } from './sealed-format.ts'
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
  const blocks = new EntryBlocks(fences, WRITE_BLOCKS)
  const write = (words: Int32Array, firstBlock: number) => writeBlocks(file, words, layout.entriesAt + firstBlock)
  for await (const run of sortedRuns(hashes)) {
    addRunToFilter(filter, run, layout.filterCount)
    for (let from = 0; from < run.length;) {
      from = blocks.fill(run, from)
      if (blocks.isFull) await blocks.take(write)
    }
  }
  await blocks.take(write)
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

async function writeBlocks(file: DiskFile, words: Int32Array, blockNumber: number): Promise<void> {
  sealBlocks(words, blockNumber)
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
  await file.write(bytes, blockNumber * BLOCK_BYTES)
}
