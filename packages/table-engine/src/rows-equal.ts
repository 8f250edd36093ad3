import { cellsEqual, type ColumnBatch } from '@moonlink/core'

/** Whether two rows of batches with the same columns have the same bytes in each. */
export function rowsEqual(a: ColumnBatch, rowA: number, b: ColumnBatch, rowB: number): boolean {
  for (let index = 0; index < a.columns.length; index++) {
    if (!cellsEqual(a.columns[index], rowA, b.columns[index], rowB)) return false
  }
  return true
}
