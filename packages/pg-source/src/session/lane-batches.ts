import type { ColumnBatch } from '@moonlink/core'
import { CopyBinaryDecoder, identifierNames } from '../decode/index.ts'
import type { DescribedTable } from './catalog.ts'
import type { BatchLimits } from './copy-worker.ts'

/** Takes a batch; its memory is used again once the promise resolves. */
export type TakeRows = (rows: ColumnBatch) => Promise<void>

/** Bytes of a row at least: how many columns it has, and the length of each. */
const rowBytes = (columns: number) => 2 + 4 * columns

/** The batches of one lane of a copy: one is decoded while one is out. */
export class LaneBatches {
  readonly decoder: CopyBinaryDecoder
  private readonly take: TakeRows
  private out: Promise<void> = Promise.resolve()

  constructor(table: DescribedTable, { copyBatchRows, copyBatchBytes }: BatchLimits, take: TakeRows) {
    const capacityRows = Math.min(
      copyBatchRows,
      Math.ceil(copyBatchBytes / rowBytes(table.columns.length)),
      table.estimatedRows ?? copyBatchRows,
    )
    this.decoder = new CopyBinaryDecoder({ table: table.table, columns: table.columns, keyNames: identifierNames(table), capacityRows })
    this.take = take
  }

  /** Hands out the rows decoded so far, then waits for the batch before. Throws what that one met. */
  async handOut(): Promise<void> {
    const batch = this.decoder.take()
    if (batch === null) return
    const before = this.out
    this.out = this.take(batch.rows).finally(batch.release)
    // Whoever waits for it next hears of its failure.
    this.out.catch(() => {})
    await before
  }

  /** Waits until no batch is out. Throws what the last one met. */
  async settled(): Promise<void> {
    await this.out
  }
}
