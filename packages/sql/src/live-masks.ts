import type { SegmentId } from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'
import { liveRows, type DeletesView, type FileScan, type TablePlan } from '@moonlink/union-read'
import { LiveMask, maskBytes } from './live-mask.ts'

/** What all masks together may take. */
export class MaskBudget {
  readonly limitBytes: number
  usedBytes = 0

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }
}

/**
 * The live masks of one incarnation's files. A mask is made when a plan first needs it, and serves every plan between the deaths
 * before and after; which those are is followed along the deletion log.
 */
export class LiveMasks {
  private readonly budget: MaskBudget
  private readonly threads: number
  private masks: LiveMask[] = []
  /** Log entries `[from, to)` were looked through. */
  private known: { from: number; to: number } | null = null
  /** The last known death of each file, be it after a mask's. */
  private readonly lastDeaths = new Map<SegmentId, number>()
  /** Files whose moved deaths are among them, from this sequence number on. */
  private readonly seenFrom = new Map<SegmentId, number>()

  /** `threads`: a file that would keep one thread longer than all files the others is cut into as many parts. */
  constructor(budget: MaskBudget, threads: number) {
    this.budget = budget
    this.threads = threads
  }

  get isEmpty(): boolean {
    return this.masks.length === 0
  }

  /**
   * A mask for each of the files, made where it is missing; none at all where they would not fit into the budget. Must not overlap
   * with another call.
   */
  async of(
    plan: TablePlan,
    files: readonly FileScan[],
    connection: DuckDBConnection,
    newName: () => string,
  ): Promise<ReadonlyMap<SegmentId, LiveMask>> {
    this.follow(plan.deletes)
    const { endSeq } = plan.deletes
    const found = new Map<SegmentId, LiveMask>()
    for (const { segment } of files) {
      this.noteMoved(plan.deletes, segment)
      const mask = this.find(segment, endSeq)
      if (mask) found.set(segment, mask)
    }
    const missing = files.filter((file) => !found.has(file.segment))
    if (missing.length === 0) return found
    const replaced = new Set(missing.map((file) => file.segment))
    await this.drop((mask) => replaced.has(mask.segment) && mask.toSeq < endSeq)
    if (!(await this.makeRoom(missing, found))) return new Map()
    const rowCount = files.reduce((sum, file) => sum + file.recordCount, 0)
    const wanted = missing.map(({ segment, recordCount }) => ({ segment, rowCount: recordCount }))
    for (const [segment, live] of liveRows(plan, wanted)) {
      const partCount = live.length > rowCount / this.threads ? this.threads : 1
      const mask = await LiveMask.create(connection, newName, partCount, { segment, live, ...this.rangeOf(segment, plan.deletes) })
      this.masks.push(mask)
      this.budget.usedBytes += mask.byteSize
      found.set(segment, mask)
    }
    return found
  }

  /** Drops those that nobody uses and that were last used before then. */
  async sweep(usedBeforeMs: number): Promise<void> {
    await this.drop((mask) => mask.lastUsedMs < usedBeforeMs)
    if (!this.isEmpty) return
    this.known = null
    this.lastDeaths.clear()
    this.seenFrom.clear()
  }

  /** Gives the budget back; for when the tables go with their database. */
  forget(): void {
    for (const mask of this.masks) this.budget.usedBytes -= mask.byteSize
    this.masks = []
  }

  private async makeRoom(missing: readonly FileScan[], found: ReadonlyMap<SegmentId, LiveMask>): Promise<boolean> {
    const wanted = missing.reduce((sum, file) => sum + maskBytes(file.recordCount), 0)
    const kept = new Set(found.values())
    if (this.budget.usedBytes + wanted > this.budget.limitBytes) await this.drop((mask) => !kept.has(mask))
    return this.budget.usedBytes + wanted <= this.budget.limitBytes
  }

  private async drop(wanted: (mask: LiveMask) => boolean): Promise<void> {
    const dropped = this.masks.filter((mask) => mask.users === 0 && wanted(mask))
    this.masks = this.masks.filter((mask) => !dropped.includes(mask))
    for (const mask of dropped) {
      this.budget.usedBytes -= mask.byteSize
      await mask.drop()
    }
  }

  private find(segment: SegmentId, endSeq: number): LiveMask | null {
    const lastDeath = this.lastDeaths.get(segment) ?? -1
    for (const mask of this.masks) {
      if (mask.segment !== segment || mask.fromSeq > endSeq) continue
      const { from, to } = this.known!
      if (mask.toSeq >= from && mask.toSeq < to && lastDeath < mask.toSeq) mask.toSeq = to
      if (mask.toSeq >= endSeq) return mask
    }
    return null
  }

  /** The plans around `endSeq` that the same rows are dead in. */
  private rangeOf(segment: SegmentId, { endSeq, firstSeq }: DeletesView): { fromSeq: number; toSeq: number } {
    const lastDeath = this.lastDeaths.get(segment) ?? -1
    const { from, to } = this.known!
    if (endSeq < from || endSeq > to || lastDeath >= endSeq) return { fromSeq: endSeq, toSeq: endSeq }
    // Of moved deaths before it the plan may know nothing.
    return { fromSeq: Math.max(from, firstSeq, lastDeath + 1), toSeq: to }
  }

  /** Looks through the entries that are new. After a gap, where entries were pruned unseen, it starts anew. */
  private follow(view: DeletesView): void {
    const { firstSeq, endSeq } = view
    if (this.known === null || firstSeq > this.known.to) this.known = { from: firstSeq, to: firstSeq }
    const { to } = this.known
    if (endSeq <= to) return
    for (const { firstSeq: chunkSeq, segments } of view.chunks(to, endSeq)) {
      segments.forEach((segment, index) => this.noteDeath(segment, chunkSeq + index))
    }
    this.known.to = endSeq
  }

  private noteMoved(view: DeletesView, segment: SegmentId): void {
    if (view.firstSeq >= (this.seenFrom.get(segment) ?? Number.POSITIVE_INFINITY)) return
    this.seenFrom.set(segment, view.firstSeq)
    for (const seq of view.moved(segment).seqs) this.noteDeath(segment, seq)
  }

  private noteDeath(segment: SegmentId, seq: number): void {
    if (seq > (this.lastDeaths.get(segment) ?? -1)) this.lastDeaths.set(segment, seq)
  }
}
