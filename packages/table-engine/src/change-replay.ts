import type { Lsn } from '@moonlink/core'
import { dropThrough, isBatch, takeThrough, type HeldChange } from './held-batches.ts'
import { SkipFilter } from './skip-filter.ts'

/** Whole transactions that wait, a stretch of LSNs after the other. */
export class ChangeReplay {
  private readonly changes: AsyncIterator<HeldChange>
  private readonly filter: SkipFilter
  /** Read, and of a later stretch. */
  private ahead: HeldChange[] = []

  /** Begins behind `fromLsn`. */
  constructor(changes: AsyncIterable<HeldChange>, fromLsn: Lsn) {
    this.changes = changes[Symbol.asyncIterator]()
    this.filter = new SkipFilter(fromLsn)
  }

  /** The next changes, of transactions that end at or before `lsn`. */
  async *through(lsn: Lsn): AsyncGenerator<HeldChange> {
    /** Of a transaction whose end nothing tells yet. */
    let open: HeldChange[] = []
    for (;;) {
      const change = this.ahead.shift() ?? (await this.next())
      if (change === null) break
      const firstEnd = isBatch(change) ? change.marks.endLsns[0] : undefined
      if (!isBatch(change) || firstEnd === undefined) {
        if (change.openLsn === undefined) open.push(change)
        else if (change.openLsn < lsn) yield change
        else {
          this.ahead.unshift(change)
          return
        }
        continue
      }
      if (firstEnd > lsn) {
        this.ahead.unshift(...open, change)
        return
      }
      yield* open
      open = []
      yield takeThrough(change, lsn)!
      const rest = dropThrough(change, lsn)
      if (rest !== null) this.ahead.unshift(rest)
    }
    this.ahead = open
  }

  private async next(): Promise<HeldChange | null> {
    for (;;) {
      const { done, value } = await this.changes.next()
      if (done === true) return null
      const [first, ...others] = this.filter.pass(value)
      if (first === undefined) continue
      this.ahead.push(...others)
      return first
    }
  }
}
