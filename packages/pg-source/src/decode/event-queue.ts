import type { Lsn, SourceEvent, TableName } from '@moonlink/core'
import type { ChangeBuffers, TableChanges } from './table-changes.ts'

interface Entry {
  readonly event: SourceEvent
  /** The buffers of a batch, and whose they are. */
  readonly changes: TableChanges | null
  readonly buffers: ChangeBuffers | null
}

/**
 * Events in order, until they are taken: those of ended transactions, and behind them those of the open one. The buffers of what
 * was taken return to their tables at the next `recycle`.
 *
 * A truncate needs the end LSN of its transaction, which only its commit tells: until then it, and what follows it, is held back.
 */
export class EventQueue {
  private ended: Entry[] = []
  private open: Entry[] = []
  private lent: Entry[] = []
  /** Where the first truncate without an LSN is among `open`, and how large the open transaction was when it came. */
  private truncateAt = -1
  private truncateBytes = 0
  private readonly holdBytes: number

  constructor(holdBytes: number) {
    this.holdBytes = holdBytes
  }

  /** The table's changes of ended transactions. */
  pushEnded(changes: TableChanges): void {
    const buffers = changes.swapEnded()
    if (buffers !== null) this.ended.push(batchEntry(changes, buffers))
  }

  /** The table's changes of the open transaction; those of ended ones were pushed before. */
  pushOpen(changes: TableChanges): void {
    const buffers = changes.swap()
    if (buffers !== null) this.open.push(batchEntry(changes, buffers))
  }

  push(event: SourceEvent): void {
    this.open.push({ event, changes: null, buffers: null })
  }

  pushTruncate(tables: readonly TableName[], openBytes: number): void {
    if (this.truncateAt < 0) {
      this.truncateAt = this.open.length
      this.truncateBytes = openBytes
    }
    this.push({ kind: 'truncate', tables, endLsn: 0n })
  }

  /** The open transaction ended. */
  end(endLsn: Lsn): void {
    this.stampTruncates(endLsn)
    this.settle()
  }

  /** No transaction is open: what stands outside of any counts as ended. */
  settle(): void {
    if (this.open.length === 0) return
    this.ended.push(...this.open)
    this.open = []
  }

  /**
   * Whether a truncate waits for the end of the transaction that will commit at `commitLsn`. One that has waited too long waits no
   * longer: it gets the position behind the first byte of the commit record, which lies before the transaction's end and behind
   * that of any earlier one.
   */
  isHeld(commitLsn: Lsn, openBytes: number): boolean {
    if (this.truncateAt >= 0 && openBytes - this.truncateBytes > this.holdBytes) this.stampTruncates(commitLsn + 1n)
    return this.truncateAt >= 0
  }

  takeEnded(): SourceEvent[] {
    const taken = this.ended
    this.ended = []
    return this.lend(taken)
  }

  /** What is ready of the open transaction. */
  takeOpen(): SourceEvent[] {
    const ready = this.truncateAt < 0 ? this.open.length : this.truncateAt
    const taken = this.open.slice(0, ready)
    this.open = this.open.slice(ready)
    if (this.truncateAt >= 0) this.truncateAt = 0
    return this.lend(taken)
  }

  /** Gives the buffers of all that was taken back to their tables. */
  recycle(): void {
    for (const { changes, buffers } of this.lent) if (buffers !== null) changes?.giveBack(buffers)
    this.lent = []
  }

  private lend(entries: readonly Entry[]): SourceEvent[] {
    this.lent.push(...entries)
    return entries.map(({ event }) => event)
  }

  private stampTruncates(endLsn: Lsn): void {
    if (this.truncateAt < 0) return
    this.open = this.open.map((entry) =>
      entry.event.kind === 'truncate' ? { event: { ...entry.event, endLsn }, changes: null, buffers: null } : entry,
    )
    this.truncateAt = -1
  }
}

function batchEntry(changes: TableChanges, buffers: ChangeBuffers): Entry {
  return { event: { kind: 'batch', batch: buffers.view(changes.table) }, changes, buffers }
}
