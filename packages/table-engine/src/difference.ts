import { assert, ChangeOp, gatherBatch, selectFields, type ColumnBatch, type Lsn, type SegmentId } from '@moonlink/core'
import { createKeyHasher, MatchBuffer, sortByHash, type KeyHasher, type KeyHashes } from '@moonlink/pk-index'
import { applyBatch } from './apply-batch.ts'
import { emptyBatch } from './empty-batch.ts'
import type { MirrorState } from './mirror-state.ts'
import { RowDigests } from './row-digests.ts'
import { RowBits, type FileSegment } from './segment.ts'
import { rowsEqual } from './rows-equal.ts'

/** What was found, in rows. */
export interface DifferenceCounts {
  /** Rows of the source that were compared. */
  rows: number
  changed: number
  missing: number
  extra: number
}

const NONE = -1

interface Candidate {
  readonly segment: FileSegment
  readonly row: number
  readonly next: number
}

/**
 * Makes the mirror equal to its table in the source while the source's rows are read once, in any order: rows that differ or are missing are replaced
 * or added as they come, and those that the source does not have are deleted at the end. All of it is one transaction, which `finish` ends; what
 * is the same on both sides stays as it is, lineage included.
 *
 * Everything live must be in files when it begins, and nothing else may change the state until the end. Takes a bit and, of files in use, 8
 * bytes of memory a row.
 */
export class Difference {
  readonly counts: DifferenceCounts = { rows: 0, changed: 0, missing: 0, extra: 0 }
  private readonly state: MirrorState
  private readonly rowHasher: KeyHasher
  private readonly digests: RowDigests
  private readonly seen = new Map<SegmentId, RowBits>()
  private readonly files: readonly FileSegment[]

  constructor(state: MirrorState, digestBytes: number) {
    assert(state.memoryRows === 0, 'a difference is found against files')
    this.state = state
    this.rowHasher = createKeyHasher(state.schema.fields)
    this.digests = new RowDigests(state.storage, state.schema, this.rowHasher, digestBytes)
    this.files = [...state.files()].filter((file) => file.deadFrom === null)
    for (const file of this.files) this.seen.set(file.id, new RowBits())
  }

  get byteSize(): number {
    let size = this.digests.byteSize
    for (const bits of this.seen.values()) size += bits.byteSize
    return size
  }

  /** Compares rows of the source, and applies what differs. */
  async add(batch: ColumnBatch): Promise<void> {
    const { identity } = this.state
    const keys = selectFields(batch, identity.fieldIds)
    const keyHashes = identity.hasher.hash(keys, 0, batch.length)
    const rowHashes = this.rowHasher.hash(batch, 0, batch.length)
    const { firstOf, candidates } = await this.state.mender.with(this.state, () => this.candidates(keyHashes, batch.length))
    const unequal: number[] = []
    for (let row = 0; row < batch.length; row++) if (!(await this.takeEqual(row, firstOf, candidates, rowHashes))) unequal.push(row)
    const changed: number[] = []
    const victims: Candidate[] = []
    const missing: number[] = []
    for (const row of unequal) {
      const victim = identity.keyless ? null : await this.takeSameKey(row, firstOf, candidates, keys)
      if (victim === null) missing.push(row)
      else {
        changed.push(row)
        victims.push(victim)
      }
    }
    await this.apply(batch, changed, victims, missing)
    this.counts.rows += batch.length
    this.counts.changed += changed.length
    this.counts.missing += missing.length
  }

  /** Deletes what the source does not have, and ends the transaction. */
  async finish(endLsn: Lsn, commitTimeMs: number): Promise<void> {
    for (const file of this.files) {
      const seen = this.seen.get(file.id)!
      for (let row = 0; row < file.file.recordCount; row++) {
        if (seen.has(row) || file.isDead(row)) continue
        this.kill(file, row)
        this.counts.extra++
      }
    }
    const marks = { endLsns: [endLsn], changeCounts: [0], commitTimesMs: [commitTimeMs] }
    await applyBatch(this.state, { ...emptyBatch(this.state), marks })
  }

  /** Live rows that nobody took yet, by the key's hash: a chain for each row of the batch. */
  private candidates(hashes: KeyHashes, length: number): { firstOf: Int32Array; candidates: Candidate[] } {
    const firstOf = new Int32Array(length).fill(NONE)
    const candidates: Candidate[] = []
    const selection = sortByHash(
      hashes,
      Uint32Array.from({ length }, (_, row) => row),
    )
    const matches = new MatchBuffer(length)
    for (const segment of this.files) {
      matches.clear()
      segment.index!.candidatesBatch(hashes, selection, matches)
      const seen = this.seen.get(segment.id)!
      for (let at = 0; at < matches.length; at++) {
        const row = matches.rows[at]
        if (seen.has(row) || segment.isDead(row)) continue
        const asked = matches.indices[at]
        candidates.push({ segment, row, next: firstOf[asked] })
        firstOf[asked] = candidates.length - 1
      }
    }
    return { firstOf, candidates }
  }

  private async takeEqual(row: number, firstOf: Int32Array, candidates: readonly Candidate[], hashes: KeyHashes): Promise<boolean> {
    for (let at = firstOf[row]; at !== NONE; at = candidates[at].next) {
      const { segment, row: place } = candidates[at]
      const seen = this.seen.get(segment.id)!
      // Equal rows of a table without a key have the same candidates: each takes one.
      if (seen.has(place)) continue
      const digests = await this.digests.of(segment.file)
      if (digests.low[place] !== hashes.low[row] || digests.high[place] !== hashes.high[row]) continue
      seen.add(place)
      return true
    }
    return false
  }

  private async takeSameKey(
    row: number,
    firstOf: Int32Array,
    candidates: readonly Candidate[],
    keys: ColumnBatch,
  ): Promise<Candidate | null> {
    const { hasher, fields, fieldIds } = this.state.identity
    for (let at = firstOf[row]; at !== NONE; at = candidates[at].next) {
      const { segment, row: place } = candidates[at]
      const seen = this.seen.get(segment.id)!
      if (seen.has(place)) continue
      if (!hasher.exact) {
        const stored = await this.state.storage.fetchRows(segment.file, Uint32Array.of(place), fields)
        if (!rowsEqual(keys, row, selectFields(stored, fieldIds), 0)) continue
      }
      seen.add(place)
      return candidates[at]
    }
    return null
  }

  /** Adds rows, the changed ones in place of others: of the very rows that were found, for a mirror that differs may have two of one key. */
  private async apply(
    batch: ColumnBatch,
    changed: readonly number[],
    victims: readonly Candidate[],
    missing: readonly number[],
  ): Promise<void> {
    if (changed.length + missing.length === 0) return
    const { state } = this
    const readRowIds = () => victims.map(({ segment, row }) => segment.rowIdAt(row))
    const rowIds = await state.reads.patiently(() => state.mender.with(state, readRowIds))
    const { buffer } = state.tail
    const first = buffer.rowCount
    const rows = gatherBatch(batch, Uint32Array.from([...changed, ...missing]))
    await applyBatch(state, { ...emptyBatch(state), ops: new Uint8Array(rows.length).fill(ChangeOp.insert), rows })
    for (const [index, { segment, row }] of victims.entries()) {
      this.kill(segment, row)
      buffer.setRowId(first + index, rowIds[index])
    }
  }

  private kill(file: FileSegment, row: number): void {
    const { state } = this
    state.log.append(file.id, row)
    file.kill(row)
    state.liveRows--
    state.fileDeletes++
    state.openChanges++
  }
}
