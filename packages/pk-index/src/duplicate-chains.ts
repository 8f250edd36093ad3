import { assert } from '@moonlink/core'

const NODE_WORDS = 3
const CHUNK_BITS = 12
const CHUNK_NODES = 1 << CHUNK_BITS
const NONE = -1

/**
 * Places whose hash several rows share, as singly linked chains of nodes `[segment, row, next]` in chunks of 48 KiB: growth never
 * copies. The newest place of a chain comes first.
 */
export class DuplicateChains {
  private chunks: Int32Array[] = []
  private free = NONE
  private used = 0

  get byteSize(): number {
    return this.chunks.length * CHUNK_NODES * NODE_WORDS * 4
  }

  /** Puts a place in front of the chain that starts at `head` (-1: none). Returns the new head. O(1). */
  push(head: number, segment: number, row: number): number {
    const node = this.allocate()
    const chunk = this.chunks[node >> CHUNK_BITS]
    const at = (node & (CHUNK_NODES - 1)) * NODE_WORDS
    chunk[at] = segment
    chunk[at + 1] = row
    chunk[at + 2] = head
    return node
  }

  segmentOf(node: number): number {
    return this.word(node, 0) >>> 0
  }

  rowOf(node: number): number {
    return this.word(node, 1) >>> 0
  }

  /** The node after this one, or -1. */
  next(node: number): number {
    return this.word(node, 2)
  }

  /** Takes a place out of a chain. Returns the new head, or null where the chain lacks it. O(places before it). */
  remove(head: number, segment: number, row: number): number | null {
    for (let node = head, before = NONE; node !== NONE; before = node, node = this.next(node)) {
      if (this.segmentOf(node) !== segment || this.rowOf(node) !== row) continue
      const next = this.next(node)
      this.release(node)
      if (before === NONE) return next
      this.setNext(before, next)
      return head
    }
    return null
  }

  release(node: number): void {
    this.setNext(node, this.free)
    this.free = node
  }

  clear(): void {
    this.chunks = []
    this.free = NONE
    this.used = 0
  }

  private allocate(): number {
    const node = this.free
    if (node !== NONE) {
      this.free = this.next(node)
      return node
    }
    if (this.used === this.chunks.length * CHUNK_NODES) this.chunks.push(new Int32Array(CHUNK_NODES * NODE_WORDS))
    assert(this.used < 0x7fff_ffff, 'node numbers fit in 31 bits')
    return this.used++
  }

  private word(node: number, offset: number): number {
    return this.chunks[node >> CHUNK_BITS][(node & (CHUNK_NODES - 1)) * NODE_WORDS + offset]
  }

  private setNext(node: number, next: number): void {
    this.chunks[node >> CHUNK_BITS][(node & (CHUNK_NODES - 1)) * NODE_WORDS + 2] = next
  }
}
