import { FILTER_WORDS, filterWord } from './sealed-format.ts'
import type { EntryRun } from './sort-entries.ts'

/** Odd multipliers, one per word, as in Parquet's split-block Bloom filter. */
const SALTS = Int32Array.of(0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31)

/**
 * The 32-byte filter that a hash belongs to; grows with `high`, so sorted keys are added and looked up from front to back. Each
 * filter has one bit per word set for each of its keys: at 12 bits a key about 1 in 200 absent keys passes.
 */
export function filterOf(high: number, filterCount: number): number {
  return (((high >>> 0) * filterCount) / 0x1_0000_0000) >>> 0
}

/** Adds the keys of a run. */
export function addRunToFilter(words: Int32Array, { high, low, length }: EntryRun, filterCount: number): void {
  for (let index = 0; index < length; index++) addToFilter(words, filterWord(filterOf(high[index], filterCount)), low[index])
}

function addToFilter(words: Int32Array, at: number, low: number): void {
  for (let index = 0; index < FILTER_WORDS; index++) words[at + index] |= 1 << (Math.imul(low, SALTS[index]) >>> 27)
}

/** False where no key with that hash was added. */
export function mayContain(words: Int32Array, at: number, low: number): boolean {
  for (let index = 0; index < FILTER_WORDS; index++) {
    if (!((words[at + index] >>> (Math.imul(low, SALTS[index]) >>> 27)) & 1)) return false
  }
  return true
}
