/** Names an immutable run of rows: a memory batch or a data file. Never reused within a process; fits in 32 bits unsigned. */
export type SegmentId = number

/** Where a row lives. `row` is its position within the segment, from 0; fits in 32 bits unsigned. */
export interface Place {
  readonly segment: SegmentId
  readonly row: number
}

/** Places as two parallel arrays, growing; the form that batches of places travel in. */
export class PlaceBuffer {
  segments: Uint32Array
  rows: Uint32Array
  length = 0

  constructor(capacity = 64) {
    this.segments = new Uint32Array(capacity)
    this.rows = new Uint32Array(capacity)
  }

  push(segment: SegmentId, row: number): void {
    if (this.length === this.segments.length) this.grow()
    this.segments[this.length] = segment
    this.rows[this.length] = row
    this.length++
  }

  clear(): void {
    this.length = 0
  }

  private grow(): void {
    const segments = new Uint32Array(this.segments.length * 2)
    segments.set(this.segments)
    this.segments = segments
    const rows = new Uint32Array(this.rows.length * 2)
    rows.set(this.rows)
    this.rows = rows
  }
}
