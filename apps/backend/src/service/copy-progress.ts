import type { CopiedTable, CopyRange } from '@moonlink/core'

/** How far the copy of one table is. */
export interface CopyReport {
  /** Rows the source estimates; null if unknown. */
  readonly estimatedRows: number | null
  /** Of the table in the source: what was read, and all of it. */
  readonly bytes: number
  readonly totalBytes: number
  /** From 0 to 1. */
  readonly share: number
  /** What is left at the pace of this attempt; null where that can't be told yet. */
  readonly leftMs: number | null
}

/** Share of the work that has to be done before it tells the pace. */
const LEAST_SHARE = 0.005

/** Measures one attempt at copying a table, which may go on where another was cut off. */
export class CopyProgress {
  private readonly table: CopiedTable
  private readonly startedMs: number
  private readonly first: number
  private pagesDone: number

  /** `done`: what earlier attempts have read. */
  constructor(table: CopiedTable, done: readonly CopyRange[], nowMs: number) {
    this.table = table
    this.startedMs = nowMs
    this.pagesDone = done.reduce((sum, range) => sum + this.pagesOf(range), 0)
    this.first = this.shareOfPages()
  }

  finished(range: CopyRange): void {
    this.pagesDone += this.pagesOf(range)
  }

  /** `rows`: those copied so far, by all attempts. */
  report(rows: number, nowMs: number): CopyReport {
    const { estimatedRows, pageBytes, pages } = this.table
    // Until a range is through, rows tell more than pages.
    const ofRows = estimatedRows === null || estimatedRows === 0 ? 0 : Math.min(1, rows / estimatedRows)
    const share = this.shareOfPages() > this.first ? this.shareOfPages() : Math.max(this.first, ofRows)
    const done = share - this.first
    const leftMs = done < LEAST_SHARE ? null : Math.round(((nowMs - this.startedMs) / done) * (1 - share))
    return { estimatedRows, bytes: this.pagesDone * pageBytes, totalBytes: pages * pageBytes, share, leftMs }
  }

  private shareOfPages(): number {
    return this.table.pages === 0 ? 0 : Math.min(1, this.pagesDone / this.table.pages)
  }

  /** What came since the attempt began does not count. */
  private pagesOf({ from, to }: CopyRange): number {
    const { pages } = this.table
    return Math.max(0, Math.min(to ?? pages, pages) - from)
  }
}
