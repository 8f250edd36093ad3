/** What happened, as its clients saw it: appends of transactions in the source, and reads of the mirror. */
export interface AppendEvent {
  readonly transaction: number
  readonly lists: readonly number[]
  /** When the client began it. */
  readonly startedAtMs: number
  /** When the client knew that it was committed; null where it never learned of it. */
  readonly committedAtMs: number | null
}

export interface ReadEvent {
  readonly startedAtMs: number
  readonly endedAtMs: number
  readonly lists: ReadonlyMap<number, readonly number[]>
}

/**
 * Checks a history of appends to lists and reads of all lists, as Elle does for list-append: what each read shows must be a state that the source went
 * through, and later reads must show later states. Returns what is wrong, nothing where all is well. `final` is what the source holds in the end, which gives each
 * list's version order.
 */
export function checkHistory(
  appends: readonly AppendEvent[],
  reads: readonly ReadEvent[],
  final: ReadonlyMap<number, readonly number[]>,
): string[] {
  const wrong: string[] = []
  const listsOf = new Map(appends.map(({ transaction, lists }) => [transaction, lists]))
  for (const [list, values] of final) if (new Set(values).size !== values.length) wrong.push(`list ${list} holds a value twice in the end`)
  for (const { transaction, lists, committedAtMs } of appends) {
    const inLists = lists.filter((list) => final.get(list)?.includes(transaction))
    if (committedAtMs !== null && inLists.length < lists.length) wrong.push(`transaction ${transaction} was committed and is lost`)
    if (inLists.length > 0 && inLists.length < lists.length) wrong.push(`transaction ${transaction} is there in part`)
  }
  const seen = reads.map((read) => new Set([...read.lists.values()].flat()))
  for (const [index, read] of reads.entries()) {
    for (const [list, values] of read.lists) {
      const order = final.get(list) ?? []
      if (values.some((value, at) => order[at] !== value))
        wrong.push(`read ${index}: list ${list} is no state that the source had: ${values.join(' ')}`)
    }
    for (const transaction of seen[index]) {
      const lacking = (listsOf.get(transaction) ?? []).filter(
        (list) => read.lists.has(list) && !read.lists.get(list)!.includes(transaction),
      )
      if (lacking.length > 0) wrong.push(`read ${index} shows transaction ${transaction} in part: not in list ${lacking.join(', ')}`)
    }
  }
  return [...wrong, ...outOfOrder(appends, seen, final), ...goingBack(reads, seen)]
}

/** A read that shows a transaction shows all that were committed before that one began, whichever lists they were of. */
function outOfOrder(
  appends: readonly AppendEvent[],
  seen: readonly ReadonlySet<number>[],
  final: ReadonlyMap<number, readonly number[]>,
): string[] {
  const wrong: string[] = []
  const kept = new Set([...final.values()].flat())
  const startedAtMs = new Map(appends.map(({ transaction, startedAtMs }) => [transaction, startedAtMs]))
  for (const [index, shown] of seen.entries()) {
    let latestMs = -Infinity
    for (const transaction of shown) latestMs = Math.max(latestMs, startedAtMs.get(transaction) ?? -Infinity)
    const lacking = appends.find(
      ({ transaction, committedAtMs }) =>
        committedAtMs !== null && committedAtMs < latestMs && kept.has(transaction) && !shown.has(transaction),
    )
    if (lacking !== undefined)
      wrong.push(`read ${index} lacks transaction ${lacking.transaction}, and shows one that began after it was committed`)
  }
  return wrong
}

/** A read that began after another had ended shows at least what that showed. */
function goingBack(reads: readonly ReadEvent[], seen: readonly ReadonlySet<number>[]): string[] {
  const wrong: string[] = []
  const byEnd = [...reads.keys()].sort((a, b) => reads[a].endedAtMs - reads[b].endedAtMs)
  for (const [index, read] of reads.entries()) {
    // What the newest read before it showed holds what all before showed, if that is right itself.
    const before = byEnd.findLast((other) => reads[other].endedAtMs < read.startedAtMs)
    if (before === undefined) continue
    const lost = [...seen[before]].filter((transaction) => !seen[index].has(transaction))
    if (lost.length > 0) wrong.push(`read ${index} lacks transaction ${lost[0]}, which read ${before} had shown`)
  }
  return wrong
}
