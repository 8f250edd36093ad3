import { BatchBuilder, type ColumnBatch, type Field, type Lsn } from '@moonlink/core'
import { CommitMarkList } from './commit-marks.ts'

/** No `_row_id` is kept for the row: it gets a new one when it is first written to Iceberg. */
export const NO_ROW_ID = -1

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

  /** The first `rowCount` rows become visible at `endLsn`, those before the previous mark excepted. */
  mark(endLsn: Lsn, rowCount = this.rowCount): void {
    this.marks.push(endLsn, rowCount)
  }

  rowCountAt(lsn: Lsn): number {
    return this.marks.countAt(lsn)
  }

  /** The rows so far, sharing memory; later appends do not disturb it. */
  view(): ColumnBatch {
    return this.builder.view()
  }

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
