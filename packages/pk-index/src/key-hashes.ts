/** 64-bit key hashes as two 32-bit halves; entry i is `high[i] × 2^32 + low[i]`. The arrays may be longer than `length`. */
export interface KeyHashes {
  low: Uint32Array
  high: Uint32Array
  length: number
}

/** Makes `hashes` hold `length` entries of unspecified value, in larger arrays where the present ones are too short. */
export function resizeHashes(hashes: KeyHashes, length: number): void {
  if (hashes.low.length < length || hashes.high.length < length) {
    hashes.low = new Uint32Array(length)
    hashes.high = new Uint32Array(length)
  }
  hashes.length = length
}
