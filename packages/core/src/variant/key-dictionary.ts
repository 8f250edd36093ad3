import { ByteSink } from '../byte-sink.ts'
import { METADATA_SORTED, METADATA_VERSION } from './variant-format.ts'

const FNV_PRIME = 0x0100_0193
const FNV_OFFSET = 0x811c_9dc5 | 0

/** The keys of one variant's objects, each once, numbered in the order in which they come. */
export class KeyDictionary {
  /** Where a key is written before `add` takes it. */
  readonly bytes = new ByteSink()
  private count = 0
  /** Key `id` is `bytes[ends[id - 1] … ends[id])`. */
  private ends = new Int32Array(64)
  /** Open addressing: a slot holds a key's number where its epoch is the present one. */
  private slots = new Int32Array(128)
  private epochs = new Int32Array(128)
  private epoch = 0

  /** Forgets all keys. */
  clear(): void {
    this.count = 0
    this.bytes.length = 0
    this.epoch = (this.epoch + 1) | 0
  }

  /** The number of the key that was appended to `bytes` since the last call. */
  add(): number {
    const start = this.startOf(this.count)
    const end = this.bytes.length
    const { bytes } = this.bytes
    let hash = FNV_OFFSET
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ bytes[at], FNV_PRIME)
    const mask = this.slots.length - 1
    let slot = (hash ^ (hash >>> 15)) & mask
    for (; this.epochs[slot] === this.epoch; slot = (slot + 1) & mask) {
      const known = this.slots[slot]
      if (this.equals(known, start, end)) {
        this.bytes.length = start
        return known
      }
    }
    this.slots[slot] = this.count
    this.epochs[slot] = this.epoch
    if (this.count === this.ends.length) this.ends = grown(this.ends)
    this.ends[this.count] = end
    this.count++
    if (this.count * 2 > this.slots.length) this.rehash()
    return this.count - 1
  }

  /** Below 0 where key `a` comes before `b` by its bytes, 0 for the same. */
  compare(a: number, b: number): number {
    const { bytes } = this.bytes
    const startA = this.startOf(a)
    const startB = this.startOf(b)
    const sizeA = this.ends[a] - startA
    const sizeB = this.ends[b] - startB
    const size = Math.min(sizeA, sizeB)
    for (let at = 0; at < size; at++) {
      const difference = bytes[startA + at] - bytes[startB + at]
      if (difference !== 0) return difference
    }
    return sizeA - sizeB
  }

  /** The key as text, for messages. */
  text(id: number): string {
    return new TextDecoder().decode(this.bytes.bytes.subarray(this.startOf(id), this.ends[id]))
  }

  /** Appends the metadata of a variant that has these keys. */
  appendMetadata(sink: ByteSink): void {
    const { count } = this
    const width = bytesOf(Math.max(count, this.bytes.length))
    sink.reserve(1 + width * (count + 2) + this.bytes.length + 4)
    sink.bytes[sink.length++] = METADATA_VERSION | (this.isSorted() ? METADATA_SORTED : 0) | ((width - 1) << 6)
    appendUint(sink, count, width)
    appendUint(sink, 0, width)
    for (let id = 0; id < count; id++) appendUint(sink, this.ends[id], width)
    sink.append(this.bytes.written())
  }

  private isSorted(): boolean {
    for (let id = 1; id < this.count; id++) if (this.compare(id - 1, id) >= 0) return false
    return true
  }

  private startOf(id: number): number {
    return id === 0 ? 0 : this.ends[id - 1]
  }

  private equals(id: number, start: number, end: number): boolean {
    const from = this.startOf(id)
    if (this.ends[id] - from !== end - start) return false
    const { bytes } = this.bytes
    for (let at = start; at < end; at++) if (bytes[at] !== bytes[from + at - start]) return false
    return true
  }

  private rehash(): void {
    this.slots = new Int32Array(this.slots.length * 4)
    this.epochs = new Int32Array(this.slots.length)
    this.epoch = 1
    const mask = this.slots.length - 1
    const { bytes } = this.bytes
    for (let id = 0; id < this.count; id++) {
      let hash = FNV_OFFSET
      for (let at = this.startOf(id); at < this.ends[id]; at++) hash = Math.imul(hash ^ bytes[at], FNV_PRIME)
      let slot = (hash ^ (hash >>> 15)) & mask
      while (this.epochs[slot] === 1) slot = (slot + 1) & mask
      this.slots[slot] = id
      this.epochs[slot] = 1
    }
  }
}

/** The fewest bytes that hold an unsigned integer. */
export function bytesOf(value: number): number {
  return value < 0x100 ? 1 : value < 0x1_0000 ? 2 : value < 0x100_0000 ? 3 : 4
}

/** Appends an unsigned integer of that width, little-endian. The caller has reserved four bytes. */
export function appendUint(sink: ByteSink, value: number, width: number): void {
  sink.view.setUint32(sink.length, value, true)
  sink.length += width
}

export function grown(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(array.length * 2)
  larger.set(array)
  return larger
}
