import { BLOCK_WORDS, DATA_WORDS } from './blocks.ts'
import { blockWord, COUNT_AT, ENTRIES_PER_BLOCK, LOW_AT, ROW_AT } from './sealed-format.ts'
import type { EntryRun } from './sort-entries.ts'

/** Sorted entries on their way into blocks, some of which are in the making, and into the fences before them. */
export class EntryBlocks {
  private readonly words: Int32Array
  private readonly fences: Int32Array
  /** Blocks that were taken. */
  private taken = 0
  /** Where the block that is being filled lies in `words`, and the entries it has. */
  private base = 0
  private count = 0

  /** `fences` gets the first entry of each block; so many blocks are made at a time. */
  constructor(fences: Int32Array, blocks: number) {
    this.fences = fences
    this.words = new Int32Array(blocks * BLOCK_WORDS)
  }

  /** True where there is room for none, until they are taken. */
  get isFull(): boolean {
    return this.base === this.words.length
  }

  /** Adds entries of the run, from that one on, while there is room; returns the first that was not added. */
  fill({ high, low, rows, length }: EntryRun, from: number): number {
    const { words, fences } = this
    while (from < length && !this.isFull) {
      if (this.count === 0) fences[blockWord(this.taken + this.base / BLOCK_WORDS, DATA_WORDS)] = high[from]
      const to = Math.min(length, from + ENTRIES_PER_BLOCK - this.count)
      const at = this.base + this.count
      words.set(high.subarray(from, to), at)
      words.set(low.subarray(from, to), at + LOW_AT)
      words.set(rows.subarray(from, to), at + ROW_AT)
      this.count += to - from
      words[this.base + COUNT_AT] = this.count
      from = to
      if (this.count === ENTRIES_PER_BLOCK) {
        this.count = 0
        this.base += BLOCK_WORDS
      }
    }
    return from
  }

  /** Calls `use` with the blocks that are there, the last one not full as a rule only at the end, and the number of the first; then there are none. */
  async take(use: (words: Int32Array, firstBlock: number) => Promise<void>): Promise<void> {
    const end = this.base + (this.count > 0 ? BLOCK_WORDS : 0)
    if (end > 0) await use(this.words.subarray(0, end), this.taken)
    this.taken += end / BLOCK_WORDS
    this.base = 0
    this.count = 0
    this.words.fill(0)
  }
}
