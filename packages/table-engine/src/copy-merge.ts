import { assert, ChangeOp, MoonlinkError, selectFields, type ColumnBatch, type Lsn } from '@moonlink/core'
import { MatchBuffer, sortByHash, type KeyHashes } from '@moonlink/pk-index'
import { applyBatch } from './apply-batch.ts'
import type { Leniency } from './change-applier.ts'
import type { ChangeReplay } from './change-replay.ts'
import type { CopiedFile, RecordedSession } from './copy-record.ts'
import { cutOpenSegment, type EarlyWriteSizes } from './early-write.ts'
import type { EarlyWriter } from './early-writer.ts'
import { emptyBatch } from './empty-batch.ts'
import { isBatch, isReshape, type HeldChange } from './held-batches.ts'
import { keysOf } from './identity.ts'
import type { MirrorCore } from './mirror-core.ts'
import { rowsEqual } from './rows-equal.ts'
import { FileSegment, type Segment } from './segment.ts'

const NO_MARKS = { endLsns: [], changeCounts: [], commitTimesMs: [] }

export interface CopyMergeParts {
  readonly core: MirrorCore
  readonly early: EarlyWriter
  readonly earlySizes: EarlyWriteSizes
  readonly replay: ChangeReplay
}

/**
 * Makes one state of what a table's copy read in several snapshots, as one transaction that ends with the last of them.
 *
 * Invariant: at each snapshot's LSN, every row in the state is a row of the source there; the state lacks rows of ranges not read yet. Changes up to
 * the next snapshot keep that true (a change of a row that the state lacks adds it, where the source sent all of it), and of the
 * rows that this snapshot read, those that the state has already, since they came to other pages, are taken once.
 */
export class CopyMerge {
  private readonly parts: CopyMergeParts
  private readonly leniency: Leniency = { lacksRows: false }
  /** Files of copied rows; every other was written here. */
  private readonly copied = new Set<FileSegment>()

  constructor(parts: CopyMergeParts) {
    this.parts = parts
  }

  /** True where rows of ranges that are done are missing: their values were never sent. `put` them, as the last snapshot shows them. */
  get lacksRows(): boolean {
    return this.leniency.lacksRows
  }

  /** Throws `retry`/`COPY_CHANGED` where rows changed their shape in between. */
  async run(sessions: readonly RecordedSession[]): Promise<void> {
    const { core, replay } = this.parts
    // Whatever there is belongs to one transaction.
    core.state.openChanges++
    for (const [index, session] of sessions.entries()) {
      const segments: FileSegment[] = []
      for (const file of session.files) segments.push(...(await this.segmentOf(file, session)))
      if (index > 0) {
        for await (const change of replay.through(session.boundaryLsn)) await this.apply(change)
        await this.dropTaken(segments)
      }
      await core.lock.run(() => {
        for (const segment of segments) this.adopt(segment)
      })
    }
  }

  /** Adds rows as the last snapshot shows them, in place of those that the state has of their keys. */
  async put(rows: ColumnBatch): Promise<void> {
    const ops = new Uint8Array(rows.length).fill(ChangeOp.update)
    await this.apply({ ...emptyBatch(this.parts.core.state), ops, rows })
  }

  /** Ends the transaction. Under the lock. */
  async finish(endLsn: Lsn, commitTimeMs: number): Promise<void> {
    const marks = { endLsns: [endLsn], changeCounts: [0], commitTimesMs: [commitTimeMs] }
    await applyBatch(this.parts.core.state, { ...emptyBatch(this.parts.core.state), marks })
  }

  private async apply(change: HeldChange): Promise<void> {
    const { core, early, earlySizes } = this.parts
    if (!isBatch(change)) {
      const what = isReshape(change) ? 'its columns changed' : 'it was truncated'
      throw new MoonlinkError('retry', 'COPY_CHANGED', `${core.name}: ${what} between two snapshots of its copy, which begins anew.`)
    }
    if (change.ops.length === 0) return
    await core.lock.run(async () => {
      cutOpenSegment(core.state, earlySizes)
      await applyBatch(core.state, { ...change, marks: NO_MARKS, openLsn: undefined }, this.leniency)
    })
    if (core.state.changeBytes > core.host.limits.flushBytes) await early.write()
  }

  /** Makes a segment of a file, without the rows of ranges that were not read to their end; none where it has no others. */
  private async segmentOf({ runs, staged }: CopiedFile, session: RecordedSession): Promise<FileSegment[]> {
    const { core } = this.parts
    const { state } = core
    const isDone = runs.map(({ range }) => session.done.some(({ from, to }) => from === range.from && to === range.to))
    if (!isDone.includes(true)) {
      core.staged.abandon([staged.path])
      return []
    }
    const { path, recordCount, sizeBytes } = staged
    const file = { path, recordCount, sizeBytes, firstRowId: -1, dataSequenceNumber: -1 }
    const segment = new FileSegment(
      state.newSegmentId(),
      file,
      await core.host.sealedFiles.openOrRebuild(file, state.identity, state.storage),
      null,
    )
    segment.staged = staged
    let row = 0
    for (const [at, { count }] of runs.entries()) {
      const end = row + count
      for (; row < end; row++) if (!isDone[at]) segment.kill(row)
    }
    assert(row === recordCount, 'the runs of a file are its rows', { path, row, recordCount })
    return [segment]
  }

  private adopt(segment: FileSegment): void {
    const { state } = this.parts.core
    segment.visibleFrom = state.endOfOpenTransaction()
    state.active.earlyFiles.push(segment)
    state.segments.set(segment.id, segment)
    state.liveRows += segment.file.recordCount - segment.deadCount
    this.copied.add(segment)
  }

  /** Of rows that changes brought, those that the files have too go: they had come to pages that were read after them. */
  private async dropTaken(files: readonly FileSegment[]): Promise<void> {
    const { state } = this.parts.core
    for (const segment of state.active.segments) await this.dropTakenOf(segment, keysOf(state.identity, segment.buffer.view()), 0, files)
    for (const segment of state.active.earlyFiles) {
      if (this.copied.has(segment)) continue
      for await (const { firstRow, rows } of state.storage.scanFile(segment.file, state.identity.fields))
        await this.dropTakenOf(segment, selectFields(rows, state.identity.fieldIds), firstRow, files)
    }
  }

  /** `keys`: of the segment's rows from `first` on. */
  private async dropTakenOf(segment: Segment, keys: ColumnBatch, first: number, files: readonly FileSegment[]): Promise<void> {
    const { core } = this.parts
    const { hasher } = core.state.identity
    const hashes = hasher.hash(keys, 0, keys.length)
    const all = sortByHash(
      hashes,
      Uint32Array.from({ length: keys.length }, (_, row) => row),
    )
    const matches = new MatchBuffer()
    for (const file of files) {
      const live = all.filter((row) => !segment.isDead(first + row))
      const look = (): void => {
        matches.clear()
        file.index!.candidatesBatch(hashes, live, matches)
      }
      await core.state.mender.with(core.state, look, files)
      const found = new Map<number, number[]>()
      for (let at = 0; at < matches.length; at++) {
        const place = matches.rows[at]
        if (!file.isDead(place)) found.set(matches.indices[at], [...(found.get(matches.indices[at]) ?? []), place])
      }
      if (found.size === 0) continue
      const taken = hasher.exact ? [...found.keys()] : await this.equalKeys(keys, found, file)
      await core.lock.run(() => {
        for (const row of taken) this.kill(segment, first + row, hashes, row)
      })
    }
  }

  /** Of the rows, those whose key one of the places has: hashes do not tell. */
  private async equalKeys(keys: ColumnBatch, found: ReadonlyMap<number, readonly number[]>, { file }: FileSegment): Promise<number[]> {
    const { identity, storage } = this.parts.core.state
    const positions = Uint32Array.from(new Set([...found.values()].flat())).sort()
    const stored = selectFields(await storage.fetchRows(file, positions, identity.fields), identity.fieldIds)
    const at = new Map(Array.from(positions, (position, index) => [position, index]))
    return [...found].flatMap(([row, places]) => (places.some((place) => rowsEqual(keys, row, stored, at.get(place)!)) ? [row] : []))
  }

  private kill(segment: Segment, row: number, hashes: KeyHashes, keyRow: number): void {
    const { state } = this.parts.core
    if (segment.kind === 'memory') {
      const isRemoved = segment.index.remove(hashes.low[keyRow], hashes.high[keyRow], segment.id, row)
      assert(isRemoved, 'a live row in memory has an index entry', { segment: segment.id, row })
    }
    state.log.append(segment.id, row)
    segment.kill(row)
    state.liveRows--
  }
}
