import { assert } from '@moonlink/core'
import type { FileSegment, MemorySegment, Segment } from './segment.ts'

const TWO_32 = 0x1_0000_0000

/**
 * What one flush commits: everything applied since the generation before it was frozen. Its segments follow each other in commit
 * order; only the last one grows, and only while the generation is the active one. A new segment starts where rows can't go into the
 * last one any more: after a TRUNCATE, say. Rows of a transaction that is too large for memory are in files already.
 */
export class Generation {
  readonly segments: MemorySegment[]
  /** Written, to be committed by the flush; in no snapshot yet. */
  readonly earlyFiles: FileSegment[] = []

  constructor(first: MemorySegment) {
    this.segments = [first]
  }

  get tail(): MemorySegment {
    return this.segments[this.segments.length - 1]
  }

  get rowCount(): number {
    return this.segments.reduce((sum, segment) => sum + segment.buffer.rowCount, 0)
  }

  /** Bytes of its rows, spare capacity excluded. */
  get usedBytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.buffer.usedBytes, 0)
  }

  has(segment: Segment): boolean {
    return segment.kind === 'memory' ? this.segments.includes(segment) : this.earlyFiles.includes(segment)
  }

  /** A place of this frozen generation as one number. */
  numberOf(segment: Segment, row: number): number {
    const at = this.members.indexOf(segment)
    assert(at >= 0, 'a place of a generation is in one of its segments', { segment: segment.id })
    return at * TWO_32 + row
  }

  /** The segment and the row that `numberOf` made a number of. */
  placeOf(number: number): { readonly segment: Segment; readonly row: number } {
    const at = Math.floor(number / TWO_32)
    return { segment: this.members[at], row: number - at * TWO_32 }
  }

  private get members(): readonly Segment[] {
    return [...this.segments, ...this.earlyFiles]
  }
}
