import type { ColumnBatch } from '@moonlink/core'
import type { KeyHashes } from '@moonlink/pk-index'

/** Keys to look for in files: one request for each change that may replace or delete a row there. Parallel arrays, by request. */
export class SealedRequests {
  readonly hashes: KeyHashes
  /** The change that the request is for. */
  readonly changes: Uint32Array
  private readonly keyRows: Uint32Array
  private readonly byOld: Uint8Array
  private readonly handsOn: Uint8Array
  private readonly newKeys: ColumnBatch
  private readonly oldKeys: ColumnBatch

  constructor(capacity: number, newKeys: ColumnBatch, oldKeys: ColumnBatch) {
    this.hashes = { low: new Uint32Array(capacity), high: new Uint32Array(capacity), length: 0 }
    this.changes = new Uint32Array(capacity)
    this.keyRows = new Uint32Array(capacity)
    this.byOld = new Uint8Array(capacity)
    this.handsOn = new Uint8Array(capacity)
    this.newKeys = newKeys
    this.oldKeys = oldKeys
  }

  get length(): number {
    return this.hashes.length
  }

  /** The key is row `keyRow` of the old keys or of the new ones; `hashes` are theirs. `handsOn`: another row replaces the one found, and takes over its `_row_id`. */
  push(change: number, hashes: KeyHashes, keyRow: number, byOld: boolean, handsOn: boolean): void {
    const at = this.hashes.length++
    this.hashes.low[at] = hashes.low[keyRow]!
    this.hashes.high[at] = hashes.high[keyRow]!
    this.changes[at] = change
    this.keyRows[at] = keyRow
    this.byOld[at] = byOld ? 1 : 0
    this.handsOn[at] = handsOn ? 1 : 0
  }

  needsRowId(request: number): boolean {
    return this.handsOn[request] === 1
  }

  /** The batch that has the request's key, at `keyRowOf`. */
  keysOf(request: number): ColumnBatch {
    return this.byOld[request] === 1 ? this.oldKeys : this.newKeys
  }

  keyRowOf(request: number): number {
    return this.keyRows[request]
  }
}
