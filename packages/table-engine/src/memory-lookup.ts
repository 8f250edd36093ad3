import { PlaceBuffer, type ColumnBatch } from '@moonlink/core'
import { keysOf, type Identity } from './identity.ts'
import type { MirrorState } from './mirror-state.ts'
import { rowsEqual } from './rows-equal.ts'
import type { MemorySegment } from './segment.ts'

/** Rows that belong to a segment from `first` on but are not in its buffer yet; their keys are here. */
export interface UnsentRows {
  readonly segment: MemorySegment
  readonly first: number
  readonly keys: ColumnBatch
}

/** Finds live rows in memory by key. For the time of one batch: rows appended to a buffer after the first look at it are not seen. */
export class MemoryLookup {
  /** What `find` found. */
  segment: MemorySegment | null = null
  row = 0
  private readonly memory: readonly MemorySegment[]
  private readonly exact: boolean
  private readonly identity: Identity
  private readonly unsent: UnsentRows | null
  private readonly candidates = new PlaceBuffer(8)
  private readonly keysOf = new Map<MemorySegment, ColumnBatch>()

  constructor(state: MirrorState, unsent: UnsentRows | null) {
    this.memory = state.liveMemory()
    this.exact = state.identity.hasher.exact
    this.identity = state.identity
    this.unsent = unsent
  }

  /** A live row with that key, the newest of equal ones. */
  find(low: number, high: number, keys: ColumnBatch, keyRow: number): boolean {
    for (const segment of this.memory) {
      // Of many equal rows the first will do; only where its key is another one, all are looked at.
      for (let limit = 1; ; limit = Infinity) {
        this.candidates.clear()
        const count = segment.index.candidates(low, high, this.candidates, limit)
        for (let at = 0; at < count; at++) {
          const row = this.candidates.rows[at]
          if (!this.exact && !this.isKey(segment, row, keys, keyRow)) continue
          this.segment = segment
          this.row = row
          return true
        }
        if (count < limit) break
      }
    }
    return false
  }

  private isKey(segment: MemorySegment, row: number, keys: ColumnBatch, keyRow: number): boolean {
    const { unsent } = this
    if (unsent !== null && segment === unsent.segment && row >= unsent.first)
      return rowsEqual(keys, keyRow, unsent.keys, row - unsent.first)
    let known = this.keysOf.get(segment)
    if (known === undefined) this.keysOf.set(segment, (known = keysOf(this.identity, segment.buffer.view())))
    return rowsEqual(keys, keyRow, known, row)
  }
}
