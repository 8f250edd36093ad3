import { assert } from '../errors.ts'
import { childTypes, fixedWidth, type FieldType } from '../types.ts'
import type { Column } from './column.ts'

const MIN_ROWS = 64
const MIN_BYTES = 1024
/** So many values tell how large all will be, about. */
const TELLING_ROWS = 256
const FORESIGHT = 1.125
const MAX_FORESEEN_BYTES = 32 * 1024 * 1024
const NO_CHILDREN: readonly Column[] = []
const NO_BYTES = new Uint8Array(0)

export interface BuilderOptions {
  /** Memory that several threads can see, so that a batch can be read elsewhere and its memory used again here; default false. */
  readonly shared?: boolean
}

/** Where a decoder writes values by itself: the arrays of a column (see `Column`), `words` over `values`; the first value is `row`. */
export interface RunTarget {
  readonly row: number
  readonly words: Int32Array
  readonly values: Uint8Array
  readonly offsets: Int32Array | null
}

/**
 * Appends values of one type into growing buffers of Arrow's layout (see `Column`).
 *
 * A decoder writes through `appendInt32`, `appendInt64`, `appendBytes` …, one call per value, none of which allocates except to
 * grow. `view()` gives the rows so far as a `Column` without copying; it stays valid while more rows are appended, until
 * `truncate` or `clear`.
 */
export class ColumnBuilder {
  readonly type: FieldType
  /** Of a list its elements; of a struct its parts. */
  readonly children: readonly ColumnBuilder[]
  /** Values appended so far. */
  length = 0
  nullCount = 0

  private readonly width: number
  private readonly isStruct: boolean
  private readonly isShared: boolean
  private capacity: number
  private values: Uint8Array
  private validity: Uint8Array | null = null
  private offsets: Int32Array | null
  private i32: Int32Array
  private u32: Uint32Array
  private f64: Float64Array
  private f32: Float32Array

  constructor(type: FieldType, capacityRows = MIN_ROWS, options: BuilderOptions = {}) {
    this.type = type
    this.isShared = options.shared ?? false
    this.capacity = Math.max(8, (capacityRows + 7) & ~7)
    this.width = fixedWidth(type)
    const isVariable = type.kind === 'string' || type.kind === 'binary' || type.kind === 'variant'
    const isList = type.kind === 'list'
    this.children = childTypes(type).map((child) => new ColumnBuilder(child, isList ? MIN_ROWS : capacityRows, options))
    this.isStruct = type.kind === 'struct'
    this.offsets = isVariable || isList ? this.allocateOffsets() : null
    const bytes = isVariable ? MIN_BYTES : type.kind === 'boolean' ? this.capacity >> 3 : this.capacity * this.width
    this.values = this.allocate(bytes)
    this.i32 = this.u32 = null as never
    this.f64 = this.f32 = null as never
    this.adoptViews()
  }

  /** Bytes held, capacity included. */
  get byteSize(): number {
    const own = this.values.byteLength + (this.validity?.byteLength ?? 0) + (this.offsets?.byteLength ?? 0)
    return this.children.reduce((sum, child) => sum + child.byteSize, own)
  }

  /** Bytes of the values so far, without spare capacity. */
  get usedBytes(): number {
    const fixed = this.type.kind === 'boolean' ? this.length >> 3 : this.length * this.width
    const offsets = this.offsets ? this.length * 4 + (this.children.length > 0 ? 0 : this.offsets[this.length]) : 0
    const own = fixed + offsets + (this.validity ? this.length >> 3 : 0)
    return this.children.reduce((sum, child) => sum + child.usedBytes, own)
  }

  appendNull(): void {
    const row = this.nextRow()
    if (this.validity === null) {
      this.validity = this.allocate(Math.max(8, this.capacity >> 3))
      this.validity.fill(0xff)
    }
    this.validity[row >> 3] &= ~(1 << (row & 7))
    this.nullCount++
    if (this.offsets) this.offsets[row + 1] = this.offsets[row]!
    else if (this.width > 0) this.values.fill(0, row * this.width, (row + 1) * this.width)
    else if (this.isStruct) for (const child of this.children) child.appendNull()
  }

  appendBoolean(value: boolean): void {
    const row = this.nextRow()
    if (value) this.values[row >> 3] |= 1 << (row & 7)
    else this.values[row >> 3] &= ~(1 << (row & 7))
  }

  appendInt32(value: number): void {
    const row = this.nextRow()
    this.i32[row] = value
  }

  /** Appends the 64-bit integer `high × 2^32 + low`; only the low 32 bits of each part count. */
  appendInt64(low: number, high: number): void {
    const row = this.nextRow()
    this.i32[row * 2] = low
    this.i32[row * 2 + 1] = high
  }

  appendFloat(value: number): void {
    const row = this.nextRow()
    this.f32[row] = value
  }

  appendDouble(value: number): void {
    const row = this.nextRow()
    this.f64[row] = value
  }

  /** Appends a 128-bit two's-complement integer as four 32-bit words, least significant first. */
  appendInt128(word0: number, word1: number, word2: number, word3: number): void {
    const row = this.nextRow()
    const at = row * 4
    this.u32[at] = word0
    this.u32[at + 1] = word1
    this.u32[at + 2] = word2
    this.u32[at + 3] = word3
  }

  /** Appends `source[start … end)` as one value: a string's UTF-8, binary, uuid or fixed (whose length must fit). */
  appendBytes(source: Uint8Array, start: number, end: number): void {
    const row = this.nextRow()
    const size = end - start
    let at: number
    if (this.offsets) {
      at = this.offsets[row]!
      if (at + size > this.values.length) this.growBytes(at + size)
      this.offsets[row + 1] = at + size
    } else {
      assert(size === this.width, 'a fixed-width value has the width of its type', { size, width: this.width })
      at = row * this.width
    }
    copyBytes(source, start, end, this.values, at)
  }

  /** Ends a list value: its elements are what was appended to `children[0]` since the last list ended. */
  appendListEnd(): void {
    const row = this.nextRow()
    this.offsets![row + 1] = this.children[0].length
  }

  /** Ends a struct value: one value, or null, was appended to each of `children`. */
  appendStructEnd(): void {
    this.nextRow()
  }

  /** Appends rows `[from, to)` of a column of the same type. */
  appendRange(column: Column, from: number, to: number): void {
    const count = to - from
    if (count <= 0) return
    this.reserveRows(count)
    const start = this.length
    this.appendValidity(column, from, to)
    if (this.type.kind === 'boolean') copyBits(column.values, from, this.values, start, count)
    else if (this.offsets) this.appendVariableRange(column, from, to)
    else if (this.isStruct) this.children.forEach((child, index) => child.appendRange(column.children[index], from, to))
    else this.values.set(column.values.subarray(from * this.width, to * this.width), start * this.width)
    this.length = start + count
  }

  /** Appends the rows of `column` at `rows[from … to)`, in that order. */
  appendGather(column: Column, rows: Uint32Array, from = 0, to = rows.length): void {
    let index = from
    while (index < to) {
      const first = rows[index]
      let end = index + 1
      while (end < to && rows[end] === first + (end - index)) end++
      this.appendRange(column, first, first + (end - index))
      index = end
    }
  }

  /** Forgets every value from `length` on, and what was appended to `children` of a value not ended. Views taken earlier that reach beyond it become invalid. */
  truncate(length: number): void {
    assert(length <= this.length, 'truncate shortens')
    if (this.validity) {
      for (let row = length; row < this.length; row++) {
        if (!((this.validity[row >> 3] >> (row & 7)) & 1)) {
          this.nullCount--
          this.validity[row >> 3] |= 1 << (row & 7)
        }
      }
    }
    this.length = length
    const childLength = this.offsets ? this.offsets[length] : length
    for (const child of this.children) child.truncate(childLength)
  }

  /** Empties the builder but keeps its buffers. Earlier views become invalid. */
  clear(): void {
    this.length = 0
    this.nullCount = 0
    this.validity = null
    for (const child of this.children) child.clear()
  }

  /** The values so far. Shares memory with the builder; valid until `truncate` below its length, or `clear`. */
  view(): Column {
    return {
      type: this.type,
      length: this.length,
      nullCount: this.nullCount,
      validity: this.nullCount > 0 ? this.validity : null,
      values: this.values,
      offsets: this.offsets,
      children: this.children.length === 0 ? NO_CHILDREN : this.children.map((child) => child.view()),
    }
  }

  /**
   * Makes room for `rows` more values, of `bytes` bytes in total where their width varies, for a decoder that writes many at once into the
   * arrays itself, in their layout, and then calls `commitRun`. The target is valid until the next call on this builder.
   */
  openRun(rows: number, bytes = 0): RunTarget {
    this.reserveRows(rows)
    const { length: row, offsets } = this
    if (offsets && offsets[row] + bytes > this.values.length) this.growBytes(offsets[row] + bytes, row + rows)
    return { row, words: this.i32, values: this.values, offsets }
  }

  /** Takes the first `rows` values of the open run. */
  commitRun(rows: number): void {
    this.length += rows
  }

  reserveRows(count: number): void {
    if (this.length + count > this.capacity) this.growRows(this.length + count)
  }

  private nextRow(): number {
    if (this.length === this.capacity) this.growRows(this.length + 1)
    return this.length++
  }

  private appendValidity(column: Column, from: number, to: number): void {
    if (column.validity === null || column.nullCount === 0) return
    if (this.validity === null) {
      this.validity = this.allocate(Math.max(8, this.capacity >> 3))
      this.validity.fill(0xff)
    }
    const start = this.length
    const source = column.validity
    for (let row = from; row < to; row++) {
      if ((source[row >> 3] >> (row & 7)) & 1) continue
      const at = start + row - from
      this.validity[at >> 3] &= ~(1 << (at & 7))
      this.nullCount++
    }
  }

  private appendVariableRange(column: Column, from: number, to: number): void {
    const source = column.offsets!
    const target = this.offsets!
    const first = source[from]
    const last = source[to]
    const base = target[this.length]
    const shift = base - first
    const at = this.length + 1 - (from + 1)
    for (let row = from + 1; row <= to; row++) target[at + row] = source[row] + shift
    if (this.children.length > 0) {
      this.children[0].appendRange(column.children[0], first, last)
    } else {
      if (base + last - first > this.values.length) this.growBytes(base + last - first)
      this.values.set(column.values.subarray(first, last), base)
    }
  }

  private growRows(needed: number): void {
    let capacity = this.capacity
    while (capacity < needed) capacity *= 2
    this.capacity = capacity
    if (this.offsets) {
      const offsets = this.allocateOffsets()
      offsets.set(this.offsets.subarray(0, this.length + 1))
      this.offsets = offsets
    } else {
      const bytes = this.type.kind === 'boolean' ? capacity >> 3 : capacity * this.width
      const values = this.allocate(bytes)
      values.set(this.values)
      this.values = values
      this.adoptViews()
    }
    if (this.validity) {
      const validity = this.allocate(Math.max(8, capacity >> 3))
      validity.fill(0xff)
      validity.set(this.validity)
      this.validity = validity
    }
  }

  /** `rows`: how many take those bytes, where that tells what all rows that there is room for will take. */
  private growBytes(needed: number, rows = Infinity): void {
    assert(needed <= 0x7fff_ffff, 'a column buffer holds at most 2 GiB', { needed })
    const foreseen = (needed / rows) * this.capacity * FORESIGHT
    let size = Math.max(MIN_BYTES, this.values.length)
    while (size < needed) size *= 2
    if (rows >= TELLING_ROWS && foreseen > size) size = Math.min(foreseen, Math.max(size, MAX_FORESEEN_BYTES)) & ~7
    const values = this.allocate(Math.min(size, 0x7fff_ffff))
    values.set(this.values)
    this.values = values
  }

  private allocate(bytes: number): Uint8Array {
    if (bytes === 0) return NO_BYTES
    return new Uint8Array(this.isShared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes))
  }

  private allocateOffsets(): Int32Array {
    const { buffer } = this.allocate((this.capacity + 1) * 4)
    return new Int32Array(buffer)
  }

  private adoptViews(): void {
    const { buffer, byteLength } = this.values
    this.i32 = new Int32Array(buffer, 0, byteLength >> 2)
    this.u32 = new Uint32Array(buffer, 0, byteLength >> 2)
    this.f32 = new Float32Array(buffer, 0, byteLength >> 2)
    this.f64 = new Float64Array(buffer, 0, byteLength >> 3)
  }
}

/** A loop beats `set(subarray)` for short values, which most are. */
function copyBytes(source: Uint8Array, start: number, end: number, target: Uint8Array, at: number): void {
  if (end - start > 48) target.set(source.subarray(start, end), at)
  else for (let index = start; index < end; index++) target[at++] = source[index]!
}

function copyBits(source: Uint8Array, from: number, target: Uint8Array, at: number, count: number): void {
  for (let index = 0; index < count; index++) {
    const bit = (source[(from + index) >> 3] >> ((from + index) & 7)) & 1
    const to = at + index
    if (bit) target[to >> 3] |= 1 << (to & 7)
    else target[to >> 3] &= ~(1 << (to & 7))
  }
}
