import { cellsEqual, selectFields, type ColumnBatch } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'
import type { MirrorState } from './mirror-state.ts'
import type { FileSegment } from './segment.ts'

/** Candidate places in files for the keys of some changes: entry i of `changes` may be at `segments[i]`, `rows[i]`. */
export interface SealedPlaces {
  /** Change index → index of its first candidate in `segments` and `rows`, or -1. */
  readonly firstOf: Int32Array
  /** Candidate → the next one of the same change, or -1. */
  readonly next: number[]
  readonly segments: FileSegment[]
  readonly rows: number[]
}

/** One key to look for in the files: `hashes` at `hashRow`; the key's cells are `keys` at `hashRow`. */
export interface SealedRequest {
  readonly change: number
  readonly hashes: KeyHashes
  readonly hashRow: number
  readonly keys: ColumnBatch
}

const NONE = -1

/**
 * Finds the live places in files of each requested key. Where hashes do not decide (keys longer than 8 bytes) and several live
 * candidates remain, reads the candidates' keys and compares.
 */
export async function lookUpSealed(state: MirrorState, requests: readonly SealedRequest[], changeCount: number): Promise<SealedPlaces> {
  const places: SealedPlaces = { firstOf: new Int32Array(changeCount).fill(NONE), next: [], segments: [], rows: [] }
  const files = [...state.files()].filter((segment) => segment.index !== null && segment.deadFrom === null)
  const found: number[] = []
  for (const segment of files) {
    for (const request of requests) {
      found.length = 0
      segment.index!.candidates(request.hashes.low[request.hashRow], request.hashes.high[request.hashRow], found)
      for (const row of found) if (!segment.isDead(row)) addPlace(places, request.change, segment, row)
    }
  }
  if (!state.identity.hasher.exact) await dropCollisions(state, requests, places)
  return places
}

function addPlace(places: SealedPlaces, change: number, segment: FileSegment, row: number): void {
  places.next.push(places.firstOf[change])
  places.firstOf[change] = places.segments.length
  places.segments.push(segment)
  places.rows.push(row)
}

/** A single live candidate must be the row, since the source only names rows that exist; several are compared. */
async function dropCollisions(state: MirrorState, requests: readonly SealedRequest[], places: SealedPlaces): Promise<void> {
  for (const request of requests) {
    const first = places.firstOf[request.change]
    if (first === NONE || places.next[first] === NONE) continue
    let kept = NONE
    for (let at = first; at !== NONE;) {
      const following = places.next[at]
      if (await keyMatches(state, request, places.segments[at], places.rows[at])) {
        places.next[at] = kept
        kept = at
      }
      at = following
    }
    places.firstOf[request.change] = kept
  }
}

async function keyMatches(state: MirrorState, request: SealedRequest, segment: FileSegment, row: number): Promise<boolean> {
  const { fields, fieldIds } = state.identity
  const stored = await state.storage.fetchRows(segment.file, Uint32Array.of(row), fields)
  return rowsEqual(selectFields(request.keys, fieldIds), request.hashRow, selectFields(stored, fieldIds), 0)
}

export function rowsEqual(a: ColumnBatch, rowA: number, b: ColumnBatch, rowB: number): boolean {
  for (let index = 0; index < a.columns.length; index++) {
    if (!cellsEqual(a.columns[index], rowA, b.columns[index], rowB)) return false
  }
  return true
}
