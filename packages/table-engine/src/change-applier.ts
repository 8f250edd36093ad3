import { NO_ROW_ID } from '@moonlink/arrow-buffer'
import { assert, ChangeOp, formatTableName, MoonlinkError, type ChangeBatch, type ColumnBatch } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import { findUnchanged, type Predecessors } from './fill-unchanged.ts'
import { MemoryLookup } from './memory-lookup.ts'
import type { MirrorState } from './mirror-state.ts'
import type { SealedPlaces } from './sealed-places.ts'
import type { MemorySegment, Segment } from './segment.ts'

/** Keys of a batch's new rows, or of its old ones, and their hashes. */
export interface BatchKeys {
  readonly keys: ColumnBatch
  readonly hashes: KeyHashes
}

/** Of a batch whose rows the mirror has only in part: a change of a row that it does not have is one of nothing, or adds it. */
export interface Leniency {
  /** Set where a row could not be added, since cells of it were left out (unchanged TOAST). */
  lacksRows: boolean
}

/** Walks the changes of one batch in order. */
export class ChangeApplier {
  private readonly state: MirrorState
  private readonly batch: ChangeBatch
  private readonly fresh: BatchKeys
  private readonly old: BatchKeys
  private readonly sealed: SealedPlaces
  private readonly first: number
  private readonly segment: MemorySegment
  private readonly memory: MemoryLookup
  private readonly predecessors: Predecessors | null
  private readonly leniency: Leniency | null
  /** Rows of the batch with cells left out, where some may never be found. */
  private readonly incomplete: ReadonlySet<number>
  private victim: Segment | null = null
  private victimRow = 0
  /** Where the victim is in a file and another row takes its place. */
  private victimRowId = NO_ROW_ID
  /** Rows before each mark, where those are appended at the end. */
  private deferredMarks: number[] | null = null

  constructor(state: MirrorState, batch: ChangeBatch, fresh: BatchKeys, old: BatchKeys, sealed: SealedPlaces, leniency: Leniency | null) {
    this.state = state
    this.leniency = leniency
    this.incomplete = new Set(leniency === null ? [] : batch.unchanged.flatMap(({ rows }) => [...rows]))
    this.batch = batch
    this.fresh = fresh
    this.old = old
    this.sealed = sealed
    this.segment = state.tail
    this.first = state.tail.buffer.rowCount
    this.predecessors = batch.unchanged.length > 0 ? { segments: [], rows: [] } : null
    // With cells to fill in, the batch's rows are appended at the end.
    this.memory = new MemoryLookup(state, this.predecessors ? { segment: this.segment, first: this.first, keys: fresh.keys } : null)
  }

  async run(): Promise<void> {
    // With cells to fill in, rows are appended once their predecessors are known; their numbers are known before.
    if (this.predecessors === null) this.segment.buffer.append(this.batch.rows)
    this.walk()
    if (this.predecessors !== null) {
      const filled = await findUnchanged(this.state, this.batch, this.predecessors, this.segment)
      this.segment.buffer.appendFilled(this.batch.rows, filled)
      this.markRows()
    }
  }

  private walk(): void {
    const { ops, marks } = this.batch
    let row = 0
    let old = 0
    let mark = 0
    while (mark < marks.changeCounts.length && marks.changeCounts[mark] === 0) this.mark(mark++, 0)
    for (let change = 0; change < ops.length; change++) {
      const op = ops[change]
      if (op === ChangeOp.insert) {
        this.insert(row++)
      } else if (op === ChangeOp.delete) {
        this.kill(change, this.old, old++)
      } else {
        if (op === ChangeOp.updateOld) this.kill(change, this.old, old++)
        else this.kill(change, this.fresh, row)
        this.replaceWith(row++)
      }
      while (mark < marks.changeCounts.length && marks.changeCounts[mark] === change + 1) this.mark(mark++, row)
    }
  }

  private mark(index: number, rows: number): void {
    const endLsn = this.batch.marks.endLsns[index]
    this.state.endTransaction(endLsn)
    if (this.predecessors === null) this.segment.buffer.mark(endLsn, this.first + rows)
    else (this.deferredMarks ??= []).push(rows)
  }

  private markRows(): void {
    const { endLsns } = this.batch.marks
    this.deferredMarks?.forEach((rows, index) => this.segment.buffer.mark(endLsns[index], this.first + rows))
  }

  private insert(row: number): void {
    const { hashes } = this.fresh
    this.segment.index.insert(hashes.low[row], hashes.high[row], this.segment.id, this.first + row)
    this.state.liveRows++
    if (this.predecessors) {
      this.predecessors.segments[row] = null
      this.predecessors.rows[row] = 0
    }
  }

  /** Inserts the row that replaces the one just killed, which hands on its `_row_id`. */
  private replaceWith(row: number): void {
    const { state, victim, victimRow } = this
    if (victim === null && this.incomplete.has(row)) return this.leaveOut(row)
    this.insert(row)
    if (this.predecessors) {
      this.predecessors.segments[row] = victim
      this.predecessors.rows[row] = victimRow
    }
    const place = this.first + row
    if (victim === null) return
    const rowId = victim.kind === 'file' ? this.victimRowId : victim.buffer.rowIdAt(victimRow)
    if (rowId >= 0) return this.segment.buffer.setRowId(place, rowId)
    // A row that only this generation has keeps none.
    const pending = state.flushing?.has(victim)
      ? state.flushing.numberOf(victim, victimRow)
      : victim.kind === 'memory'
        ? victim.pendingRowIds.get(victimRow)
        : undefined
    if (pending !== undefined) this.segment.pendingRowIds.set(place, pending)
  }

  /** A row whose cells are not all known never lives. */
  private leaveOut(row: number): void {
    this.leniency!.lacksRows = true
    this.state.log.append(this.segment.id, this.first + row)
    this.segment.kill(this.first + row)
    if (this.predecessors) this.predecessors.segments[row] = null
  }

  /** Finds the live row with that key and records its death. */
  private kill(change: number, { hashes, keys }: BatchKeys, keyRow: number): void {
    const low = hashes.low[keyRow]
    const high = hashes.high[keyRow]
    const { state } = this
    if (!this.killInMemory(low, high, keys, keyRow) && !this.killInFiles(change)) {
      this.victim = null
      if (this.leniency !== null) return
      const table = formatTableName(state.table)
      throw new MoonlinkError(
        'corrupt',
        'DIVERGED',
        `${table}: the source changed a row that the mirror does not have; drop and add the table to copy it again`,
        {
          context: { table, change },
        },
      )
    }
    state.log.append(this.victim!.id, this.victimRow)
    this.victim!.kill(this.victimRow)
    state.liveRows--
  }

  private killInMemory(low: number, high: number, keys: ColumnBatch, keyRow: number): boolean {
    const { memory } = this
    if (!memory.find(low, high, keys, keyRow)) return false
    const segment = memory.segment!
    assert(segment.index.remove(low, high, segment.id, memory.row), 'an index entry that was found can be removed')
    this.victim = segment
    this.victimRow = memory.row
    return true
  }

  private killInFiles(change: number): boolean {
    if (!this.sealed.take(change)) return false
    this.victim = this.sealed.segment
    this.victimRow = this.sealed.row
    this.victimRowId = this.sealed.rowId
    this.state.fileDeletes++
    return true
  }
}
