import { assert, type PlaceBuffer, type SegmentId } from '@moonlink/core'
import { DuplicateChains } from './duplicate-chains.ts'
import type { KeyHashes } from './key-hashes.ts'
import { SlotPage } from './slot-page.ts'

/** Third word of a slot whose places are a chain; its fourth word is the chain's head. */
const CHAIN = -1
/** Segment ids from here on are reserved by the slot layout. */
const SEGMENT_ID_END = 0xffff_fffe
/** The directory never has more than 2^20 entries, whatever the keys. */
const MAX_DEPTH = 20

/**
 * Key hash → places, in memory: extendible hashing over pages of open addressing (see `SlotPage`).
 *
 * Every operation on a key takes amortised constant time, and no single insert longer than the rebuild of one page (16,384 slots,
 * some tenths of a millisecond). Rows that share a hash hang in a chain: an insert stays O(1), `candidates` takes O(what it returns),
 * and `remove` O(places inserted after the removed one), so deleting the first candidate is O(1). Takes 20 to 25 bytes a key.
 *
 * Not promised: any order of keys; the same speed for keys that somebody crafted to collide in 32 bits of their hash.
 */
export class MemoryKeyIndex {
  /** Page of each value of the leading `bits` bits of `high`. At least one bit, since a shift by 32 is a shift by 0. */
  private directory: SlotPage[]
  private bits = 1
  private pageBytes: number
  private entries = 0
  private readonly chains = new DuplicateChains()

  constructor() {
    const page = new SlotPage(0, 0)
    this.directory = [page, page]
    this.pageBytes = page.byteSize
  }

  /** Places held. */
  get size(): number {
    return this.entries
  }

  /** Bytes held in memory. */
  get byteSize(): number {
    return this.pageBytes + this.directory.length * 8 + this.chains.byteSize
  }

  /** Adds one entry. The same place under the same hash may be added once only; that is not checked. */
  insert(low: number, high: number, segment: SegmentId, row: number): void {
    assert(segment < SEGMENT_ID_END, 'a segment id leaves room for the marks of the slot layout', { segment })
    low |= 0
    high |= 0
    this.entries++
    for (;;) {
      const page = this.directory[high >>> (32 - this.bits)]
      const at = page.find(low, high)
      if (at >= 0) return this.chain(page, at, segment, row)
      if (!page.isFull && page.fill(-1 - at, low, high, (segment + 1) | 0, row | 0)) return
      this.makeRoom(page)
    }
  }

  /** Adds hashes `[from, to)`: hash `from` belongs to row `firstRow` of the segment, and so on. */
  insertBatch(hashes: KeyHashes, from: number, to: number, segment: SegmentId, firstRow: number): void {
    const { low, high } = hashes
    for (let index = from; index < to; index++) this.insert(low[index], high[index], segment, firstRow + index - from)
  }

  /**
   * Appends the places of that hash to `into`, the newest first, at most `limit` of them. Returns how many were appended. Unless
   * the hasher is exact, they may be places of another key.
   */
  candidates(low: number, high: number, into: PlaceBuffer, limit = Infinity): number {
    low |= 0
    high |= 0
    const page = this.directory[high >>> (32 - this.bits)]
    const at = page.find(low, high)
    if (at < 0 || limit < 1) return 0
    const { slots } = page
    if (slots[at + 2] !== CHAIN) {
      into.push((slots[at + 2] - 1) >>> 0, slots[at + 3] >>> 0)
      return 1
    }
    let count = 0
    for (let node = slots[at + 3]; node >= 0 && count < limit; node = this.chains.next(node), count++) {
      into.push(this.chains.segmentOf(node), this.chains.rowOf(node))
    }
    return count
  }

  /** Removes one entry. Returns false where there is none like it. */
  remove(low: number, high: number, segment: SegmentId, row: number): boolean {
    low |= 0
    high |= 0
    const page = this.directory[high >>> (32 - this.bits)]
    const at = page.find(low, high)
    if (at < 0) return false
    const { slots } = page
    if (slots[at + 2] === CHAIN) {
      if (!this.unchain(page, at, segment, row)) return false
    } else {
      if ((slots[at + 2] - 1) >>> 0 !== segment || slots[at + 3] >>> 0 !== row) return false
      page.removeAt(at)
    }
    this.entries--
    return true
  }

  /** Forgets everything and gives the memory back. */
  clear(): void {
    const page = new SlotPage(0, 0)
    this.directory = [page, page]
    this.bits = 1
    this.pageBytes = page.byteSize
    this.entries = 0
    this.chains.clear()
  }

  private chain({ slots }: SlotPage, at: number, segment: SegmentId, row: number): void {
    if (slots[at + 2] !== CHAIN) {
      slots[at + 3] = this.chains.push(-1, slots[at + 2] - 1, slots[at + 3])
      slots[at + 2] = CHAIN
    }
    slots[at + 3] = this.chains.push(slots[at + 3], segment, row)
  }

  /** Removes a place from a slot's chain; a chain of one goes back into the slot. */
  private unchain({ slots }: SlotPage, at: number, segment: SegmentId, row: number): boolean {
    const head = this.chains.remove(slots[at + 3], segment, row)
    if (head === null) return false
    assert(head >= 0, 'a chain holds two places or more')
    slots[at + 3] = head
    if (this.chains.next(head) >= 0) return true
    slots[at + 2] = (this.chains.segmentOf(head) + 1) | 0
    slots[at + 3] = this.chains.rowOf(head) | 0
    this.chains.release(head)
    return true
  }

  private makeRoom(page: SlotPage): void {
    const halves = page.isFull && page.isLargest && page.depth < MAX_DEPTH ? page.split() : null
    this.pageBytes -= page.byteSize
    if (halves === null) {
      page.grow()
      this.pageBytes += page.byteSize
      return
    }
    for (const half of halves) {
      this.pageBytes += half.byteSize
      this.place(half)
    }
  }

  private place(page: SlotPage): void {
    while (this.bits < page.depth) {
      this.directory = this.directory.flatMap((entry) => [entry, entry])
      this.bits++
    }
    const spread = this.bits - page.depth
    this.directory.fill(page, page.prefix << spread, (page.prefix + 1) << spread)
  }
}
