import type { KeyHashes } from '@moonlink/pk-index'

/** The hashes of batches that follow each other, `length` in all, as those of one. */
export function joinedHashes(parts: readonly KeyHashes[], length: number): KeyHashes {
  const low = new Uint32Array(length)
  const high = new Uint32Array(length)
  let at = 0
  for (const part of parts) {
    low.set(part.low.subarray(0, part.length), at)
    high.set(part.high.subarray(0, part.length), at)
    at += part.length
  }
  return { low, high, length }
}
