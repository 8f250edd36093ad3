import type { Field } from '../types.ts'
import { ColumnBuilder, type BuilderOptions } from './column-builder.ts'
import type { ColumnBatch } from './column.ts'

/** One `ColumnBuilder` per field; the builders advance together. */
export class BatchBuilder {
  readonly fields: readonly Field[]
  readonly builders: readonly ColumnBuilder[]

  constructor(fields: readonly Field[], capacityRows?: number, options?: BuilderOptions) {
    this.fields = fields
    this.builders = fields.map((field) => new ColumnBuilder(field.type, capacityRows, options))
  }

  /** Complete rows so far. A batch without columns has none. */
  get length(): number {
    return this.builders.length === 0 ? 0 : this.builders[this.builders.length - 1].length
  }

  /** Bytes held, capacity included. */
  get byteSize(): number {
    return this.builders.reduce((sum, builder) => sum + builder.byteSize, 0)
  }

  /** Bytes of the rows so far. */
  get usedBytes(): number {
    return this.builders.reduce((sum, builder) => sum + builder.usedBytes, 0)
  }

  /** Appends rows `[from, to)` of a batch whose columns have the same types in the same order. */
  appendRange(batch: ColumnBatch, from = 0, to = batch.length): void {
    for (let index = 0; index < this.builders.length; index++) this.builders[index].appendRange(batch.columns[index], from, to)
  }

  /** Appends the rows of `batch` at `rows[from … to)`. */
  appendGather(batch: ColumnBatch, rows: Uint32Array, from = 0, to = rows.length): void {
    for (let index = 0; index < this.builders.length; index++) {
      this.builders[index].appendGather(batch.columns[index], rows, from, to)
    }
  }

  truncate(length: number): void {
    for (const builder of this.builders) builder.truncate(length)
  }

  clear(): void {
    for (const builder of this.builders) builder.clear()
  }

  /** The rows so far, sharing memory (see `ColumnBuilder.view`). */
  view(): ColumnBatch {
    return { fields: this.fields, columns: this.builders.map((builder) => builder.view()), length: this.length }
  }
}

/** The rows of `batch` at `rows`, as a batch of its own memory. */
export function gatherBatch(batch: ColumnBatch, rows: Uint32Array): ColumnBatch {
  const builder = new BatchBuilder(batch.fields, rows.length)
  builder.appendGather(batch, rows)
  return builder.view()
}

/** Rows `[from, to)` of `batch`, as a batch of its own memory. */
export function sliceBatch(batch: ColumnBatch, from: number, to: number): ColumnBatch {
  const builder = new BatchBuilder(batch.fields, to - from)
  builder.appendRange(batch, from, to)
  return builder.view()
}

/** The columns named by `fieldIds`, in that order, without copying. Throws if one is missing. */
export function selectFields(batch: ColumnBatch, fieldIds: readonly number[]): ColumnBatch {
  const indices = fieldIds.map((id) => {
    const index = batch.fields.findIndex((field) => field.id === id)
    if (index < 0) throw new RangeError(`no field ${id} in the batch`)
    return index
  })
  return {
    fields: indices.map((index) => batch.fields[index]),
    columns: indices.map((index) => batch.columns[index]),
    length: batch.length,
  }
}
