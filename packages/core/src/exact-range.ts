import type { Lsn } from './lsn.ts'

/** What a commit of a table says about LSNs (see `TableCommit`); null where it does not say. */
export interface StampedCommit {
  readonly lsn: Lsn
  readonly firstChangeLsn: Lsn | null
  readonly lastChangeLsn: Lsn | null
}

/** The LSNs at which a table is exactly as the source had it, both included. */
export interface ExactRange {
  readonly fromLsn: Lsn
  readonly throughLsn: Lsn
}

/**
 * Where each of a table's commits is exact, given all that are known, newest first: from its newest change to just before the next
 * one, which the following commit tells. Of the newest commit nothing is known past its own LSN.
 */
export function exactRanges(commits: readonly StampedCommit[]): ExactRange[] {
  const ranges: ExactRange[] = []
  for (const [index, { lsn, lastChangeLsn }] of commits.entries()) {
    const next = commits[index - 1] as StampedCommit | undefined
    let throughLsn = lsn
    if (next?.firstChangeLsn !== null && next?.firstChangeLsn !== undefined) throughLsn = next.firstChangeLsn - 1n
    // The same rows in other files.
    else if (next?.lsn === lsn) throughLsn = ranges[index - 1].throughLsn
    ranges.push({ fromLsn: lastChangeLsn ?? lsn, throughLsn })
  }
  return ranges
}
