import { assert, fixedWidth, type Column, type FieldType } from '@moonlink/core'
import { DuckDBDataChunk } from '@duckdb/node-api'
import duckdb, { type Vector } from '@duckdb/node-bindings'
import { duckdbLogicalType } from './logical-type.ts'

/** Rows of one data chunk, DuckDB's vector size. */
export const CHUNK_ROWS = 2048

/** DuckDB's string header: length, then 12 bytes inline, or 4 bytes of prefix and a pointer. */
const HEADER_BYTES = 16
const INLINE_BYTES = 12

/**
 * Copies rows of columns into a DuckDB data chunk, buffer by buffer.
 *
 * It writes DuckDB's in-memory layout (vectors, string headers, list entries), which is not a stable interface: the bindings are
 * pinned to one version, and `chunk-writer.test.ts` reads every type back.
 */
export class ChunkWriter {
  /** Filled by `write`; valid until the next one. */
  readonly chunk: DuckDBDataChunk
  private readonly types: readonly FieldType[]
  private bytes = new Uint8Array(CHUNK_ROWS * HEADER_BYTES)
  private words = new Uint32Array(this.bytes.buffer)

  constructor(types: readonly FieldType[]) {
    this.types = types
    this.chunk = DuckDBDataChunk.create(types.map(duckdbLogicalType))
  }

  /** Puts rows `[from, from + count)` of `columns` into `chunk`. At most `CHUNK_ROWS` rows. */
  write(columns: readonly Column[], from: number, count: number): void {
    assert(count <= CHUNK_ROWS && columns.length === this.types.length, 'rows fit the chunk', { count, columns: columns.length })
    this.chunk.reset()
    this.chunk.rowCount = count
    for (let index = 0; index < columns.length; index++) {
      this.writeVector(duckdb.data_chunk_get_vector(this.chunk.chunk, index), columns[index], from, count)
    }
  }

  private writeVector(vector: Vector, column: Column, from: number, count: number): void {
    if (count === 0) return
    if (column.validity !== null && column.nullCount > 0) this.writeValidity(vector, column.validity, from, count)
    const { type } = column
    switch (type.kind) {
      case 'boolean':
        return this.writeBooleans(vector, column.values, from, count)
      case 'decimal':
        return this.writeDecimals(vector, column, type.precision, from, count)
      case 'uuid':
        return this.writeUuids(vector, column.values, from, count)
      case 'string':
      case 'variant':
      case 'binary':
      case 'fixed':
        return this.writeStrings(vector, column, from, count)
      case 'list':
        return this.writeLists(vector, column, from, count)
      case 'struct':
        return column.children.forEach((child, index) =>
          this.writeVector(duckdb.struct_vector_get_child(vector, index), child, from, count),
        )
      default:
        return copyFixed(vector, column.values, from, count, fixedWidth(type))
    }
  }

  private writeValidity(vector: Vector, validity: Uint8Array, from: number, count: number): void {
    const size = ((count + 63) >> 6) * 8
    const { bytes } = this.scratch(size)
    bytes.fill(0xff, 0, size)
    for (let index = 0; index < count; index++) {
      const row = from + index
      if (((validity[row >> 3] >> (row & 7)) & 1) === 0) bytes[index >> 3] &= ~(1 << (index & 7))
    }
    duckdb.vector_ensure_validity_writable(vector)
    duckdb.copy_data_to_vector_validity(vector, 0, bytes.buffer, 0, size)
  }

  private writeBooleans(vector: Vector, values: Uint8Array, from: number, count: number): void {
    const { bytes } = this.scratch(count)
    for (let index = 0; index < count; index++) {
      const row = from + index
      bytes[index] = (values[row >> 3] >> (row & 7)) & 1
    }
    duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count)
  }

  /** DuckDB stores a decimal in the narrowest of 16, 32, 64 and 128 bits that its precision fits. */
  private writeDecimals(vector: Vector, column: Column, precision: number, from: number, count: number): void {
    if (precision > 18) return copyFixed(vector, column.values, from, count, 16)
    const { buffer, byteOffset, byteLength } = column.values
    const source = new Uint32Array(buffer, byteOffset, byteLength >> 2)
    const { bytes, words } = this.scratch(count * 8)
    if (precision > 9) {
      for (let index = 0; index < count; index++) {
        words[index * 2] = source[(from + index) * 4]!
        words[index * 2 + 1] = source[(from + index) * 4 + 1]!
      }
      duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count * 8)
    } else if (precision > 4) {
      for (let index = 0; index < count; index++) words[index] = source[(from + index) * 4]!
      duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count * 4)
    } else {
      for (let index = 0; index < count; index++) {
        const value = source[(from + index) * 4]
        bytes[index * 2] = value
        bytes[index * 2 + 1] = value >> 8
      }
      duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count * 2)
    }
  }

  /** A uuid is a 128-bit integer whose top bit is flipped, so that signed order is text order. */
  private writeUuids(vector: Vector, values: Uint8Array, from: number, count: number): void {
    const { bytes } = this.scratch(count * 16)
    for (let index = 0; index < count; index++) {
      const source = (from + index) * 16
      const target = index * 16
      for (let byte = 0; byte < 16; byte++) bytes[target + byte] = values[source + 15 - byte]!
      bytes[target + 15] ^= 0x80
    }
    duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count * 16)
  }

  /**
   * Assigns the values' concatenation as one string, whose place in the vector's heap its header tells, then writes the headers
   * of all values, pointing into it.
   */
  private writeStrings(vector: Vector, column: Column, from: number, count: number): void {
    const { values, offsets, validity } = column
    const width = fixedWidth(column.type)
    const first = offsets ? offsets[from] : from * width
    const last = offsets ? offsets[from + count] : (from + count) * width
    const { low, high } = last - first > INLINE_BYTES ? placeInHeap(vector, values.subarray(first, last)) : { low: 0, high: 0 }
    const { bytes, words } = this.scratch(count * HEADER_BYTES)
    words.fill(0, 0, count * 4)
    for (let index = 0; index < count; index++) {
      const row = from + index
      if (validity !== null && ((validity[row >> 3] >> (row & 7)) & 1) === 0) continue
      const start = offsets ? offsets[row] : row * width
      const size = (offsets ? offsets[row + 1] : start + width) - start
      const at = index * HEADER_BYTES
      words[index * 4] = size
      const inline = size <= INLINE_BYTES ? size : 4
      for (let byte = 0; byte < inline; byte++) bytes[at + 4 + byte] = values[start + byte]!
      if (size > INLINE_BYTES) {
        const address = low + (start - first)
        words[index * 4 + 2] = address
        words[index * 4 + 3] = address > 0xffff_ffff ? high + 1 : high
      }
    }
    duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count * HEADER_BYTES)
  }

  private writeLists(vector: Vector, column: Column, from: number, count: number): void {
    const offsets = column.offsets!
    const first = offsets[from]
    const total = offsets[from + count] - first
    const { bytes, words } = this.scratch(count * 16)
    words.fill(0, 0, count * 4)
    for (let index = 0; index < count; index++) {
      const start = offsets[from + index]
      words[index * 4] = start - first
      words[index * 4 + 2] = offsets[from + index + 1] - start
    }
    duckdb.copy_data_to_vector(vector, 0, bytes.buffer, 0, count * 16)
    duckdb.list_vector_reserve(vector, total)
    duckdb.list_vector_set_size(vector, total)
    this.writeVector(duckdb.list_vector_get_child(vector), column.children[0], first, total)
  }

  /** One buffer for all columns: each is copied out before the next is written. */
  private scratch(size: number): { readonly bytes: Uint8Array<ArrayBuffer>; readonly words: Uint32Array } {
    if (size > this.bytes.length) {
      this.bytes = new Uint8Array(Math.max(size + 15, this.bytes.length * 2) & ~15)
      this.words = new Uint32Array(this.bytes.buffer)
    }
    return { bytes: this.bytes, words: this.words }
  }
}

function copyFixed(vector: Vector, values: Uint8Array, from: number, count: number, width: number): void {
  duckdb.copy_data_to_vector(vector, 0, values.buffer as ArrayBuffer, values.byteOffset + from * width, count * width)
}

/** Address of the copy that the vector now owns, as two 32-bit halves. */
function placeInHeap(vector: Vector, bytes: Uint8Array): { low: number; high: number } {
  duckdb.vector_assign_string_element_len(vector, 0, bytes)
  const header = duckdb.vector_get_data(vector, HEADER_BYTES)
  const view = new DataView(header.buffer, header.byteOffset, HEADER_BYTES)
  return { low: view.getUint32(8, true), high: view.getUint32(12, true) }
}
