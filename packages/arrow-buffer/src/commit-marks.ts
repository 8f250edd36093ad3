import { assert, type Lsn } from '@moonlink/core'

/** Where transactions end in a run of rows or log entries: ascending LSNs, each with a count. Answers "how many at LSN L". */
export class CommitMarkList {
  private lsns = new BigUint64Array(64)
  private counts = new Float64Array(64)
  private size = 0

  get lastLsn(): Lsn | null {
    return this.size === 0 ? null : this.lsns[this.size - 1]
  }

  get firstLsn(): Lsn | null {
    return this.size === 0 ? null : this.lsns[0]
  }

  get lastCount(): number {
    return this.size === 0 ? 0 : this.counts[this.size - 1]
  }

  get byteSize(): number {
    return this.lsns.byteLength + this.counts.byteLength
  }

  /** Records that the transaction ending at `lsn` brought the count to `count`. A mark that adds nothing is not kept. */
  push(lsn: Lsn, count: number): void {
    if (count === this.lastCount) return
    assert(this.size === 0 || (lsn >= this.lsns[this.size - 1] && count > this.lastCount), 'commit marks ascend', { lsn, count })
    if (this.size === this.lsns.length) this.grow()
    this.lsns[this.size] = lsn
    this.counts[this.size] = count
    this.size++
  }

  /** The count that belongs to transactions ending at or before `lsn`. O(log n). */
  countAt(lsn: Lsn): number {
    if (this.size === 0) return 0
    if (lsn >= this.lsns[this.size - 1]) return this.counts[this.size - 1]
    let low = 0
    let high = this.size
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.lsns[middle] <= lsn) low = middle + 1
      else high = middle
    }
    return low === 0 ? 0 : this.counts[low - 1]
  }

  private grow(): void {
    const lsns = new BigUint64Array(this.lsns.length * 2)
    lsns.set(this.lsns)
    this.lsns = lsns
    const counts = new Float64Array(this.counts.length * 2)
    counts.set(this.counts)
    this.counts = counts
  }
}
