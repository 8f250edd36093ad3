import type { Lsn, SourceEvent, TableName } from '@moonlink/core'
import type { ChangeBuffers, TableChanges } from './table-changes.ts'

interface Entry {
  readonly event: SourceEvent
  /** The buffers of a batch, and whose they are. */
  readonly changes: TableChanges | null
  readonly buffers: ChangeBuffers | null
}

/**
 * Events in order, until they are taken; the buffers of what was taken return to their tables at the next `take`.
 *
 * A truncate needs the end LSN of its transaction, which only its commit tells: until then it, and what follows it, is held back.
 */
export class EventQueue {
  private entries: Entry[] = []
  private lent: Entry[] = []
  /** Where the first truncate without an LSN is among `entries`, and how many bytes were buffered when it came. */
  private openAt = -1
  private openBytes = 0
  private readonly holdBytes: number

  constructor(holdBytes: number) {
    this.holdBytes = holdBytes
  }

  push(event: SourceEvent): void {
    this.entries.push({ event, changes: null, buffers: null })
  }

  pushBatch(changes: TableChanges): void {
    const buffers = changes.swap()
    this.entries.push({ event: { kind: 'batch', batch: buffers.view(changes.table) }, changes, buffers })
  }

  pushTruncate(tables: readonly TableName[], bytesBuffered: number): void {
    if (this.openAt < 0) {
      this.openAt = this.entries.length
      this.openBytes = bytesBuffered
    }
    this.push({ kind: 'truncate', tables, endLsn: 0n })
  }

  /** The open transaction ended: its truncates get their LSN. */
  commit(endLsn: Lsn): void {
    if (this.openAt < 0) return
    for (let index = this.openAt; index < this.entries.length; index++) {
      const { event } = this.entries[index]
      if (event.kind === 'truncate') this.entries[index] = { event: { ...event, endLsn }, changes: null, buffers: null }
    }
    this.openAt = -1
  }

  /**
   * Whether a truncate waits for the end of the transaction that will commit at `commitLsn`. One that has waited too long waits no
   * longer: it gets the position behind the first byte of the commit record, which lies before the transaction's end and behind
   * that of any earlier one.
   */
  isHeld(commitLsn: Lsn, bytesBuffered: number): boolean {
    if (this.openAt >= 0 && bytesBuffered - this.openBytes > this.holdBytes) this.commit(commitLsn + 1n)
    return this.openAt >= 0
  }

  /** The events that are ready. */
  take(): SourceEvent[] {
    for (const { changes, buffers } of this.lent) changes?.giveBack(buffers!)
    const ready = this.openAt < 0 ? this.entries.length : this.openAt
    this.lent = this.entries.slice(0, ready)
    this.entries = this.entries.slice(ready)
    if (this.openAt >= 0) this.openAt = 0
    return this.lent.map(({ event }) => event)
  }
}
