import type { KeyHashes } from './key-hashes.ts'

/** Entries sorted at a time; a part fits in the processor's cache. */
const PART_ENTRIES = 16_384
/** Parts are filled a group at a time: of so many entries, but all of them in at most `MAX_GROUPS` passes over the rows. */
const GROUP_ENTRIES = 1 << 20
const MAX_GROUPS = 16
/** Rows handled before other work gets a turn. */
const ROWS_PER_TURN = 65_536
const DIGIT_BITS = 11
const DIGITS = 1 << DIGIT_BITS
const SORTED_BITS = 2 * DIGIT_BITS

type Digit = readonly [half: 'low' | 'high', shift: number]

const EVERY_DIGIT: readonly Digit[] = (['low', 'high'] as const).flatMap((half) =>
  Array.from({ length: Math.ceil(32 / DIGIT_BITS) }, (_, index): Digit => [half, index * DIGIT_BITS]),
)

/** Entries; only the first `length` count. */
export interface EntryRun {
  readonly high: Uint32Array
  readonly low: Uint32Array
  readonly rows: Uint32Array
  length: number
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/**
 * Yields every row's entry in the order of (high, low, row), in runs that are valid until the next one is taken. Hands over to other
 * work every few milliseconds; where one hash has very many rows, after each pass over those. Needs 12 bytes a row of a group of parts, and as much
 * for each row of the longest run.
 */
export async function* sortedRuns(hashes: KeyHashes): AsyncGenerator<EntryRun> {
  const { length } = hashes
  const bits = Math.max(0, Math.ceil(Math.log2(length / PART_ENTRIES)))
  const starts = await partStarts(hashes, bits)
  const groups = groupsOf(starts, Math.max(GROUP_ENTRIES, Math.ceil(length / MAX_GROUPS)))
  const entries = emptyRun(Math.max(0, ...groups.map(([first, end]) => starts[end] - starts[first])))
  let spare = emptyRun(PART_ENTRIES)
  for (const [first, end] of groups) {
    await scatter(hashes, bits, first, end, starts, entries)
    for (let part = first; part < end; part++) {
      const run = slice(entries, starts[part] - starts[first], starts[part + 1] - starts[first])
      if (run.length === 0) continue
      if (run.length > spare.rows.length) spare = emptyRun(run.length)
      yield await sortRun(run, spare, bits)
      await nextTurn()
    }
  }
}

/** Where each part, of the rows with the same leading `bits` bits of `high`, begins in the order of all; one more for the end. */
async function partStarts({ high, length }: KeyHashes, bits: number): Promise<Uint32Array> {
  const starts = new Uint32Array((1 << bits) + 1)
  for (let from = 0; from < length; from += ROWS_PER_TURN) {
    countParts(high, from, Math.min(from + ROWS_PER_TURN, length), bits, starts)
    await nextTurn()
  }
  for (let part = 1; part < starts.length; part++) starts[part] += starts[part - 1]
  return starts
}

/** Counts the rows of each part, one place behind it. */
function countParts(high: Uint32Array, from: number, to: number, bits: number, counts: Uint32Array): void {
  // A shift by 32 is a shift by 0, hence two shifts.
  for (let row = from; row < to; row++) counts[((high[row] >>> 1) >>> (31 - bits)) + 1]++
}

/** Neighbouring parts that have at most `limit` rows together, or are one part. */
function groupsOf(starts: Uint32Array, limit: number): (readonly [first: number, end: number])[] {
  const groups: (readonly [number, number])[] = []
  for (let first = 0; first < starts.length - 1;) {
    let end = first + 1
    while (end < starts.length - 1 && starts[end + 1] - starts[first] <= limit) end++
    groups.push([first, end])
    first = end
  }
  return groups
}

/** Puts the entries of parts `[first, end)` one part behind the other, rows ascending within each. */
async function scatter(hashes: KeyHashes, bits: number, first: number, end: number, starts: Uint32Array, into: EntryRun): Promise<void> {
  const next = starts.slice(0, end).map((start) => start - starts[first])
  for (let from = 0; from < hashes.length; from += ROWS_PER_TURN) {
    scatterRows(hashes, from, Math.min(from + ROWS_PER_TURN, hashes.length), bits, first, next, into)
    await nextTurn()
  }
}

function scatterRows(hashes: KeyHashes, from: number, to: number, bits: number, first: number, next: Uint32Array, into: EntryRun): void {
  const { high: fromHigh, low: fromLow } = hashes
  const { high, low, rows } = into
  for (let row = from; row < to; row++) {
    const part = (fromHigh[row] >>> 1) >>> (31 - bits)
    if (part < first || part >= next.length) continue
    const at = next[part]++
    high[at] = fromHigh[row]
    low[at] = fromLow[row]
    rows[at] = row
  }
}

function emptyRun(capacity: number): EntryRun {
  return { high: new Uint32Array(capacity), low: new Uint32Array(capacity), rows: new Uint32Array(capacity), length: 0 }
}

function slice({ high, low, rows }: EntryRun, from: number, to: number): EntryRun {
  return { high: high.subarray(from, to), low: low.subarray(from, to), rows: rows.subarray(from, to), length: to - from }
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
