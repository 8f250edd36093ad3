import { bitAt, fixedWidth, int32View, isValid, type Column } from '@moonlink/core'
import type { KeyHashes } from './key-hashes.ts'

/** A column with the views its folding needs, made once per batch. */
export interface FoldColumn {
  readonly column: Column
  readonly words: Int32Array | null
  readonly bytes: DataView
  /** Bytes of a value of fixed width; 0 for booleans and variable lengths. */
  readonly width: number
  readonly children: readonly FoldColumn[]
}

export function foldColumn(column: Column): FoldColumn {
  const width = fixedWidth(column.type)
  return {
    column,
    words: width > 0 && width % 4 === 0 ? int32View(column) : null,
    bytes: new DataView(column.values.buffer, column.values.byteOffset, column.values.byteLength),
    width,
    children: column.children.map(foldColumn),
  }
}

const SEED_LOW = 0x9e3779b9
const SEED_HIGH = 0x7f4a7c15
const MULTIPLIER_LOW = 0x9e3779b1
const MULTIPLIER_HIGH = 0x85ebca77

export function seedStates(states: KeyHashes): void {
  states.low.fill(SEED_LOW, 0, states.length)
  states.high.fill(SEED_HIGH, 0, states.length)
}

/**
 * Folds cells `[from, from + count)` into the states `[at, at + count)`: first a head that tells null, empty and every length
 * apart, then the value's bytes as little-endian 32-bit words; of a struct its parts in order. For one word and one state the step is a bijection of the other,
 * so keys that differ in one word never meet.
 *
 * The result is stored in sealed indexes: a change here needs a new version of that format.
 */
export function foldCells(source: FoldColumn, from: number, count: number, states: KeyHashes, at: number): void {
  foldHeads(source, from, count, states, at)
  if (source.column.type.kind === 'boolean') return
  if (source.column.type.kind === 'list') foldElements(source, from, count, states, at)
  else if (source.column.type.kind === 'struct') for (const child of source.children) foldCells(child, from, count, states, at)
  else if (source.words) foldWords(source, from, count, states, at)
  else foldBytes(source, from, count, states, at)
}

/** 0 for null; else 1 + the length of a variable value, 1 + the bit of a boolean, 1. */
function foldHeads({ column }: FoldColumn, from: number, count: number, states: KeyHashes, at: number): void {
  const { low, high } = states
  const { offsets, validity } = column
  const isBoolean = column.type.kind === 'boolean'
  for (let index = 0; index < count; index++) {
    const row = from + index
    let head = 1
    if (validity !== null && !bitAt(validity, row)) head = 0
    else if (offsets !== null) head = offsets[row + 1] - offsets[row] + 1
    else if (isBoolean && bitAt(column.values, row)) head = 2
    let l = Math.imul(low[at + index] ^ head, MULTIPLIER_LOW)
    l ^= l >>> 15
    let h = Math.imul(high[at + index] + l, MULTIPLIER_HIGH)
    h ^= h >>> 13
    low[at + index] = l + h
    high[at + index] = h
  }
}

function foldWords({ column, words, width }: FoldColumn, from: number, count: number, states: KeyHashes, at: number): void {
  const { low, high } = states
  const wordsPerValue = width >> 2
  for (let index = 0; index < count; index++) {
    const row = from + index
    if (!isValid(column, row)) continue
    let l = low[at + index] | 0
    let h = high[at + index] | 0
    const end = (row + 1) * wordsPerValue
    for (let word = row * wordsPerValue; word < end; word++) {
      l = Math.imul(l ^ words![word], MULTIPLIER_LOW)
      l ^= l >>> 15
      h = Math.imul(h + l, MULTIPLIER_HIGH)
      h ^= h >>> 13
      l = (l + h) | 0
    }
    low[at + index] = l
    high[at + index] = h
  }
}

function foldBytes({ column, bytes, width }: FoldColumn, from: number, count: number, states: KeyHashes, at: number): void {
  const { low, high } = states
  const { offsets } = column
  for (let index = 0; index < count; index++) {
    const row = from + index
    if (!isValid(column, row)) continue
    let position = offsets ? offsets[row] : row * width
    const end = offsets ? offsets[row + 1] : position + width
    let l = low[at + index] | 0
    let h = high[at + index] | 0
    while (position < end) {
      const word = position + 4 <= end ? bytes.getInt32(position, true) : lastWord(bytes, position, end)
      position += 4
      l = Math.imul(l ^ word, MULTIPLIER_LOW)
      l ^= l >>> 15
      h = Math.imul(h + l, MULTIPLIER_HIGH)
      h ^= h >>> 13
      l = (l + h) | 0
    }
    low[at + index] = l
    high[at + index] = h
  }
}

/** The one to three bytes left, padded with zeros: the head has told the length. */
function lastWord(bytes: DataView, position: number, end: number): number {
  let word = 0
  for (let shift = 0; position < end; position++, shift += 8) word |= bytes.getUint8(position) << shift
  return word
}

function foldElements({ column, children: [elements] }: FoldColumn, from: number, count: number, states: KeyHashes, at: number): void {
  for (let index = 0; index < count; index++) {
    if (!isValid(column, from + index)) continue
    const end = column.offsets![from + index + 1]
    for (let element = column.offsets![from + index]; element < end; element++) foldCells(elements, element, 1, states, at + index)
  }
}
