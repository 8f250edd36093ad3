import type { SealedKeyIndex } from '@moonlink/pk-index'

type FilteredIndex = Pick<SealedKeyIndex, 'filterBytes' | 'isFilterResident' | 'isClosed' | 'releaseFilter' | 'loadFilter'>

/**
 * Bounds what the filters of all sealed indexes take in memory. One that is not held is read block by block through the cache of index blocks,
 * so a look-up of a key that its file lacks may cost a read.
 */
export class FilterMemory {
  private readonly maxBytes: number
  private readonly indexes = new Set<FilteredIndex>()

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** Bytes of the filters held. */
  get byteSize(): number {
    let bytes = 0
    for (const index of this.open()) if (index.isFilterResident) bytes += index.filterBytes
    return bytes
  }

  /** Watches over an open index from now on, until it is closed. */
  add(index: FilteredIndex): void {
    this.indexes.add(index)
    this.release(this.byteSize - this.maxBytes)
  }

  /** Lets go of `bytes` or somewhat more, as far as there are, the largest filters first: few files pay for it. Returns the bytes freed. */
  release(bytes: number): number {
    if (bytes <= 0) return 0
    let freed = 0
    for (const index of this.open()
      .filter((candidate) => candidate.isFilterResident)
      .sort((a, b) => b.filterBytes - a.filterBytes)) {
      if (freed >= bytes) break
      index.releaseFilter()
      freed += index.filterBytes
    }
    return freed
  }

  /** Takes one filter back into memory, the smallest that lacks, if it fits into `bytes` and the bound. */
  async loadOne(bytes: number): Promise<void> {
    const [index] = this.open()
      .filter((candidate) => !candidate.isFilterResident)
      .sort((a, b) => a.filterBytes - b.filterBytes)
    if (index === undefined || index.filterBytes > Math.min(bytes, this.maxBytes - this.byteSize)) return
    // What can't be read is read again by a look-up, which says so.
    await index.loadFilter().catch(() => undefined)
  }

  private open(): FilteredIndex[] {
    for (const index of this.indexes) if (index.isClosed) this.indexes.delete(index)
    return [...this.indexes]
  }
}
