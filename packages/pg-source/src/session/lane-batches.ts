import type { CopyRange, TakeCopied } from '@moonlink/core'
import { CopyBinaryDecoder, identifierNames } from '../decode/index.ts'
import type { DescribedTable } from './catalog.ts'
import type { BatchLimits } from './copy-worker.ts'

/** A batch is full once it has its rows, so what came with the last of them is in it as well. */
const ROWS_BEYOND = 4096

/** Bytes of a row at least: how many columns it has, and the length of each. */
const rowBytes = (columns: number) => 2 + 4 * columns

/** The batches of one lane of a copy: one is decoded while one is out. */
export class LaneBatches {
  readonly decoder: CopyBinaryDecoder
  private readonly take: TakeCopied
  private readonly maxRows: number
  private out: Promise<void> = Promise.resolve()

  constructor(table: DescribedTable, { copyBatchRows, copyBatchBytes }: BatchLimits, take: TakeCopied) {
    const capacityRows = Math.min(
      copyBatchRows + ROWS_BEYOND,
      Math.ceil(copyBatchBytes / rowBytes(table.columns.length)),
      table.estimatedRows ?? copyBatchRows + ROWS_BEYOND,
    )
    this.decoder = new CopyBinaryDecoder({ table: table.table, columns: table.columns, keyNames: identifierNames(table), capacityRows })
    this.take = take
    this.maxRows = copyBatchRows
  }

  /** Hands out the rows decoded so far, one batch at most, which are of that range, then waits for the batch before. Throws what that one met. */
  async handOut(range: CopyRange): Promise<void> {
    const batch = this.decoder.take(this.maxRows)
    if (batch === null) return
    const before = this.out
    this.follow(Promise.all([before, this.take(batch.rows, range).finally(batch.release)]))
    await before
  }

  /** Hands out what is left of a range, and calls `finished` once all of it was taken. */
  async endRange(range: CopyRange, finished?: (range: CopyRange) => Promise<void>): Promise<void> {
    await this.handOut(range)
    if (finished) this.follow(this.out.then(() => finished(range)))
  }

  private follow(work: Promise<unknown>): void {
    this.out = work.then(() => undefined)
    // Whoever waits for it next hears of its failure.
    this.out.catch(() => {})
  }

  /** Waits until no batch is out. Throws what the last one met. */
  async settled(): Promise<void> {
    await this.out
  }
}
