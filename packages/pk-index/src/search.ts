const FIRST_STEP = 4

/** First index from `base` on whose word is at least `value`, both unsigned; `count` if none. Fast where it is near `guess`. */
export function firstAtLeast(words: Int32Array | Uint32Array, base: number, count: number, value: number, guess: number): number {
  // Words before `from` are less than the value, words from `to` on are not.
  let from = 0
  let to = count
  let at = Math.min(guess, count - 1)
  for (let step = FIRST_STEP; at >= from && at < to; step *= 2) {
    if (words[base + at] >>> 0 < value) {
      from = at + 1
      at = from + step
    } else {
      to = at
      at = to - 1 - step
    }
  }
  while (from < to) {
    const middle = (from + to) >>> 1
    if (words[base + middle] >>> 0 < value) from = middle + 1
    else to = middle
  }
  return from
}
