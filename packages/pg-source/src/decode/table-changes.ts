import { BatchBuilder, type ChangeBatch, type Field, type Lsn, type TableName, type UnchangedCells } from '@moonlink/core'

/** Buffers of an idle table above this size are let go of. */
const IDLE_BYTES = 64 * 1024
/** Of so many tables, those that changed last, buffers of up to so many bytes are kept: else a busy table would make its buffers anew for each batch. */
const BUSY_TABLES = 8
const BUSY_BYTES = 512 * 1024

/** Row numbers, growing. */
class RowList {
  private rows = new Uint32Array(16)
  private length = 0

  push(row: number): void {
    if (this.length === this.rows.length) {
      const rows = new Uint32Array(this.length * 2)
      rows.set(this.rows)
      this.rows = rows
    }
    this.rows[this.length++] = row
  }

  dropFrom(row: number): void {
    while (this.length > 0 && this.rows[this.length - 1] >= row) this.length--
  }

  get last(): number {
    return this.length === 0 ? -1 : this.rows[this.length - 1]
  }

  /** Moves the rows from `row` on to another list, counted from there. */
  moveFrom(row: number, to: RowList): void {
    let from = this.length
    while (from > 0 && this.rows[from - 1] >= row) from--
    for (let index = from; index < this.length; index++) to.push(this.rows[index] - row)
    this.length = from
  }

  get isEmpty(): boolean {
    return this.length === 0
  }

  view(): Uint32Array {
    return this.rows.subarray(0, this.length)
  }
}

/** One batch in the making. */
export class ChangeBuffers {
  readonly rows: BatchBuilder
  readonly old: BatchBuilder
  rowCount = 0
  oldCount = 0
  changeCount = 0
  /** How much of that belongs to transactions that have ended. */
  private endedRows = 0
  private endedOld = 0
  private endedChanges = 0
  private ops = new Uint8Array(64)
  private unchanged = new Map<number, RowList>()
  private endLsns: Lsn[] = []
  private changeCounts: number[] = []
  private commitTimesMs: number[] = []

  constructor(fields: readonly Field[], oldFields: readonly Field[]) {
    this.rows = new BatchBuilder(fields)
    this.old = new BatchBuilder(oldFields)
  }

  get isEmpty(): boolean {
    return this.changeCount === 0 && this.endLsns.length === 0
  }

  get byteSize(): number {
    return this.rows.byteSize + this.old.byteSize
  }

  /** Notes that a whole change was appended. */
  complete(op: number, rows: number, old: number): void {
    if (this.changeCount === this.ops.length) this.growOps()
    this.ops[this.changeCount++] = op
    this.rowCount += rows
    this.oldCount += old
  }

  /** Takes back what was appended of a change that is not complete. */
  undo(): void {
    this.rows.truncate(this.rowCount)
    this.old.truncate(this.oldCount)
    for (const list of this.unchanged.values()) list.dropFrom(this.rowCount)
  }

  /** Notes that the row in the making did not bring this cell. */
  noteUnchanged(column: number): void {
    let list = this.unchanged.get(column)
    if (list === undefined) this.unchanged.set(column, (list = new RowList()))
    list.push(this.rowCount)
  }

  /** Whether the row in the making lacks this cell. */
  isUnchanged(column: number): boolean {
    return this.unchanged.get(column)?.last === this.rowCount
  }

  mark(endLsn: Lsn, commitTimeMs: number): void {
    this.endLsns.push(endLsn)
    this.changeCounts.push(this.changeCount)
    this.commitTimesMs.push(commitTimeMs)
    this.endedRows = this.rowCount
    this.endedOld = this.oldCount
    this.endedChanges = this.changeCount
  }

  get hasEnded(): boolean {
    return this.endLsns.length > 0
  }

  get hasOpen(): boolean {
    return this.changeCount > this.endedChanges
  }

  /** Moves what belongs to the open transaction to empty buffers. */
  moveOpen(to: ChangeBuffers): void {
    to.rows.appendRange(this.rows.view(), this.endedRows, this.rowCount)
    to.old.appendRange(this.old.view(), this.endedOld, this.oldCount)
    to.rowCount = this.rowCount - this.endedRows
    to.oldCount = this.oldCount - this.endedOld
    for (let change = this.endedChanges; change < this.changeCount; change++) to.complete(this.ops[change], 0, 0)
    for (const [column, list] of this.unchanged) {
      const moved = new RowList()
      list.moveFrom(this.endedRows, moved)
      if (!moved.isEmpty) to.unchanged.set(column, moved)
    }
    this.rowCount = this.endedRows
    this.oldCount = this.endedOld
    this.changeCount = this.endedChanges
    this.undo()
  }

  /** The changes so far, sharing memory until `clear`. */
  view(table: TableName): ChangeBatch {
    const unchanged: UnchangedCells[] = []
    for (const [column, list] of this.unchanged) {
      if (!list.isEmpty) unchanged.push({ column, rows: list.view() })
    }
    const { endLsns, changeCounts, commitTimesMs } = this
    return {
      table,
      ops: this.ops.subarray(0, this.changeCount),
      rows: this.rows.view(),
      old: this.old.view(),
      unchanged: unchanged.sort((a, b) => a.column - b.column),
      marks: { endLsns, changeCounts, commitTimesMs },
    }
  }

  clear(): void {
    this.rows.clear()
    this.old.clear()
    this.rowCount = this.oldCount = this.changeCount = 0
    this.endedRows = this.endedOld = this.endedChanges = 0
    this.unchanged.clear()
    this.endLsns = []
    this.changeCounts = []
    this.commitTimesMs = []
  }

  private growOps(): void {
    const ops = new Uint8Array(this.ops.length * 2)
    ops.set(this.ops)
    this.ops = ops
  }
}

/** The tables of one decoder that changed last. */
export class BusyTables {
  private readonly tables = new Set<TableChanges>()

  /** Notes that the table has changed; the one that has not for the longest becomes idle. */
  note(table: TableChanges): void {
    this.tables.delete(table)
    this.tables.add(table)
    if (this.tables.size <= BUSY_TABLES) return
    const [idle] = this.tables
    this.tables.delete(idle)
    idle.shrink()
  }
}

/**
 * The changes of one table. A batch that was handed out keeps its buffers until it is given back; meanwhile the next batch is
 * built in others.
 */
export class TableChanges {
  readonly table: TableName
  current: ChangeBuffers
  private readonly fields: readonly Field[]
  private readonly oldFields: readonly Field[]
  private readonly busy: BusyTables
  private spare: ChangeBuffers | null = null

  constructor(table: TableName, fields: readonly Field[], oldFields: readonly Field[], busy: BusyTables) {
    this.table = table
    this.busy = busy
    this.fields = fields
    this.oldFields = oldFields
    this.current = new ChangeBuffers(fields, oldFields)
  }

  /** Puts empty buffers in place of the current ones, which are the caller's until `giveBack`. Null where those hold nothing. */
  swap(): ChangeBuffers | null {
    const full = this.current
    if (full.isEmpty) return null
    this.current = this.spare ?? new ChangeBuffers(this.fields, this.oldFields)
    this.spare = null
    return full
  }

  /** Like `swap`, but only for what belongs to ended transactions; the rest stays here. */
  swapEnded(): ChangeBuffers | null {
    if (!this.current.hasEnded) return null
    const full = this.swap()
    if (full?.hasOpen) full.moveOpen(this.current)
    return full
  }

  giveBack(buffers: ChangeBuffers): void {
    if (this.current.isEmpty && buffers.byteSize > BUSY_BYTES) return
    this.busy.note(this)
    buffers.clear()
    this.spare ??= buffers
  }

  /** Lets go of large empty buffers. */
  shrink(): void {
    if (this.spare !== null && this.spare.byteSize > IDLE_BYTES) this.spare = null
    if (this.current.isEmpty && this.current.byteSize > IDLE_BYTES) this.current = new ChangeBuffers(this.fields, this.oldFields)
  }
}
