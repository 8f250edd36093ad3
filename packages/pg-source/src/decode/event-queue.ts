import type { Lsn, SourceEvent } from '@moonlink/core'
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
 */
export class EventQueue {
  private ended: Entry[] = []
  private open: Entry[] = []
  private lent: Entry[] = []

  /** The table's changes of ended transactions. */
  pushEnded(changes: TableChanges): void {
    const buffers = changes.swapEnded()
    if (buffers !== null) this.ended.push(batchEntry(changes, buffers))
  }

  /** The table's changes of the open transaction; those of ended ones were pushed before. */
  pushOpen(changes: TableChanges, openLsn: Lsn): void {
    const buffers = changes.swap()
    if (buffers === null) return
    const { event } = batchEntry(changes, buffers)
    this.open.push({ event: { ...event, batch: { ...event.batch, openLsn } }, changes, buffers })
  }

  push(event: SourceEvent): void {
    this.open.push({ event, changes: null, buffers: null })
  }

  /** No transaction is open any more: what is there has ended. */
  settle(): void {
    if (this.open.length === 0) return
    this.ended.push(...this.open)
    this.open = []
  }

  takeEnded(): SourceEvent[] {
    const taken = this.ended
    this.ended = []
    return this.lend(taken)
  }

  takeOpen(): SourceEvent[] {
    const taken = this.open
    this.open = []
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
}

function batchEntry(changes: TableChanges, buffers: ChangeBuffers) {
  return { event: { kind: 'batch', batch: buffers.view(changes.table) } as const, changes, buffers }
}
