import { crc32 } from 'node:zlib'

/** Sealed index files consist of blocks of this size; the last word of each is its checksum. */
export const BLOCK_BYTES = 4096
export const BLOCK_WORDS = BLOCK_BYTES / 4
/** Words of a block that hold data. */
export const DATA_WORDS = BLOCK_WORDS - 1

const DATA_BYTES = DATA_WORDS * 4

/** The checksum covers the block's number too, so a block at the wrong place does not pass. */
function checksum(block: Uint8Array, blockNumber: number): number {
  return crc32(block.subarray(0, DATA_BYTES), blockNumber) | 0
}

/** Writes each block's checksum into its last word. `words` holds whole blocks, the first of which is `blockNumber`. */
export function sealBlocks(words: Int32Array, blockNumber: number): void {
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
  for (let index = 0; index * BLOCK_WORDS < words.length; index++) {
    const block = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)
    words[index * BLOCK_WORDS + DATA_WORDS] = checksum(block, blockNumber + index)
  }
}

/** True where the block of 4096 bytes at `words[at …]` carries the right checksum. */
export function isIntact(words: Int32Array, at: number, blockNumber: number): boolean {
  const block = new Uint8Array(words.buffer, words.byteOffset + at * 4, BLOCK_BYTES)
  return words[at + DATA_WORDS] === checksum(block, blockNumber)
}
