import type { Lsn, TableSnapshot, TableStorage } from '@moonlink/core'
import { PositionSet, type Deaths } from '@moonlink/deletion-log'
import type { DeletesView, FileScan, MemoryScan, TablePlan } from '@moonlink/union-read'
import type { MirrorState } from './mirror-state.ts'
import { NOTHING_MOVED, type MovedDeletes } from './moved-deletes.ts'

const NO_ROWS = new Uint32Array(0)
const NO_DEATHS: Deaths = { firstSeq: 0, endSeq: 0, chunks: () => [] }

/** What to read of the live mirror at `lsn`, which must lie in its held range. Takes time in the number of segments, not of rows. */
export function planMirror(state: MirrorState, lsn: Lsn): TablePlan {
  const bases = new Map<number, Uint8Array>()
  const moved = new Map<number, MovedDeletes>()
  const files: FileScan[] = []
  const memory: MemoryScan[] = []
  for (const segment of state.segments.values()) {
    if (segment.deadFrom?.isAtOrBefore(lsn)) continue
    if (segment.kind === 'file') {
      if (segment.visibleFrom !== null && !segment.visibleFrom.isAtOrBefore(lsn)) continue
      const { path, sizeBytes, recordCount } = segment.file
      files.push({ segment: segment.id, path, sizeBytes, recordCount, hasDeletes: segment.deadCount > 0 })
      if (segment.base) bases.set(segment.id, segment.base)
      if (segment.moved.rows.length > 0) moved.set(segment.id, segment.moved)
    } else {
      const rowCount = segment.buffer.rowCountAt(lsn)
      if (rowCount > 0) memory.push({ segment: segment.id, rows: segment.buffer.view(), rowCount, hasDeletes: segment.deadCount > 0 })
    }
  }
  const deletes = deletesView(state.log.deathsAt(lsn), bases, moved)
  return { table: state.table, schema: state.shapeAt(lsn).schema, lsn, incarnation: state.incarnation, files, memory, deletes }
}

/** What to read of the retained Iceberg snapshot that is exact at `lsn`; null where there is none. */
export async function planRetained(state: MirrorState, storage: TableStorage, lsn: Lsn): Promise<TablePlan | null> {
  const retained = storage.retained().find(({ fromLsn, throughLsn }) => fromLsn <= lsn && lsn <= throughLsn)
  return retained ? planSnapshot(state, await storage.loadSnapshot(retained.snapshotId), lsn) : null
}

/** Its segment ids belong to it alone. */
function planSnapshot(state: MirrorState, snapshot: TableSnapshot, lsn: Lsn): TablePlan {
  const vectors = new Map(snapshot.vectors.map((vector) => [vector.dataFile, vector.bitmap]))
  const bases = new Map<number, Uint8Array>()
  const files = snapshot.files.map((file, index) => {
    const vector = vectors.get(file.path)
    if (vector) bases.set(index + 1, vector)
    return {
      segment: index + 1,
      path: file.path,
      sizeBytes: file.sizeBytes,
      recordCount: file.recordCount,
      hasDeletes: vector !== undefined,
    }
  })
  return {
    table: state.table,
    schema: snapshot.schema,
    lsn,
    incarnation: `${state.incarnation}@${snapshot.snapshotId}`,
    files,
    memory: [],
    deletes: deletesView(NO_DEATHS, bases, new Map()),
  }
}

function deletesView(
  { chunks, endSeq, firstSeq }: Deaths,
  bases: ReadonlyMap<number, Uint8Array>,
  moved: ReadonlyMap<number, MovedDeletes>,
): DeletesView {
  return {
    firstSeq,
    endSeq,
    chunks,
    base(segment) {
      const bitmap = bases.get(segment)
      if (bitmap === undefined) return NO_ROWS
      const set = PositionSet.fromPortable(bitmap)
      const rows = set.toArray()
      set.dispose()
      return rows
    },
    moved: (segment) => moved.get(segment) ?? NOTHING_MOVED,
  }
}
