import { assert } from '@moonlink/core'

export const SLOT_WORDS = 4
/** A slot whose third word is 0 is empty: fresh memory is an empty page. */
const SEGMENT = 2
const MAX_LOAD = 0.8
const MIN_SLOTS = 64
const MAX_TAIL_SLOTS = 64
/** A page that would pass this many slots splits in two; it bounds how long one insert can take. */
export const MAX_PAGE_SLOTS = 16_384

/**
 * Open addressing with linear probing over the keys whose `high` half starts with the same `depth` bits.
 *
 * ```
 *   slot   [ low | high | segment + 1, or 0 | row ]          16 bytes
 *   page   home(low) = low × capacity / 2^32 … capacity, then a tail so that probing never wraps around
 * ```
 *
 * `home` grows with `low`, so slots lie almost in the order of `low`: a page is rebuilt at another size in one sequential pass,
 * which makes growth by a quarter cheap and the load stay between 64 % and 80 %. Removal shifts later slots back and leaves no mark.
 */
export class SlotPage {
  /** How many leading bits of `high` all keys of this page share. */
  readonly depth: number
  /** Those bits. */
  readonly prefix: number
  slots: Int32Array
  count = 0
  private capacity: number
  private scale = 0
  private limit = 0

  constructor(depth: number, prefix: number, capacity = MIN_SLOTS) {
    this.depth = depth
    this.prefix = prefix
    this.capacity = capacity
    this.slots = this.allocate(capacity, tailOf(capacity))
  }

  get byteSize(): number {
    return this.slots.byteLength
  }

  get isFull(): boolean {
    return this.count >= this.limit
  }

  get isLargest(): boolean {
    return this.capacity >= MAX_PAGE_SLOTS
  }

  /** Word index of the slot with that hash, or `-1 - word index` of the empty slot where it belongs; past the end if none is left. */
  find(low: number, high: number): number {
    const { slots } = this
    let at = (((low >>> 0) * this.scale) | 0) * SLOT_WORDS
    while (at < slots.length && slots[at + SEGMENT] !== 0) {
      if (slots[at] === low && slots[at + 1] === high) return at
      at += SLOT_WORDS
    }
    return -1 - at
  }

  /** Fills the empty slot that `find` gave. Returns false where that lies past the end: make room first. */
  fill(at: number, low: number, high: number, segmentWord: number, row: number): boolean {
    const { slots } = this
    if (at >= slots.length) return false
    assert(slots[at + SEGMENT] === 0 && segmentWord !== 0, 'only an empty slot is filled')
    slots[at] = low
    slots[at + 1] = high
    slots[at + SEGMENT] = segmentWord
    slots[at + 3] = row
    this.count++
    return true
  }

  /** Empties a slot and moves those after it back, so that each is still found from its home. */
  removeAt(at: number): void {
    const { slots, scale } = this
    let hole = at
    for (let next = at + SLOT_WORDS; next < slots.length && slots[next + SEGMENT] !== 0; next += SLOT_WORDS) {
      const home = (((slots[next] >>> 0) * scale) | 0) * SLOT_WORDS
      if (home > hole) continue
      slots[hole] = slots[next]!
      slots[hole + 1] = slots[next + 1]!
      slots[hole + SEGMENT] = slots[next + SEGMENT]!
      slots[hole + 3] = slots[next + 3]!
      hole = next
    }
    slots[hole + SEGMENT] = 0
    this.count--
  }

  /** Makes room: a quarter more slots (twice as many while small), or a longer tail where only that ran out. */
  grow(): void {
    if (this.count < this.limit / 2) {
      this.rebuild(this.capacity, (this.slots.length / SLOT_WORDS - this.capacity) * 2)
    } else {
      const capacity = this.capacity < 1024 ? this.capacity * 2 : Math.ceil(this.capacity * 1.25)
      this.rebuild(capacity, tailOf(capacity))
    }
  }

  /** The two pages that hold this page's slots, told apart by the next bit of `high`; null where all have the same. */
  split(): [SlotPage, SlotPage] | null {
    const shift = 31 - this.depth
    const { slots } = this
    let ones = 0
    for (let at = 0; at < slots.length; at += SLOT_WORDS) if (slots[at + SEGMENT] !== 0) ones += (slots[at + 1] >>> shift) & 1
    if (ones === 0 || ones === this.count) return null
    const pages: [SlotPage, SlotPage] = [
      new SlotPage(this.depth + 1, this.prefix * 2, capacityFor(this.count - ones)),
      new SlotPage(this.depth + 1, this.prefix * 2 + 1, capacityFor(ones)),
    ]
    for (let at = 0; at < slots.length; at += SLOT_WORDS) {
      if (slots[at + SEGMENT] !== 0) pages[(slots[at + 1] >>> shift) & 1].adopt(slots, at)
    }
    return pages
  }

  private rebuild(capacity: number, tail: number): void {
    const old = this.slots
    this.capacity = capacity
    this.slots = this.allocate(capacity, tail)
    this.count = 0
    for (let at = 0; at < old.length; at += SLOT_WORDS) if (old[at + SEGMENT] !== 0) this.adopt(old, at)
  }

  /** Takes over a slot of another page, whose hash this page does not have. */
  private adopt(source: Int32Array, from: number): void {
    const { slots } = this
    const low = source[from]
    let at = (((low >>> 0) * this.scale) | 0) * SLOT_WORDS
    while (at < slots.length && slots[at + SEGMENT] !== 0) at += SLOT_WORDS
    if (this.fill(at, low, source[from + 1], source[from + SEGMENT], source[from + 3])) return
    this.rebuild(this.capacity, (slots.length / SLOT_WORDS - this.capacity) * 2)
    this.adopt(source, from)
  }

  private allocate(capacity: number, tail: number): Int32Array {
    this.scale = capacity / 0x1_0000_0000
    this.limit = Math.floor(capacity * MAX_LOAD)
    return new Int32Array((capacity + tail) * SLOT_WORDS)
  }
}

function tailOf(capacity: number): number {
  return Math.min(MAX_TAIL_SLOTS, capacity >> 2)
}

function capacityFor(count: number): number {
  return Math.max(MIN_SLOTS, Math.ceil(count / (MAX_LOAD * 0.8)))
}
