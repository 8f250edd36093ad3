import { bitAt, MoonlinkError, type Column } from '@moonlink/core'
import { denseColumn } from './dense-column.ts'
import type { Leaf } from './file-schema.ts'

/** A leaf's part of some rows: an entry for each value, null and empty list (Dremel's encoding). */
export interface LeafEntries {
  /** The values that are there, without gaps: `[from, to)` of `column`, which has no nulls there. */
  readonly column: Column
  readonly from: number
  readonly to: number
  /** Entries. */
  readonly count: number
  /** Definition level of each entry; null where all have the leaf's greatest. */
  readonly definition: Uint8Array | null
  /** Repetition level of each entry; null for a leaf outside of lists: an entry a row. */
  readonly repetition: Uint8Array | null
}

const NONE = 0xffff_ffff

/** Takes rows `[from, to)` of a top-level column apart. Throws `invalid` where something required is null. */
export function shred(leaf: Leaf, column: Column, from: number, to: number): LeafEntries {
  if (leaf.steps.length > 1) return shredNested(leaf, column, from, to)
  const { validity } = column
  const present = validity === null || column.nullCount === 0 ? null : presentRows(validity, from, to)
  if (present === null || present.length === to - from) return { column, from, to, count: to - from, definition: null, repetition: null }
  if (leaf.maxDefinition === 0) throw nullInRequired(leaf)
  const definition = new Uint8Array(to - from)
  for (const row of present) definition[row - from] = 1
  return { column: denseColumn(column, present), from: 0, to: present.length, count: to - from, definition, repetition: null }
}

function presentRows(validity: Uint8Array, from: number, to: number): Uint32Array {
  const rows = new Uint32Array(to - from)
  let count = 0
  for (let row = from; row < to; row++) if ((validity[row >> 3] >> (row & 7)) & 1) rows[count++] = row
  return rows.subarray(0, count)
}

/** Entries on their way down to a leaf; `rows` are places in the column reached so far, `NONE` where a null or an empty list ended the way. */
interface Entries {
  readonly count: number
  readonly rows: Uint32Array
  readonly definition: Uint8Array
  readonly repetition: Uint8Array
}

function shredNested(leaf: Leaf, top: Column, from: number, to: number): LeafEntries {
  const length = to - from
  const rows = Uint32Array.from({ length }, (_, index) => from + index)
  let entries: Entries = { count: length, rows, definition: new Uint8Array(length), repetition: new Uint8Array(length) }
  let column = top
  let depth = 0
  for (const step of leaf.steps) {
    if (step.kind === 'optional') stepOptional(entries, column)
    else if (step.kind === 'required') checkRequired(leaf, entries, column)
    else if (step.kind === 'list') {
      entries = stepList(entries, column.offsets!, ++depth)
      column = column.children[0]
    } else column = column.children[step.index]
  }
  const values = entries.rows.filter((row) => row !== NONE)
  return {
    column: denseColumn(column, values),
    from: 0,
    to: values.length,
    count: entries.count,
    definition: values.length === entries.count ? null : entries.definition,
    repetition: leaf.maxRepetition > 0 ? entries.repetition : null,
  }
}

/** What is there is defined one level further. */
function stepOptional({ count, rows, definition }: Entries, { validity }: Column): void {
  for (let index = 0; index < count; index++) {
    const row = rows[index]
    if (row === NONE) continue
    if (validity === null || bitAt(validity, row)) definition[index]++
    else rows[index] = NONE
  }
}

function checkRequired(leaf: Leaf, { count, rows }: Entries, { validity }: Column): void {
  if (validity === null) return
  for (let index = 0; index < count; index++) if (rows[index] !== NONE && !bitAt(validity, rows[index])) throw nullInRequired(leaf)
}

/** An entry for each element: the first has its list's repetition level, the others the list's own. */
function stepList(entries: Entries, offsets: Int32Array, depth: number): Entries {
  const { count, rows, definition, repetition } = entries
  let total = 0
  for (let index = 0; index < count; index++)
    total += rows[index] === NONE ? 1 : Math.max(1, offsets[rows[index] + 1] - offsets[rows[index]])
  const next: Entries = {
    count: total,
    rows: new Uint32Array(total).fill(NONE),
    definition: new Uint8Array(total),
    repetition: new Uint8Array(total),
  }
  let at = 0
  for (let index = 0; index < count; index++) {
    const row = rows[index]
    const start = row === NONE ? 0 : offsets[row]
    const end = row === NONE ? 0 : offsets[row + 1]
    next.definition[at] = definition[index]
    next.repetition[at] = repetition[index]
    for (let element = start; element < end; element++) {
      next.rows[at] = element
      next.definition[at] = definition[index] + 1
      next.repetition[at] = element === start ? repetition[index] : depth
      at++
    }
    if (start === end) at++
  }
  return next
}

function nullInRequired(leaf: Leaf): MoonlinkError {
  const message = `field "${leaf.path.join('.')}" is required, but some of its values are null; make it optional`
  return new MoonlinkError('invalid', 'PARQUET_REQUIRED_FIELD_NULL', message, { context: { field: leaf.fieldId } })
}
