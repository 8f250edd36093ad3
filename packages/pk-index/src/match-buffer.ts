import type { KeyHashes } from './key-hashes.ts'

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

/** Largest selection whose positions fit beside 32 bits of hash in a float64. */
const MAX_PACKED = 2 ** 20

/** `selection` (indices into `hashes`) in the order of the hashes' high halves: the order in which sealed indexes are fastest. */
export function sortByHash({ high }: KeyHashes, selection: Uint32Array): Uint32Array {
  if (selection.length > MAX_PACKED) return selection.slice().sort((a, b) => high[a] - high[b])
  const packed = new Float64Array(selection.length)
  for (let position = 0; position < selection.length; position++) packed[position] = high[selection[position]] * MAX_PACKED + position
  packed.sort()
  const sorted = new Uint32Array(selection.length)
  for (let position = 0; position < selection.length; position++) sorted[position] = selection[packed[position] % MAX_PACKED]!
  return sorted
}

export function isSortedByHash({ high }: KeyHashes, selection: Uint32Array): boolean {
  for (let position = 1; position < selection.length; position++) {
    if (high[selection[position]] < high[selection[position - 1]]) return false
  }
  return true
}
