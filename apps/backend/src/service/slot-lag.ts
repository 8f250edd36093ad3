import type { Lsn } from '@moonlink/core'
import type { SourcePosition } from './parts.ts'

const maxSightings = 1000

/** For how long the slot has lacked what the source had written, from looks at both. */
export class SlotLag {
  /** What the slot has not confirmed yet, and when it was seen to be there: ascending. */
  #sightings: { readonly lsn: Lsn; readonly atMs: number }[] = []

  note({ confirmedFlushLsn, sourceLsn }: SourcePosition, nowMs: number): void {
    const confirmed = confirmedFlushLsn ?? 0n
    this.#sightings = this.#sightings.filter(({ lsn }) => lsn > confirmed)
    const last = this.#sightings.at(-1)
    if (sourceLsn > confirmed && (last === undefined || sourceLsn > last.lsn)) this.#sightings.push({ lsn: sourceLsn, atMs: nowMs })
    // Coarser, the longer it takes; the oldest stays.
    if (this.#sightings.length > maxSightings) this.#sightings = this.#sightings.filter((_sighting, index) => index % 2 === 0)
  }

  /** In ms; 0 where the slot has all that was seen at the last look but one. */
  ms(nowMs: number): number {
    const [oldest] = this.#sightings
    return oldest === undefined ? 0 : Math.max(0, nowMs - oldest.atMs)
  }
}
