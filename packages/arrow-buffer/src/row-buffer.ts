import { assert, BatchBuilder, type Column, type ColumnBatch, type ColumnBuilder, type Field, type Lsn } from '@moonlink/core'
import { CommitMarkList } from './commit-marks.ts'

/** No `_row_id` is kept for the row: it gets a new one when it is first written to Iceberg. */
export const NO_ROW_ID = -1

/** Cells of a batch whose values lie elsewhere. Parallel arrays, one entry a cell, rows ascending. */
export interface FilledCells {
  /** Index of the column. */
  readonly column: number
  /** Rows of the batch. */
  readonly rows: Uint32Array
  /** The column that has the value; null where that is an earlier row of the buffer appended to, of the same batch too. */
  readonly sources: readonly (Column | null)[]
  readonly sourceRows: readonly number[]
}

/**
 * Rows in commit order, in Arrow's layout, with the LSNs at which they become visible.
 *
 * Rows are only appended, so the rows at LSN L are a prefix (`rowCountAt`), and a `view` taken now stays valid while later rows
 * arrive. Rows past the last mark belong to a transaction that is still open. Not promised: thread safety.
 */
export class RowBuffer {
  readonly fields: readonly Field[]
  private readonly builder: BatchBuilder
  private readonly marks = new CommitMarkList()
  private ids: Float64Array | null = null

  constructor(fields: readonly Field[], capacityRows?: number) {
    this.fields = fields
    this.builder = new BatchBuilder(fields, capacityRows)
  }

  get rowCount(): number {
    return this.builder.length
  }

  /** Rows of transactions that have ended. */
  get markedRowCount(): number {
    return this.marks.lastCount
  }

  /** Bytes held, spare capacity included. */
  get byteSize(): number {
    return this.builder.byteSize + this.marks.byteSize + (this.ids?.byteLength ?? 0)
  }

  /** Bytes of the rows, spare capacity excluded. */
  get usedBytes(): number {
    return this.builder.usedBytes
  }

  get firstLsn(): Lsn | null {
    return this.marks.firstLsn
  }

  get lastLsn(): Lsn | null {
    return this.marks.lastLsn
  }

  /** Appends rows `[from, to)` of `batch` (the same fields in the same order), copying them; returns the first one's row number. */
  append(batch: ColumnBatch, from = 0, to = batch.length): number {
    const first = this.builder.length
    this.builder.appendRange(batch, from, to)
    return first
  }

  /** Appends a whole batch, some of whose cells are taken from elsewhere: each value is copied once. Returns the first one's row number. */
  appendFilled(batch: ColumnBatch, filled: readonly FilledCells[]): number {
    const first = this.builder.length
    for (let index = 0; index < this.fields.length; index++) {
      const cells = filled.find(({ column }) => column === index)
      if (cells === undefined) this.builder.builders[index].appendRange(batch.columns[index], 0, batch.length)
      else appendFilledColumn(this.builder.builders[index], batch.columns[index], cells)
    }
    return first
  }

  /** The first `rowCount` rows become visible at `endLsn`, those before the previous mark excepted. */
  mark(endLsn: Lsn, rowCount = this.rowCount): void {
    this.marks.push(endLsn, rowCount)
  }

  /** How many rows are visible at `lsn`: the first so many. */
  rowCountAt(lsn: Lsn): number {
    return this.marks.countAt(lsn)
  }

  /** The rows so far, sharing memory; later appends do not disturb it. */
  view(): ColumnBatch {
    return this.builder.view()
  }

  /** Notes the `_row_id` that the row keeps. */
  setRowId(row: number, rowId: number): void {
    if (this.ids === null || row >= this.ids.length) {
      const grown = new Float64Array(Math.max(64, 2 ** Math.ceil(Math.log2(Math.max(row + 1, this.rowCount, 1))))).fill(NO_ROW_ID)
      if (this.ids) grown.set(this.ids)
      this.ids = grown
    }
    this.ids[row] = rowId
  }

  /** The `_row_id` that the row keeps, or `NO_ROW_ID`. */
  rowIdAt(row: number): number {
    return this.ids !== null && row < this.ids.length ? this.ids[row] : NO_ROW_ID
  }

  get hasRowIds(): boolean {
    return this.ids !== null
  }
}

function appendFilledColumn(builder: ColumnBuilder, own: Column, { rows, sources, sourceRows }: FilledCells): void {
  let copied = 0
  for (let cell = 0; cell < rows.length; cell++) {
    builder.appendRange(own, copied, rows[cell])
    copied = rows[cell] + 1
    const source = sources[cell] ?? builder.view()
    const row = sourceRows[cell]
    assert(row < source.length, 'a cell is filled from a row that exists', { row, length: source.length })
    builder.appendRange(source, row, row + 1)
  }
  builder.appendRange(own, copied, own.length)
}
