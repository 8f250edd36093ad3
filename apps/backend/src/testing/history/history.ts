import { formatLsn, type Lsn } from '@moonlink/core'

/** A transaction that appended its id to some lists of the source, as its client saw it. */
export interface AppendEvent {
  /** The server's. One whose traces went with a crash of the server is given out again, so the last of them counts. */
  readonly transaction: number
  /** `table.key` of each. */
  readonly lists: readonly string[]
  /** When the client knew that it was committed; null where it never learned of it, or rolled it back. */
  readonly committedAtMs: number | null
}

/** A read of all lists of some tables of the mirror, in one statement. */
export interface ReadEvent {
  readonly startedAtMs: number
  readonly endedAtMs: number
  readonly tables: readonly string[]
  /** It waited until the mirror had what was committed by then; null where it did not. */
  readonly hasAllOfMs: number | null
  /** Null where it asked for the latest. */
  readonly askedLsn: Lsn | null
  /** Of which the mirror says that this is the state. */
  readonly lsn: Lsn
  /** As they came: a list of two rows is to be noticed. */
  readonly rows: readonly (readonly [list: string, values: readonly number[]])[]
}

export interface History {
  readonly appends: readonly AppendEvent[]
  readonly reads: readonly ReadEvent[]
  /** The end LSN of each transaction that happened, as the source's log has it: in their order. */
  readonly commits: ReadonlyMap<number, Lsn>
  /** What the source holds in the end: each list that there is. */
  readonly final: ReadonlyMap<string, readonly number[]>
}

/**
 * Checks that the mirror is strictly serializable with the source, as far as that can be said of appends to lists: each read shows just what had been committed up to its LSN,
 * in that order and once; a read that waited has what it waited for; a later read of the latest is of no earlier LSN. Returns what is wrong, nothing where all
 * is well. Since the source's log says what happened, nothing has to be inferred from times where a client never learned how its transaction ended.
 */
export function checkHistory(history: History): string[] {
  const versions = versionsOf(history)
  return [
    ...ofSource(history, versions),
    ...history.reads.flatMap((read, index) => inexact(read, versions).map((what) => `read ${index} at ${formatLsn(read.lsn)}: ${what}`)),
    ...stale(history),
    ...goingBack(history.reads),
  ]
}

/** A value of a list, and from which LSN on it is there. */
interface Version {
  readonly transaction: number
  readonly lsn: Lsn
}
type Versions = ReadonlyMap<string, readonly Version[]>

function versionsOf({ appends, commits, final }: History): Versions {
  const listsOf = new Map(appends.map(({ transaction, lists }) => [transaction, lists]))
  const versions = new Map<string, Version[]>(Array.from(final.keys(), (list) => [list, []]))
  for (const [transaction, lsn] of commits)
    for (const list of listsOf.get(transaction) ?? []) versions.get(list)?.push({ transaction, lsn })
  return versions
}

/** What the source itself, or what is known of it, does not agree with. */
function ofSource({ appends, commits, final }: History, versions: Versions): string[] {
  const lost = appends.filter(({ transaction, committedAtMs }) => committedAtMs !== null && !commits.has(transaction))
  const others = [...final].filter(
    ([list, values]) =>
      values.join() !==
      versions
        .get(list)!
        .map(({ transaction }) => transaction)
        .join(),
  )
  return [
    ...lost.map(({ transaction }) => `transaction ${transaction} was committed, and the source's log lacks it`),
    ...others.map(([list, values]) => `the source's list ${list} is not what its log says: ${values.join(' ')}`),
  ]
}

function inexact({ askedLsn, lsn, rows, tables }: ReadEvent, versions: Versions): string[] {
  const wrong = askedLsn === null || askedLsn === lsn ? [] : [`it was asked for ${formatLsn(askedLsn)}`]
  for (const [list] of rows) if (!versions.has(list)) wrong.push(`there is no list ${list}`)
  for (const [list, all] of versions) {
    if (!tables.includes(list.slice(0, list.indexOf('.')))) continue
    const shown = rows.filter(([name]) => name === list)
    if (shown.length !== 1) wrong.push(`list ${list} has ${shown.length} rows`)
    const expected = all.filter((version) => version.lsn <= lsn).map(({ transaction }) => transaction)
    for (const [, values] of shown) if (values.join() !== expected.join()) wrong.push(`list ${list} ${difference(values, expected)}`)
  }
  return wrong
}

function difference(values: readonly number[], expected: readonly number[]): string {
  const lacking = expected.filter((value) => !values.includes(value))
  const foreign = values.filter((value) => !expected.includes(value))
  if (lacking.length + foreign.length === 0) return `is in another order, or has values twice: ${values.join(' ')}`
  return [
    ...(lacking.length > 0 ? [`lacks ${lacking.join(' ')}`] : []),
    ...(foreign.length > 0 ? [`shows ${foreign.join(' ')}, which was not there`] : []),
  ].join(', ')
}

/** Since each read is exact at its LSN, that LSN says what it has. */
function stale({ appends, commits, reads }: History): string[] {
  return reads.flatMap(({ hasAllOfMs, lsn }, index) => {
    if (hasAllOfMs === null) return []
    const lacking = appends.find(
      ({ transaction, committedAtMs }) => committedAtMs !== null && committedAtMs < hasAllOfMs && commits.get(transaction)! > lsn,
    )
    return lacking === undefined ? [] : [`read ${index} waited for transaction ${lacking.transaction}, and is of an LSN before it`]
  })
}

function goingBack(reads: readonly ReadEvent[]): string[] {
  const latest = [...reads.entries()].filter(([, { askedLsn }]) => askedLsn === null)
  const byEnd = latest.toSorted(([, a], [, b]) => a.endedAtMs - b.endedAtMs)
  const byStart = latest.toSorted(([, a], [, b]) => a.startedAtMs - b.startedAtMs)
  const wrong: string[] = []
  let ended = 0
  let newest: (typeof latest)[number] | null = null
  for (const [index, read] of byStart) {
    for (; ended < byEnd.length && byEnd[ended][1].endedAtMs < read.startedAtMs; ended++)
      if (newest === null || byEnd[ended][1].lsn > newest[1].lsn) newest = byEnd[ended]
    if (newest !== null && read.lsn < newest[1].lsn)
      wrong.push(`read ${index} is of an LSN before the one of read ${newest[0]}, which had ended`)
  }
  return wrong
}
