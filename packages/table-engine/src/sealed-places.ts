import { NO_ROW_ID } from '@moonlink/arrow-buffer'
import type { ColumnBatch } from '@moonlink/core'
import { sortByHash } from '@moonlink/pk-index'
import { rowsEqual } from './rows-equal.ts'
import type { SealedRequests } from './sealed-requests.ts'
import type { FileSegment } from './segment.ts'

const NONE = -1
const ALL = 0x7fff_ffff
/** Candidates asked of an index at a time where only some are needed. */
const CANDIDATES_PER_CALL = 64

/**
 * Places in files of requested keys, alive when they were looked up. Requests for one key are a group that shares its places: each takes the
 * next one that is still alive, so a million deletes of equal rows pass over each place once.
 */
export class SealedPlaces {
  /** What `take` found. */
  segment: FileSegment | null = null
  row = 0
  /** Where the change hands it on: its `_row_id`; `NO_ROW_ID` where Iceberg has not given it one yet. */
  rowId = NO_ROW_ID
  private readonly requests: SealedRequests
  /** A group with at least so many places is doubtful. */
  private readonly doubtfulCount: number
  /** Change → group, or -1. */
  private readonly groupOf: Int32Array
  private groupCount = 0
  /** By group: one of its requests; how many it has; whether one hands a `_row_id` on; first and last of its places, a list; how many those are, and how many are enough. */
  private readonly leaders: Uint32Array
  private readonly counts: Int32Array
  private readonly handsOn: Uint8Array
  private readonly first: Int32Array
  private readonly last: Int32Array
  private readonly found: Int32Array
  private readonly enough: Int32Array
  /** By place: where it is, its `_row_id` where that may be handed on, and the next place of its group. */
  private segments: FileSegment[] = []
  private rows: number[] = []
  private rowIds: number[] = []
  private next: number[] = []

  /** `mayBeMissing`: a single place may be of another key with the same hash. */
  constructor(requests: SealedRequests, changeCount: number, keyless: boolean, exact: boolean, mayBeMissing: boolean) {
    this.doubtfulCount = mayBeMissing ? 1 : 2
    const { length } = requests
    this.requests = requests
    this.groupOf = new Int32Array(changeCount).fill(NONE)
    this.leaders = new Uint32Array(length)
    this.counts = new Int32Array(length)
    this.handsOn = new Uint8Array(length)
    this.first = new Int32Array(length).fill(NONE)
    this.last = new Int32Array(length).fill(NONE)
    this.found = new Int32Array(length)
    this.enough = new Int32Array(length)
    this.group(keyless, exact)
  }

  /** Finds a live place of the change's key; false where there is none. */
  take(change: number): boolean {
    const group = this.groupOf[change]
    if (group === NONE) return false
    let at = this.first[group]
    while (at !== NONE && this.segments[at].isDead(this.rows[at])) at = this.next[at]
    this.first[group] = at
    if (at === NONE) return false
    this.segment = this.segments[at]
    this.row = this.rows[at]
    this.rowId = this.rowIds[at]
    return true
  }

  /** Reads what `take` gives of `_row_id`s, so that whoever takes reads nothing. */
  readRowIds(): void {
    for (let group = 0; group < this.groupCount; group++) {
      if (this.handsOn[group] === 0) continue
      for (let at = this.first[group]; at !== NONE; at = this.next[at]) this.rowIds[at] = this.segments[at].rowIdAt(this.rows[at])
    }
  }

  /** Adds what a file has of the keys that have not enough places yet. */
  search(file: FileSegment): void {
    const { low, high } = this.requests.hashes
    const rows: number[] = []
    for (let group = 0; group < this.groupCount; group++) {
      const missing = this.enough[group] - this.found[group]
      if (missing <= 0) continue
      const request = this.leaders[group]
      if (this.enough[group] === ALL) this.searchAll(group, file, low[request], high[request], rows)
      else this.searchSome(group, file, low[request], high[request], rows)
    }
  }

  /** The places of doubtful groups, by file. */
  doubtful(): ReadonlyMap<FileSegment, ReadonlySet<number>> {
    const places = new Map<FileSegment, Set<number>>()
    for (let group = 0; group < this.groupCount; group++) {
      if (this.found[group] < this.doubtfulCount) continue
      for (let at = this.first[group]; at !== NONE; at = this.next[at]) {
        const rows = places.get(this.segments[at])
        if (rows) rows.add(this.rows[at])
        else places.set(this.segments[at], new Set([this.rows[at]]))
      }
    }
    return places
  }

  /** Keeps, of doubtful groups' places, those that pass. True where some did not, and their group may lack places now. */
  keep(passes: (keys: ColumnBatch, keyRow: number, segment: FileSegment, row: number) => boolean): boolean {
    let lacks = false
    for (let group = 0; group < this.groupCount; group++) {
      const before = this.found[group]
      if (before < this.doubtfulCount) continue
      const request = this.leaders[group]
      let at = this.first[group]
      this.forget(group)
      for (let following = NONE; at !== NONE; at = following) {
        following = this.next[at]
        const isKept = passes(this.requests.keysOf(request), this.requests.keyRowOf(request), this.segments[at], this.rows[at])
        if (isKept) this.link(group, at)
      }
      if (this.found[group] < before && this.found[group] < this.counts[group] && this.enough[group] !== ALL) lacks = true
    }
    return lacks
  }

  /** Forgets all places, to look for every one there is. */
  startOver(): void {
    this.segments = []
    this.rows = []
    this.rowIds = []
    this.next = []
    for (let group = 0; group < this.groupCount; group++) this.forget(group)
    this.enough.fill(ALL)
  }

  /** Groups in the order in which sealed indexes are fastest. */
  private group(keyless: boolean, exact: boolean): void {
    const { requests } = this
    const all = new Uint32Array(requests.length)
    for (let index = 0; index < all.length; index++) all[index] = index
    for (const request of sortByHash(requests.hashes, all)) {
      let group = this.groupLike(request, exact)
      if (group === NONE) {
        group = this.groupCount++
        this.leaders[group] = request
      }
      this.counts[group]++
      if (requests.needsRowId(request)) this.handsOn[group] = 1
      // A key has one live row. Of equal rows each request takes one; a place more tells whether the hash decides.
      if (keyless) this.enough[group] = this.counts[group] + 1
      else this.enough[group] = exact ? 1 : ALL
      this.groupOf[requests.changes[request]] = group
    }
  }

  /** The group with the request's key: one of the last, since requests come in the order of `high`. */
  private groupLike(request: number, exact: boolean): number {
    const { requests, leaders } = this
    const { low, high } = requests.hashes
    for (let group = this.groupCount - 1; group >= 0 && high[leaders[group]] === high[request]; group--) {
      const other = leaders[group]
      if (low[other] !== low[request]) continue
      if (exact || rowsEqual(requests.keysOf(other), requests.keyRowOf(other), requests.keysOf(request), requests.keyRowOf(request))) {
        return group
      }
    }
    return NONE
  }

  private searchAll(group: number, file: FileSegment, low: number, high: number, rows: number[]): void {
    rows.length = 0
    file.index!.candidates(low, high, rows)
    for (const row of rows) if (!file.isDead(row)) this.add(group, file, row)
  }

  private searchSome(group: number, file: FileSegment, low: number, high: number, rows: number[]): void {
    const limit = Math.max(CANDIDATES_PER_CALL, this.enough[group] - this.found[group])
    let skip = file.deadCandidates(low, high)
    for (let isFront = true; ; skip += limit) {
      rows.length = 0
      file.index!.candidates(low, high, rows, limit, skip)
      let dead = 0
      for (const row of rows) {
        if (!file.isDead(row)) this.add(group, file, row)
        if (isFront && file.isDead(row)) dead++
        else isFront = false
      }
      // What comes first dies first, so dead candidates gather at the front; they are not looked at again.
      if (dead >= CANDIDATES_PER_CALL) file.noteDeadCandidates(low, high, skip + dead)
      if (rows.length < limit || this.found[group] >= this.enough[group]) return
    }
  }

  private add(group: number, file: FileSegment, row: number): void {
    this.segments.push(file)
    this.rows.push(row)
    this.rowIds.push(NO_ROW_ID)
    this.next.push(NONE)
    this.link(group, this.rows.length - 1)
  }

  private link(group: number, at: number): void {
    this.next[at] = NONE
    if (this.first[group] === NONE) this.first[group] = at
    else this.next[this.last[group]] = at
    this.last[group] = at
    this.found[group]++
  }

  private forget(group: number): void {
    this.first[group] = this.last[group] = NONE
    this.found[group] = 0
  }
}
