import { selectFields, type ColumnBatch } from '@moonlink/core'
import type { MirrorState } from './mirror-state.ts'
import { rowsEqual } from './rows-equal.ts'
import { SealedPlaces } from './sealed-places.ts'
import type { SealedRequests } from './sealed-requests.ts'
import type { FileSegment } from './segment.ts'

/**
 * Finds live places in files of each requested key: for a table with a key every one there is (where hashes decide, the first), for one
 * without as many as there are requests for that row. Takes time in proportion to keys × files, at some tens of nanoseconds each, and to what
 * is found; it does not matter how many rows are equal. Of those, the first in the order of files and rows are given.
 *
 * All that a batch needs of local indexes is read here, before anything of it is applied, so that what can't be read for a while is read again: an error amid the changes
 * would leave half of them.
 */
export function lookUpSealed(
  state: MirrorState,
  requests: SealedRequests,
  changeCount: number,
  mayBeMissing = false,
): Promise<SealedPlaces> {
  return state.reads.patiently(() => state.mender.with(state, () => lookUp(state, requests, changeCount, mayBeMissing)))
}

async function lookUp(state: MirrorState, requests: SealedRequests, changeCount: number, mayBeMissing: boolean): Promise<SealedPlaces> {
  const places = await find(state, requests, changeCount, mayBeMissing)
  places.readRowIds()
  return places
}

async function find(state: MirrorState, requests: SealedRequests, changeCount: number, mayBeMissing: boolean): Promise<SealedPlaces> {
  const { keyless, hasher } = state.identity
  const places = new SealedPlaces(requests, changeCount, keyless, hasher.exact, mayBeMissing)
  const files = [...state.files()].filter((segment) => segment.index !== null && segment.deadFrom === null)
  // Rows changed lately are likely to change again, so the newest file comes first.
  if (!keyless) files.reverse()
  for (const file of files) places.search(file)
  if (hasher.exact || !(await dropCollisions(state, places))) return places
  places.startOver()
  for (const file of files) places.search(file)
  await dropCollisions(state, places)
  return places
}

/**
 * Drops places whose hash is that of the key but whose key is another. A single live candidate must be the row where the mirror has every row that the
 * source names; others are read, file by file, and compared. True where more places should be looked for.
 */
async function dropCollisions(state: MirrorState, places: SealedPlaces): Promise<boolean> {
  const doubtful = places.doubtful()
  if (doubtful.size === 0) return false
  const { fields, fieldIds } = state.identity
  const stored = new Map<FileSegment, { columns: ColumnBatch; at: ReadonlyMap<number, number> }>()
  for (const [segment, rows] of doubtful) {
    const positions = Uint32Array.from(rows).sort()
    const fetched = await state.storage.fetchRows(segment.file, positions, fields)
    const at = new Map(Array.from(positions, (position, index) => [position, index]))
    stored.set(segment, { columns: selectFields(fetched, fieldIds), at })
  }
  return places.keep((keys, keyRow, segment, row) => {
    const { columns, at } = stored.get(segment)!
    return rowsEqual(keys, keyRow, columns, at.get(row)!)
  })
}
