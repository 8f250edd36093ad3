import { ChangeOp, sliceBatch, type ChangeBatch, type Lsn, type TableShape } from '@moonlink/core'

/** Within the open transaction the table loses its rows. */
export interface Truncation {
  readonly isTruncation: true
  readonly openLsn?: Lsn | undefined
}

/** Within the open transaction the table's rows get another shape. */
export interface Reshape {
  readonly isReshape: true
  readonly shape: TableShape
  readonly openLsn?: Lsn | undefined
}

/** Within the open transaction the table's rows change in a way that the source does not send. */
export interface Recopy {
  readonly isRecopy: true
  readonly code: string
  readonly reason: string
  readonly openLsn?: Lsn | undefined
}

/** What may have to wait until it is known whether it counts. */
export type HeldChange = ChangeBatch | Truncation | Reshape | Recopy

export function isRecopy(change: HeldChange): change is Recopy {
  return 'isRecopy' in change
}

export function isReshape(change: HeldChange): change is Reshape {
  return 'isReshape' in change
}

export function isBatch(change: HeldChange): change is ChangeBatch {
  return 'marks' in change
}

/** A batch with memory of its own, so that it outlives the source's. */
export function copyBatch(batch: ChangeBatch): ChangeBatch {
  return {
    table: batch.table,
    ops: batch.ops.slice(),
    rows: sliceBatch(batch.rows, 0, batch.rows.length),
    old: sliceBatch(batch.old, 0, batch.old.length),
    unchanged: batch.unchanged.map(({ column, rows }) => ({ column, rows: rows.slice() })),
    marks: {
      endLsns: [...batch.marks.endLsns],
      changeCounts: [...batch.marks.changeCounts],
      commitTimesMs: [...batch.marks.commitTimesMs],
    },
    openLsn: batch.openLsn,
  }
}

/**
 * The batch without the transactions that end at or before `lsn`; null where nothing is left. Changes after the last mark stay:
 * where their transaction ends is not known yet.
 */
export function dropThrough(batch: ChangeBatch, lsn: Lsn): ChangeBatch | null {
  const { endLsns, changeCounts, commitTimesMs } = batch.marks
  let dropped = 0
  while (dropped < endLsns.length && endLsns[dropped] <= lsn) dropped++
  if (dropped === 0) return batch
  const from = changeCounts[dropped - 1]
  if (from === batch.ops.length && dropped === endLsns.length) return null
  const { rows, old } = countTaken(batch.ops, from)
  return {
    table: batch.table,
    openLsn: batch.openLsn,
    ops: batch.ops.subarray(from),
    rows: sliceBatch(batch.rows, rows, batch.rows.length),
    old: sliceBatch(batch.old, old, batch.old.length),
    unchanged: batch.unchanged
      .map((cells) => ({ column: cells.column, rows: cells.rows.filter((row) => row >= rows).map((row) => row - rows) }))
      .filter((cells) => cells.rows.length > 0),
    marks: {
      endLsns: endLsns.slice(dropped),
      changeCounts: changeCounts.slice(dropped).map((count) => count - from),
      commitTimesMs: commitTimesMs.slice(dropped),
    },
  }
}

/** The part of the batch that is of transactions which end at or before `lsn`; null where there is none. */
export function takeThrough(batch: ChangeBatch, lsn: Lsn): ChangeBatch | null {
  const { endLsns, changeCounts, commitTimesMs } = batch.marks
  let taken = 0
  while (taken < endLsns.length && endLsns[taken] <= lsn) taken++
  if (taken === 0) return null
  const count = changeCounts[taken - 1]
  const { rows, old } = countTaken(batch.ops, count)
  return {
    table: batch.table,
    ops: batch.ops.subarray(0, count),
    rows: sliceBatch(batch.rows, 0, rows),
    old: sliceBatch(batch.old, 0, old),
    unchanged: batch.unchanged
      .map((cells) => ({ column: cells.column, rows: cells.rows.filter((row) => row < rows) }))
      .filter((cells) => cells.rows.length > 0),
    marks: {
      endLsns: endLsns.slice(0, taken),
      changeCounts: changeCounts.slice(0, taken),
      commitTimesMs: commitTimesMs.slice(0, taken),
    },
  }
}

/** The batch's whole transactions, and what it has of one that is still open; null where it has none. */
export function splitOpen(batch: ChangeBatch): { readonly closed: ChangeBatch | null; readonly open: ChangeBatch | null } {
  const { changeCounts, endLsns } = batch.marks
  if (endLsns.length === 0) return { closed: null, open: batch }
  if (changeCounts.at(-1) === batch.ops.length) return { closed: batch, open: null }
  const last = endLsns.at(-1)!
  return { closed: takeThrough(batch, last), open: dropThrough(batch, last) }
}

/** How many of `rows` and of `old` the first `count` changes take. */
function countTaken(ops: Uint8Array, count: number): { rows: number; old: number } {
  let rows = 0
  let old = 0
  for (let change = 0; change < count; change++) {
    if (ops[change] !== ChangeOp.delete) rows++
    if (ops[change] === ChangeOp.updateOld || ops[change] === ChangeOp.delete) old++
  }
  return { rows, old }
}

/** Bytes of the batch's changes. */
export function batchBytes(batch: ChangeBatch): number {
  let bytes = batch.ops.byteLength
  for (const part of [batch.rows, batch.old])
    for (const column of part.columns) bytes += column.values.byteLength + (column.offsets?.byteLength ?? 0)
  return bytes
}
