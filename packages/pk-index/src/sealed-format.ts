import { MoonlinkError } from '@moonlink/core'
import { BLOCK_BYTES, BLOCK_WORDS, DATA_WORDS } from './blocks.ts'

/**
 * A sealed index file, every part in whole blocks (see `blocks.ts`), every word little-endian:
 *
 * ```
 *   header    1 block     magic, version, counts, the data file's name
 *   fences    1023 words  `high` of the first entry of each entry block
 *   filter    127 × 32 B  split-block Bloom filter, 12 bits a key
 *   entries   340 × 12 B  sorted by (high, low, row): 340 × high, 340 × low, 340 × row, how many
 *   row ids   511 × 8 B   float64 `_row_id` by row, where the data file stores them
 * ```
 */
export const ENTRIES_PER_BLOCK = 340
export const LOW_AT = 1 * ENTRIES_PER_BLOCK
export const ROW_AT = 2 * ENTRIES_PER_BLOCK
export const COUNT_AT = 3 * ENTRIES_PER_BLOCK
export const ROW_IDS_PER_BLOCK = 511
export const FILTER_WORDS = 8
export const FILTERS_PER_BLOCK = 127

const MAGIC = 0x494b_4c4d
/** Rises with every change of the layout or of what the key hasher computes. */
const VERSION = 1
const FILTER_BITS_PER_KEY = 12
const NAME_AT_WORD = 8
const MAX_NAME_BYTES = (DATA_WORDS - NAME_AT_WORD) * 4

/** Where the parts of a file lie, in blocks. */
export interface SealedLayout {
  readonly recordCount: number
  readonly hasRowIds: boolean
  readonly filterCount: number
  readonly fencesAt: number
  readonly filterAt: number
  readonly entriesAt: number
  readonly entryBlocks: number
  readonly rowIdsAt: number
  readonly blockCount: number
}

export function layoutOf(recordCount: number, hasRowIds: boolean): SealedLayout {
  const entryBlocks = Math.ceil(recordCount / ENTRIES_PER_BLOCK)
  const filterCount = Math.max(1, Math.ceil((recordCount * FILTER_BITS_PER_KEY) / (FILTER_WORDS * 32)))
  const filterAt = 1 + Math.ceil(entryBlocks / DATA_WORDS)
  const entriesAt = filterAt + Math.ceil(filterCount / FILTERS_PER_BLOCK)
  const rowIdsAt = entriesAt + entryBlocks
  const blockCount = rowIdsAt + (hasRowIds ? Math.ceil(recordCount / ROW_IDS_PER_BLOCK) : 0)
  return { recordCount, hasRowIds, filterCount, fencesAt: 1, filterAt, entriesAt, entryBlocks, rowIdsAt, blockCount }
}

/** The header block, not sealed yet. Throws `invalid`/`INDEX_NAME_TOO_LONG` for a name of more than about 4,000 bytes. */
export function encodeHeader(dataFile: string, layout: SealedLayout): Int32Array {
  const name = new TextEncoder().encode(dataFile)
  if (name.length > MAX_NAME_BYTES) {
    throw new MoonlinkError(
      'invalid',
      'INDEX_NAME_TOO_LONG',
      `a data file's name has at most ${MAX_NAME_BYTES} bytes: ${dataFile.slice(0, 100)}…`,
      {
        context: { byteLength: name.length },
      },
    )
  }
  const words = new Int32Array(BLOCK_WORDS)
  words[0] = MAGIC
  words[1] = VERSION
  words[2] = layout.recordCount
  words[3] = layout.hasRowIds ? 1 : 0
  words[4] = layout.blockCount
  words[5] = name.length
  new Uint8Array(words.buffer).set(name, NAME_AT_WORD * 4)
  return words
}

/** The layout a sealed header tells; null where it is of another version, of another data file or does not add up. */
export function decodeHeader(words: Int32Array, dataFile: string, recordCount: number): SealedLayout | null {
  if (words.byteLength !== BLOCK_BYTES || words[0] !== MAGIC || words[1] !== VERSION || words[2] >>> 0 !== recordCount) return null
  const nameBytes = words[5]
  if (nameBytes < 0 || nameBytes > MAX_NAME_BYTES) return null
  const name = new TextDecoder().decode(new Uint8Array(words.buffer, words.byteOffset + NAME_AT_WORD * 4, nameBytes))
  const layout = layoutOf(recordCount, words[3] === 1)
  return name === dataFile && words[4] >>> 0 === layout.blockCount ? layout : null
}

/** Word of item `index` where every block holds `perBlock` items of one word. */
export function blockWord(index: number, perBlock: number): number {
  return blockWordOf(index, perBlock, BLOCK_WORDS)
}

/** Place of item `index` where every block holds `perBlock` items of the `wordsPerBlock` that would fit. */
export function blockWordOf(index: number, perBlock: number, wordsPerBlock: number): number {
  return Math.floor(index / perBlock) * wordsPerBlock + (index % perBlock)
}

/** First word of a 32-byte filter in the blocks of the filter. */
export function filterWord(index: number): number {
  return ((index / FILTERS_PER_BLOCK) >>> 0) * BLOCK_WORDS + (index % FILTERS_PER_BLOCK) * FILTER_WORDS
}
