import type { KeyHashes } from './key-hashes.ts'

/** Entries sorted at a time; a part fits in the processor's cache. */
const PART_ENTRIES = 16_384
/** Rows handled before other work gets a turn. */
const ROWS_PER_TURN = 65_536
const DIGIT_BITS = 11
const DIGITS = 1 << DIGIT_BITS
const SORTED_BITS = 2 * DIGIT_BITS

type Digit = readonly [half: 'low' | 'high', shift: number]

const EVERY_DIGIT: readonly Digit[] = (['low', 'high'] as const).flatMap((half) =>
  Array.from({ length: Math.ceil(32 / DIGIT_BITS) }, (_, index): Digit => [half, index * DIGIT_BITS]),
)

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
    const sorted = await sortRun(run, spare, bits)
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
  const { high, low, rows } = run
  const { high: fromHigh, low: fromLow } = hashes
  for (let index = 0; index < count; index++) {
    const row = order[from + index]
    high[index] = fromHigh[row]
    low[index] = fromLow[row]
    rows[index] = row
  }
  run.length = count
}

/**
 * Sorts by the `SORTED_BITS` bits behind the leading `bits` bits of `high`, which are the same everywhere, least significant digit first; stable, so
 * rows stay ascending. That leaves next to nothing out of place where hashes spread evenly; where they do not, the rest of the digits follow.
 * Returns the one of the two that ends up sorted.
 */
async function sortRun(run: EntryRun, spare: EntryRun, bits: number): Promise<EntryRun> {
  const shift = Math.max(0, 32 - bits - SORTED_BITS)
  const nearly = await sortDigits(run, spare, [
    ['high', shift],
    ['high', shift + DIGIT_BITS],
  ])
  if (settle(nearly)) return nearly
  return sortDigits(nearly, nearly === run ? spare : run, EVERY_DIGIT)
}

async function sortDigits(run: EntryRun, spare: EntryRun, digits: readonly Digit[]): Promise<EntryRun> {
  let from = run
  let to = spare
  for (const [half, shift] of digits) {
    if (!moveByDigit(from, to, half, shift)) continue
    ;[from, to] = [to, from]
    if (run.length > PART_ENTRIES * 2) await nextTurn()
  }
  return from
}

/** Insertion sort, for entries of which few are out of place; stops and returns false where they are many. The order is stable at any time. */
function settle({ high, low, rows, length }: EntryRun): boolean {
  let moves = length
  for (let index = 1; index < length; index++) {
    const h = high[index]
    const l = low[index]
    let at = index
    while (at > 0 && (high[at - 1] > h || (high[at - 1] === h && low[at - 1] > l))) at--
    if (at === index) continue
    moves -= index - at
    if (moves < 0) return false
    const row = rows[index]
    high.copyWithin(at + 1, at, index)
    low.copyWithin(at + 1, at, index)
    rows.copyWithin(at + 1, at, index)
    high[at] = h
    low[at] = l
    rows[at] = row
  }
  return true
}

/** One pass; returns false, having moved nothing, where all entries have the same digit. */
function moveByDigit(from: EntryRun, to: EntryRun, half: 'low' | 'high', shift: number): boolean {
  const { length, high, low, rows } = from
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
  const { high: toHigh, low: toLow, rows: toRows } = to
  for (let index = 0; index < length; index++) {
    const at = next[(keys[index] >>> shift) & (DIGITS - 1)]++
    toHigh[at] = high[index]
    toLow[at] = low[index]
    toRows[at] = rows[index]
  }
  to.length = length
  return true
}
