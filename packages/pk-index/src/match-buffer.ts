/** Pairs (index of a hash, row) as two parallel growing arrays. */
export class MatchBuffer {
  indices: Uint32Array
  rows: Uint32Array
  length = 0

  constructor(capacity = 64) {
    this.indices = new Uint32Array(capacity)
    this.rows = new Uint32Array(capacity)
  }

  push(index: number, row: number): void {
    if (this.length === this.rows.length) this.grow()
    this.indices[this.length] = index
    this.rows[this.length] = row
    this.length++
  }

  clear(): void {
    this.length = 0
  }

  private grow(): void {
    const indices = new Uint32Array(this.rows.length * 2)
    indices.set(this.indices)
    this.indices = indices
    const rows = new Uint32Array(this.rows.length * 2)
    rows.set(this.rows)
    this.rows = rows
  }
}
