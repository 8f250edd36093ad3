import { NO_ROW_ID } from '@moonlink/arrow-buffer'
import { assert, ChangeOp, formatTableName, MoonlinkError, selectFields, type ChangeBatch, type ColumnBatch } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import { findUnchanged, type Predecessors } from './fill-unchanged.ts'
import type { MirrorState } from './mirror-state.ts'
import { MemoryLookup } from './memory-lookup.ts'
import { lookUpSealed } from './sealed-lookup.ts'
import type { SealedPlaces } from './sealed-places.ts'
import { SealedRequests } from './sealed-requests.ts'
import type { MemorySegment, Segment } from './segment.ts'

/** Of a batch whose rows the mirror has only in part: a change of a row that it does not have is one of nothing, or adds it. */
export interface Leniency {
  /** Set where a row could not be added, since cells of it were left out (unchanged TOAST). */
  lacksRows: boolean
}

/**
 * Applies one batch to the mirror: new rows to the growing segment, their keys to its index, replaced and deleted rows to the
 * deletion log, commit marks to both. Changes take effect in order. Runs under the mirror's lock.
 *
 * Throws `corrupt`/`DIVERGED` where a change names a row that the mirror does not have and there is no leniency; nothing of the batch may be used then.
 */
export async function applyBatch(state: MirrorState, batch: ChangeBatch, leniency: Leniency | null = null): Promise<void> {
  const { fieldIds, hasher } = state.identity
  assert(
    batch.unchanged.every(({ column }) => !fieldIds.includes(batch.rows.fields[column].id)),
    'the source sends every cell that identifies a row',
  )
  const newKeys = selectFields(batch.rows, fieldIds)
  const oldKeys = batch.old.length > 0 ? selectFields(batch.old, fieldIds) : batch.old
  const newHashes = state.appendOnly ? null : hasher.hash(newKeys, 0, batch.rows.length)
  if (newHashes !== null && isInsertsOnly(batch)) return appendInserts(state, batch, newHashes)
  assert(newHashes !== null || isInsertsOnly(batch), 'an append-only table only gets inserts')
  if (newHashes === null) return appendInserts(state, batch, null)
  const oldHashes = hasher.hash(oldKeys, 0, oldKeys.length)
  const requests = sealedRequests(state, batch, newHashes, newKeys, oldHashes, oldKeys)
  const sealed = await lookUpSealed(state, requests, batch.ops.length, leniency !== null)
  await new ChangeApplier(state, batch, newHashes, newKeys, oldHashes, oldKeys, sealed, leniency).run()
}

function isInsertsOnly(batch: ChangeBatch): boolean {
  return batch.rows.length === batch.ops.length && batch.ops.every((op) => op === ChangeOp.insert)
}

function appendInserts(state: MirrorState, batch: ChangeBatch, hashes: KeyHashes | null): void {
  const { tail } = state
  const first = tail.buffer.append(batch.rows)
  if (hashes) tail.index.insertBatch(hashes, 0, batch.rows.length, tail.id, first)
  state.liveRows += batch.rows.length
  const { endLsns, changeCounts } = batch.marks
  for (let index = 0; index < endLsns.length; index++) tail.buffer.mark(endLsns[index], first + changeCounts[index])
  // Earlier batches may have brought the beginning of the transaction that ends first here.
  if (endLsns.length > 0) state.endTransaction(endLsns[0])
  noteMarks(state, batch)
}

/** Bookkeeping that every batch needs, whatever its changes. */
function noteMarks(state: MirrorState, batch: ChangeBatch): void {
  const { endLsns, changeCounts, commitTimesMs } = batch.marks
  const last = endLsns.length - 1
  if (last >= 0) {
    state.firstUncommittedLsn ??= endLsns[0]
    state.lastMarkLsn = endLsns[last]!
    state.lastCommitTimeMs = commitTimesMs[last]!
    state.openChanges = batch.ops.length - changeCounts[last]
  } else state.openChanges += batch.ops.length
}

/** Keys whose rows may be in files. */
function sealedRequests(
  state: MirrorState,
  batch: ChangeBatch,
  newHashes: KeyHashes,
  newKeys: ColumnBatch,
  oldHashes: KeyHashes,
  oldKeys: ColumnBatch,
): SealedRequests {
  const requests = new SealedRequests(batch.ops.length, newKeys, oldKeys)
  const memory = new MemoryLookup(state, null)
  const { keyless } = state.identity
  let row = 0
  let old = 0
  for (let change = 0; change < batch.ops.length; change++) {
    const op = batch.ops[change]
    const byOld = op === ChangeOp.updateOld || op === ChangeOp.delete
    if (byOld || op === ChangeOp.update) {
      const hashes = byOld ? oldHashes : newHashes
      const keyRow = byOld ? old : row
      // A key that is in memory now is in no file. Of equal rows without a key, any may be.
      const inMemory = !keyless && memory.find(hashes.low[keyRow], hashes.high[keyRow], byOld ? oldKeys : newKeys, keyRow)
      if (!inMemory) requests.push(change, hashes, keyRow, byOld, op !== ChangeOp.delete)
    }
    if (op !== ChangeOp.delete) row++
    if (byOld) old++
  }
  return requests
}

/** Walks the changes of one batch in order. */
class ChangeApplier {
  private readonly state: MirrorState
  private readonly batch: ChangeBatch
  private readonly newHashes: KeyHashes
  private readonly newKeys: ColumnBatch
  private readonly oldHashes: KeyHashes
  private readonly oldKeys: ColumnBatch
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

  constructor(
    state: MirrorState,
    batch: ChangeBatch,
    newHashes: KeyHashes,
    newKeys: ColumnBatch,
    oldHashes: KeyHashes,
    oldKeys: ColumnBatch,
    sealed: SealedPlaces,
    leniency: Leniency | null,
  ) {
    this.state = state
    this.leniency = leniency
    this.incomplete = new Set(leniency === null ? [] : batch.unchanged.flatMap(({ rows }) => [...rows]))
    this.batch = batch
    this.newHashes = newHashes
    this.newKeys = newKeys
    this.oldHashes = oldHashes
    this.oldKeys = oldKeys
    this.sealed = sealed
    this.segment = state.tail
    this.first = state.tail.buffer.rowCount
    this.predecessors = batch.unchanged.length > 0 ? { segments: [], rows: [] } : null
    // With cells to fill in, the batch's rows are appended at the end.
    this.memory = new MemoryLookup(state, this.predecessors ? { segment: this.segment, first: this.first, keys: newKeys } : null)
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
    noteMarks(this.state, this.batch)
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
        this.kill(change, this.oldHashes, this.oldKeys, old++)
      } else {
        if (op === ChangeOp.updateOld) this.kill(change, this.oldHashes, this.oldKeys, old++)
        else this.kill(change, this.newHashes, this.newKeys, row)
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

  private deferredMarks: number[] | null = null

  private markRows(): void {
    const { endLsns } = this.batch.marks
    this.deferredMarks?.forEach((rows, index) => this.segment.buffer.mark(endLsns[index], this.first + rows))
  }

  private insert(row: number): void {
    this.segment.index.insert(this.newHashes.low[row], this.newHashes.high[row], this.segment.id, this.first + row)
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
  private kill(change: number, hashes: KeyHashes, keys: ColumnBatch, keyRow: number): void {
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
