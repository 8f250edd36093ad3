import type { Random } from '@moonlink/core'

/** Draws from one seed: the whole of a run's chance. */
export class Dice {
  readonly next: () => number
  readonly random: Random

  constructor(seed: number) {
    this.next = mulberry32(seed)
    this.random = { bytes: (count) => Uint8Array.from({ length: count }, () => this.below(256)) }
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  chance(share: number): boolean {
    return this.next() < share
  }
}

/** A small generator of numbers in [0, 1) from a seed. */
export function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
