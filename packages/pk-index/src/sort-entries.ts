import type { KeyHashes } from './key-hashes.ts'

/** Entries sorted at a time; a part fits in the processor's cache. */
const PART_ENTRIES = 16_384
/** Rows handled before other work gets a turn. */
const ROWS_PER_TURN = 65_536
const DIGIT_BITS = 11
const DIGITS = 1 << DIGIT_BITS

/** Entries of a part; only the first `length` count. */
export interface EntryRun {
  high: Uint32Array
  low: Uint32Array
  rows: Uint32Array
  length: number
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/**
 * Yields every row's entry in the order of (high, low, row), in runs that are valid until the next one is taken. Hands over to other
 * work every few milliseconds; where one hash has very many rows, after each pass over those. Needs 4 bytes a row, and 24 more a
 * row of the longest run.
 */
export async function* sortedRuns(hashes: KeyHashes): AsyncGenerator<EntryRun> {
  const { length } = hashes
  const bits = Math.max(0, Math.ceil(Math.log2(length / PART_ENTRIES)))
  const { order, starts } = await partition(hashes, bits)
  let run = emptyRun(PART_ENTRIES)
  let spare = emptyRun(PART_ENTRIES)
  for (let part = 0; part < starts.length - 1; part++) {
    const from = starts[part]
    const count = starts[part + 1] - from
    if (count === 0) continue
    if (count > run.rows.length) {
      run = emptyRun(count)
      spare = emptyRun(count)
    }
    gather(hashes, order, from, count, run)
    const sorted = await sortRun(run, spare)
    if (sorted === spare) [run, spare] = [spare, run]
    yield sorted
    await nextTurn()
  }
}

/** Rows grouped by the leading `bits` bits of `high`, ascending within a group. */
async function partition({ high, length }: KeyHashes, bits: number): Promise<{ order: Uint32Array; starts: Uint32Array }> {
  const parts = 1 << bits
  const starts = new Uint32Array(parts + 1)
  const order = new Uint32Array(length)
  // A shift by 32 is a shift by 0, hence two shifts.
  for (let from = 0; from < length; from += ROWS_PER_TURN) {
    const to = Math.min(from + ROWS_PER_TURN, length)
    for (let row = from; row < to; row++) starts[((high[row] >>> 1) >>> (31 - bits)) + 1]++
    await nextTurn()
  }
  for (let part = 0; part < parts; part++) starts[part + 1] += starts[part]
  const next = starts.slice()
  for (let from = 0; from < length; from += ROWS_PER_TURN) {
    const to = Math.min(from + ROWS_PER_TURN, length)
    for (let row = from; row < to; row++) order[next[(high[row] >>> 1) >>> (31 - bits)]++] = row
    await nextTurn()
  }
  return { order, starts }
}

function emptyRun(capacity: number): EntryRun {
  return { high: new Uint32Array(capacity), low: new Uint32Array(capacity), rows: new Uint32Array(capacity), length: 0 }
}

function gather(hashes: KeyHashes, order: Uint32Array, from: number, count: number, run: EntryRun): void {
  for (let index = 0; index < count; index++) {
    const row = order[from + index]
    run.high[index] = hashes.high[row]!
    run.low[index] = hashes.low[row]!
    run.rows[index] = row
  }
  run.length = count
}

/** Radix sort, least significant digit first; stable, so rows stay ascending. Returns the one of the two that ends up sorted. */
async function sortRun(run: EntryRun, spare: EntryRun): Promise<EntryRun> {
  let from = run
  let to = spare
  for (const half of ['low', 'high'] as const) {
    for (let shift = 0; shift < 32; shift += DIGIT_BITS) {
      if (!moveByDigit(from, to, half, shift)) continue
      ;[from, to] = [to, from]
      if (run.length > PART_ENTRIES * 2) await nextTurn()
    }
  }
  return from
}

/** One pass; returns false, having moved nothing, where all entries have the same digit. */
function moveByDigit(from: EntryRun, to: EntryRun, half: 'low' | 'high', shift: number): boolean {
  const { length } = from
  const keys = from[half]
  const next = new Uint32Array(DIGITS)
  for (let index = 0; index < length; index++) next[(keys[index] >>> shift) & (DIGITS - 1)]++
  if (next[(keys[0] >>> shift) & (DIGITS - 1)] === length) return false
  let start = 0
  for (let digit = 0; digit < DIGITS; digit++) {
    const count = next[digit]
    next[digit] = start
    start += count
  }
  for (let index = 0; index < length; index++) {
    const at = next[(keys[index] >>> shift) & (DIGITS - 1)]++
    to.high[at] = from.high[index]!
    to.low[at] = from.low[index]!
    to.rows[at] = from.rows[index]!
  }
  to.length = length
  return true
}
