import { ColumnBuilder, type ChangeBatch, type Column, type ColumnBatch, type Field } from '@moonlink/core'
import type { MirrorState } from './mirror-state.ts'
import type { FileSegment, MemorySegment, Segment } from './segment.ts'

/** For each new row of a batch the place of the row it replaced; a null segment for an insert. */
export interface Predecessors {
  readonly segments: (Segment | null)[]
  readonly rows: number[]
}

/**
 * Gives the batch's rows with every cell that the source left out (unchanged TOAST) taken from the row replaced: memory, a data
 * file, or an earlier row of the same batch. Reads each file once for each column.
 */
export async function fillUnchanged(
  state: MirrorState,
  batch: ChangeBatch,
  predecessors: Predecessors,
  active: MemorySegment,
  first: number,
): Promise<ColumnBatch> {
  const columns = [...batch.rows.columns]
  for (const { column, rows } of batch.unchanged) {
    columns[column] = await fillColumn(state, batch.rows, column, rows, predecessors, active, first)
  }
  return { ...batch.rows, columns }
}

async function fillColumn(
  state: MirrorState,
  rows: ColumnBatch,
  index: number,
  unchanged: Uint32Array,
  predecessors: Predecessors,
  active: MemorySegment,
  first: number,
): Promise<Column> {
  const source = rows.columns[index]
  const field = rows.fields[index]
  const stored = await fetchFromFiles(state, field, unchanged, predecessors)
  const views = new Map<MemorySegment, Column>()
  const filled = new ColumnBuilder(source.type, rows.length)
  let copied = 0
  for (const row of unchanged) {
    filled.appendRange(source, copied, row)
    copied = row + 1
    const segment = predecessors.segments[row] ?? null
    const place = predecessors.rows[row]
    if (segment === null) {
      filled.appendNull()
    } else if (segment.kind === 'file') {
      const found = stored.get(segment)!
      filled.appendRange(found.column, found.at.get(place)!, found.at.get(place)! + 1)
    } else if (segment === active && place >= first) {
      const earlier = filled.view()
      filled.appendRange(earlier, place - first, place - first + 1)
    } else {
      let view = views.get(segment)
      if (view === undefined) views.set(segment, (view = segment.buffer.view().columns[index]!))
      filled.appendRange(view, place, place + 1)
    }
  }
  filled.appendRange(source, copied, rows.length)
  return filled.view()
}

interface StoredColumn {
  readonly column: Column
  /** Row of the file → row of `column`. */
  readonly at: Map<number, number>
}

async function fetchFromFiles(
  state: MirrorState,
  field: Field,
  unchanged: Uint32Array,
  predecessors: Predecessors,
): Promise<Map<FileSegment, StoredColumn>> {
  const wanted = new Map<FileSegment, Set<number>>()
  for (const row of unchanged) {
    const segment = predecessors.segments[row]
    if (segment?.kind !== 'file') continue
    const rows = wanted.get(segment)
    if (rows) rows.add(predecessors.rows[row])
    else wanted.set(segment, new Set([predecessors.rows[row]]))
  }
  const stored = new Map<FileSegment, StoredColumn>()
  for (const [segment, rows] of wanted) {
    const positions = Uint32Array.from(rows).sort()
    const fetched = await state.storage.fetchRows(segment.file, positions, [field])
    stored.set(segment, { column: fetched.columns[0], at: new Map(Array.from(positions, (position, index) => [position, index])) })
  }
  return stored
}
