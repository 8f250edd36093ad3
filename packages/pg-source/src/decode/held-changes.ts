import type { Lsn, SourceEvent } from '@moonlink/core'
import { EventQueue } from './event-queue.ts'
import { DEFAULT_OPEN_TRANSACTION_BYTES } from './pgoutput-decoder-options.ts'
import type { TableState } from './relation-state.ts'

/** What was decoded and not taken yet, of ended transactions and of the open one: changes in their tables' buffers, and events in order. */
export class HeldChanges {
  private readonly events = new EventQueue()
  private readonly openTransactionBytes: number
  /** Tables whose buffers may hold something. */
  private dirty: TableState[] = []
  /** Changes, and the bytes of the messages they came in. */
  private endedRows = 0
  private endedBytes = 0
  private openRows = 0
  private openBytes = 0

  constructor(openTransactionBytes = DEFAULT_OPEN_TRANSACTION_BYTES) {
    this.openTransactionBytes = openTransactionBytes
  }

  get rows(): number {
    return this.endedRows + this.openRows
  }

  get bytes(): number {
    return this.endedBytes + this.openBytes
  }

  get hasEnded(): boolean {
    return this.endedBytes > 0
  }

  /** Whether a part of the open transaction is worth handing out before it ends. */
  get isOpenLarge(): boolean {
    return this.openBytes >= this.openTransactionBytes
  }

  /** Counts a change of the open transaction, which is in the table's buffers. */
  add(table: TableState, bytes: number): void {
    this.openRows++
    this.openBytes += bytes
    if (!table.isDirty) this.note(table)
  }

  /** Something is in the table's buffers. */
  note(table: TableState): void {
    if (table.isDirty) return
    table.isDirty = true
    this.dirty.push(table)
  }

  /** An event of the open transaction. */
  push(event: SourceEvent): void {
    this.events.push(event)
  }

  /** Moves what the table has into the queue of events, before another event of it. */
  flush(table: TableState, openLsn: Lsn): void {
    if (table.changes.current.hasOpen) table.isTruncated = false
    this.events.pushEnded(table.changes)
    this.events.pushOpen(table.changes, openLsn)
  }

  /** The open transaction has ended. */
  settle(): void {
    this.events.settle()
    this.endedRows += this.openRows
    this.endedBytes += this.openBytes
    this.openRows = this.openBytes = 0
  }

  /** Takes what is of ended transactions. What was taken before is not valid any more. */
  takeEnded(isOpen: boolean): SourceEvent[] {
    this.events.recycle()
    if (!isOpen) this.events.settle()
    for (const table of this.dirty) this.events.pushEnded(table.changes)
    this.dirty = this.dirty.filter((table) => (table.isDirty = !table.changes.current.isEmpty))
    this.endedRows = this.endedBytes = 0
    return this.events.takeEnded()
  }

  /** Takes what is of the open transaction. Nothing of ended ones may be left. */
  takeOpen(openLsn: Lsn): SourceEvent[] {
    for (const table of this.dirty) {
      this.flush(table, openLsn)
      table.isDirty = false
    }
    this.dirty = []
    this.openRows = this.openBytes = 0
    return this.events.takeOpen()
  }
}
