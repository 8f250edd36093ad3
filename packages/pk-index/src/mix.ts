/**
 * Replaces each pair `(low[i], high[i])`, `i < count`, by a well-mixed one. A Feistel network of four rounds: whatever the round
 * function does, each round can be undone, so the whole is a bijection on 64 bits.
 *
 * The result is stored in sealed indexes: a change here needs a new version of that format.
 */
export function mixPairs(low: Uint32Array, high: Uint32Array, count: number): void {
  for (let index = 0; index < count; index++) {
    let l = low[index] | 0
    let h = high[index] | 0
    h ^= scramble(l ^ 0x243f6a88)
    l ^= scramble(h ^ 0x13198a2e)
    h ^= scramble(l ^ 0x03707344)
    l ^= scramble(h ^ 0x299f31d0)
    low[index] = l
    high[index] = h
  }
}

/** A 32-bit finalizer with low bias (the constants are those of C. Wellons' `lowbias32`). */
function scramble(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d)
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b)
  return x ^ (x >>> 16)
}
