import type { FilledCells } from '@moonlink/arrow-buffer'
import { assert, conformBatch, type ChangeBatch, type Column, type ColumnBatch, type Field } from '@moonlink/core'
import type { MirrorState } from './mirror-state.ts'
import type { StoredRows } from './old-values.ts'
import type { FileSegment, MemorySegment, Segment } from './segment.ts'

/** For each new row of a batch the place of the row it replaced; a null segment for an insert, and for a row that never lives. */
export interface Predecessors {
  readonly segments: (Segment | null)[]
  readonly rows: number[]
}

/**
 * Finds the value of every cell that the source left out (unchanged TOAST): that of the row replaced, be it in memory, in a data file, or an
 * earlier row of the same batch. Reads each file once, whatever the number of cells. The batch's rows will follow each other in `tail`.
 */
export async function findUnchanged(
  state: MirrorState,
  batch: ChangeBatch,
  predecessors: Predecessors,
  tail: MemorySegment,
): Promise<FilledCells[]> {
  const fields = batch.unchanged.map(({ column }) => batch.rows.fields[column])
  const stored = await fetchFromFiles(state, fields, batch, predecessors)
  const views = new Map<MemorySegment, ColumnBatch>()
  const viewOf = (segment: MemorySegment): ColumnBatch => {
    const known = views.get(segment) ?? conformBatch(segment.buffer.view(), fields)
    views.set(segment, known)
    return known
  }
  return batch.unchanged.map(({ column, rows }, index) => {
    const sources: (Column | null)[] = []
    const sourceRows: number[] = []
    const filled = rows.filter((row) => predecessors.segments[row] !== null)
    for (const row of filled) {
      const segment = predecessors.segments[row] ?? null
      const place = predecessors.rows[row]
      assert(segment !== null, 'a row with cells left out replaces another', { row })
      if (segment.kind === 'file') {
        const found = stored.get(segment)!
        sources.push(found.columns[index])
        sourceRows.push(found.at(place))
      } else {
        sources.push(segment === tail ? null : viewOf(segment).columns[index])
        sourceRows.push(place)
      }
    }
    return { column, rows: filled, sources, sourceRows }
  })
}

async function fetchFromFiles(
  state: MirrorState,
  fields: readonly Field[],
  { unchanged }: ChangeBatch,
  predecessors: Predecessors,
): Promise<Map<FileSegment, StoredRows>> {
  const wanted = new Map<FileSegment, Set<number>>()
  for (const { rows } of unchanged) {
    for (const row of rows) {
      const segment = predecessors.segments[row]
      if (segment?.kind !== 'file') continue
      const places = wanted.get(segment)
      if (places) places.add(predecessors.rows[row])
      else wanted.set(segment, new Set([predecessors.rows[row]]))
    }
  }
  const stored = new Map<FileSegment, StoredRows>()
  await Promise.all(
    [...wanted].map(async ([segment, rows]) => {
      const positions = Uint32Array.from(rows).sort()
      stored.set(segment, await state.oldValues.fetch(state.reads, segment.file, positions, fields))
    }),
  )
  return stored
}
