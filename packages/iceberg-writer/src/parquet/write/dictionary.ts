import { fixedWidth, type Column } from '@moonlink/core'
import { denseColumn } from './dense-column.ts'

/** Distinct values of a column chunk, and which of them each value is. */
export interface Dictionary {
  readonly entries: Column
  readonly indices: Uint32Array
}

/** A dictionary grows to at most this many bytes and entries; readers hold it in memory while they read the chunk. */
const MAX_BYTES = 1 << 20
const MAX_ENTRIES = 1 << 16
/** Fewer values than this per entry do not pay. */
const MIN_USES = 4
/** After so many values, a column where nearly each was new is given up. */
const SAMPLE = 2048
const SAMPLE_NEW = 2000
const EMPTY = -1

/** A dictionary of values `[from, to)`, or null where it would not make the chunk much smaller. */
export function buildDictionary(column: Column, from: number, to: number): Dictionary | null {
  if (column.type.kind === 'boolean' || to === from) return null
  const count = to - from
  const maxEntries = Math.min(MAX_ENTRIES, Math.ceil(count / MIN_USES))
  const values = valuesOf(column)
  const indices = new Uint32Array(count)
  const rows = new Uint32Array(maxEntries)
  let slots = new Int32Array(1024).fill(EMPTY)
  let entries = 0
  let bytes = 0
  for (let index = 0; index < count; index++) {
    if (index === SAMPLE && entries > SAMPLE_NEW) return null
    const row = from + index
    let slot = values.hash(row) & (slots.length - 1)
    while (slots[slot] !== EMPTY && !values.equal(rows[slots[slot]], row)) slot = (slot + 1) & (slots.length - 1)
    if (slots[slot] === EMPTY) {
      bytes += values.size(row)
      if (entries === maxEntries || bytes > MAX_BYTES) return null
      rows[entries] = row
      slots[slot] = entries++
      indices[index] = entries - 1
      if (entries * 2 > slots.length) slots = regrown(rows, entries, slots.length * 4, values)
    } else indices[index] = slots[slot]
  }
  return { entries: denseColumn(column, rows.subarray(0, entries)), indices }
}

function regrown(rows: Uint32Array, entries: number, capacity: number, values: Values): Int32Array<ArrayBuffer> {
  const slots = new Int32Array(capacity).fill(EMPTY)
  for (let entry = 0; entry < entries; entry++) {
    let slot = values.hash(rows[entry]) & (capacity - 1)
    while (slots[slot] !== EMPTY) slot = (slot + 1) & (capacity - 1)
    slots[slot] = entry
  }
  return slots
}

/** How the values of a column are hashed and compared: by their bytes. */
interface Values {
  hash(row: number): number
  equal(a: number, b: number): boolean
  size(row: number): number
}

function valuesOf(column: Column): Values {
  const width = fixedWidth(column.type)
  return width > 0 && width % 4 === 0 ? new WordValues(column.values, width >> 2) : new ByteValues(column.values, column.offsets, width)
}

const MULTIPLIER = 0x9e37_79b1

class WordValues implements Values {
  private readonly words: Int32Array
  private readonly width: number

  constructor(values: Uint8Array, width: number) {
    this.words = new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2)
    this.width = width
  }

  hash(row: number): number {
    const { words, width } = this
    let hash = 0
    for (let word = row * width; word < (row + 1) * width; word++) hash = mix(hash ^ words[word])
    return hash
  }

  equal(a: number, b: number): boolean {
    const { words, width } = this
    for (let word = 0; word < width; word++) if (words[a * width + word] !== words[b * width + word]) return false
    return true
  }

  size(): number {
    return this.width * 4
  }
}

class ByteValues implements Values {
  private readonly values: Uint8Array
  private readonly offsets: Int32Array | null
  private readonly width: number

  constructor(values: Uint8Array, offsets: Int32Array | null, width: number) {
    this.values = values
    this.offsets = offsets
    this.width = width
  }

  hash(row: number): number {
    const { values } = this
    const end = this.start(row + 1)
    let hash = end - this.start(row)
    for (let byte = this.start(row); byte < end; byte++) hash = Math.imul(hash ^ values[byte], MULTIPLIER)
    return mix(hash)
  }

  equal(a: number, b: number): boolean {
    const { values } = this
    const startA = this.start(a)
    const startB = this.start(b)
    const size = this.size(a)
    if (size !== this.size(b)) return false
    for (let byte = 0; byte < size; byte++) if (values[startA + byte] !== values[startB + byte]) return false
    return true
  }

  size(row: number): number {
    return this.start(row + 1) - this.start(row)
  }

  private start(row: number): number {
    return this.offsets === null ? row * this.width : this.offsets[row]
  }
}

function mix(hash: number): number {
  const product = Math.imul(hash, MULTIPLIER)
  return product ^ (product >>> 15)
}
