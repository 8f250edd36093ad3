import type { DiskFile, LocalDisk } from '@moonlink/core'
import { BLOCK_BYTES, BLOCK_WORDS, DATA_WORDS, isIntact } from './blocks.ts'
import { decodeHeader, FILTER_WORDS, FILTERS_PER_BLOCK, type SealedLayout } from './sealed-format.ts'

/** What an index must have been made for. */
export interface ExpectedDataFile {
  readonly dataFile: string
  readonly recordCount: number
}

/** An open file and what of it is held in memory. */
export interface LoadedIndex {
  readonly file: DiskFile
  readonly layout: SealedLayout
  readonly fences: Uint32Array
  readonly filter: Int32Array | null
}

/** Opens a sealed file and reads its directory, and its filter if wanted; null where that is absent, damaged or not what is expected. */
export async function loadIndex(
  disk: LocalDisk,
  path: string,
  expected: ExpectedDataFile,
  withFilter: boolean,
): Promise<LoadedIndex | null> {
  let file: DiskFile
  try {
    file = await disk.open(path, 'read')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  let loaded: LoadedIndex | null = null
  try {
    loaded = await load(file, expected, withFilter)
  } finally {
    if (loaded === null) await file.close()
  }
  return loaded
}

async function load(file: DiskFile, { dataFile, recordCount }: ExpectedDataFile, withFilter: boolean): Promise<LoadedIndex | null> {
  const header = await readBlocks(file, 0, 1)
  const layout = header && decodeHeader(header, dataFile, recordCount)
  if (!layout || (await file.size()) !== layout.blockCount * BLOCK_BYTES) return null
  const fences = await readBlocks(file, layout.fencesAt, layout.filterAt - layout.fencesAt)
  const filter = withFilter ? await loadFilter(file, layout) : null
  if (!fences || (withFilter && !filter)) return null
  return {
    file,
    layout,
    fences: new Uint32Array(unpack(fences, DATA_WORDS, layout.entryBlocks).buffer),
    filter,
  }
}

/** Reads the filter of an open file; null where it is damaged. */
export async function loadFilter(file: DiskFile, layout: SealedLayout): Promise<Int32Array | null> {
  const blocks = await readBlocks(file, layout.filterAt, layout.entriesAt - layout.filterAt)
  return blocks && unpack(blocks, FILTERS_PER_BLOCK * FILTER_WORDS, layout.filterCount * FILTER_WORDS)
}

/** Reads blocks; null where some are missing or damaged. */
async function readBlocks(file: DiskFile, firstBlock: number, count: number): Promise<Int32Array | null> {
  const words = new Int32Array(count * BLOCK_WORDS)
  const bytes = new Uint8Array(words.buffer)
  if ((await file.read(bytes, firstBlock * BLOCK_BYTES)) < bytes.length) return null
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
