import type { Lsn } from '@moonlink/core'

/**
 * A change of a table of which no trigger tells, by what a row after it and the catalog tell (docs/SCHEMA-CHANGES.md, "Without them"). `silent`: no row tells of it,
 * so that it is noticed only when the catalog is looked at; `unseen`: the same, and it may be noticed again later. `partitions`: others
 * than the mirror knows the table by, until it reads it again.
 */
export interface Untold {
  readonly kind:
    | 'add'
    | 'add without a default'
    | 'drop'
    | 'rename'
    | 'nulls'
    | 'longer'
    | 'key'
    | 'truncate'
    | 'partitions'
    | 'compared'
    | 'silent'
    | 'unseen'
  /**
   * A later look at the catalog takes it for partitions that were emptied by themselves, with triggers or without: the mirror may compare the table at any time until it
   * starts again. `once filled`: only where its transaction goes on to change rows.
   */
  readonly isNoticedAgain?: 'always' | 'once filled'
}

/** Tables of which a look at the catalog takes these changes of one transaction, in their order, for others. */
export function noticedAgain(
  changes: readonly { readonly table: string; readonly change: Untold; readonly isFollowed: boolean }[],
): Set<string> {
  const tables = new Set<string>()
  const filled = new Set<string>()
  for (const { change, isFollowed, table } of changes) {
    if (change.isNoticedAgain === 'always') tables.add(table)
    if (change.isNoticedAgain !== 'once filled') continue
    // What came before a truncation is gone.
    if (isFollowed) filled.add(table)
    else filled.delete(table)
  }
  return new Set([...tables, ...filled])
}

/** A change that a mirror may have to look at together with those beside it. */
interface Waiting {
  readonly change: Untold
  readonly fromLsn: Lsn
  /** A row has followed. */
  isFollowed: boolean
}

/** Whether these changes of one table, in this order and between two moments in which the mirror knew it, are followed in place, as is promised. */
export function isFollowedInPlace(changes: readonly Untold[]): boolean {
  const kinds = new Set(changes.map(({ kind }) => kind))
  if ((['compared', 'silent', 'unseen'] as const).some((kind) => kinds.has(kind))) return false
  if (changes.length <= 1) return true
  // With others, nothing tells that those that were there have not been rewritten.
  if (kinds.has('partitions')) return kinds.size === 1
  if (kinds.delete('truncate'))
    return kinds.size === 0 || (kinds.size === 1 && (['add', 'drop'] as const).some((kind) => isOnce(changes, kind)))
  if (kinds.size > 1) kinds.delete('nulls')
  if (kinds.has('add without a default')) kinds.add('add').delete('add without a default')
  if (kinds.has('rename')) kinds.delete('add')
  if (kinds.size > 1) return false
  return (['drop', 'longer', 'key'] as const).every((kind) => !kinds.has(kind) || isOnce(changes, kind))
}

const isOnce = (changes: readonly Untold[], kind: Untold['kind']) => changes.filter((change) => change.kind === kind).length === 1

/** The changes that a mirror may not know of yet, table by table, and those that it may have to look at again. */
export class UntoldChanges {
  /** Since the mirror knew the table. */
  readonly #waiting = new Map<string, Waiting[]>()
  /** Known to the mirror, and not safe in Iceberg. */
  readonly #known = new Map<string, Waiting[]>()

  /**
   * A commit has brought these; `isFollowed`: rows came after them. Where the table may have to be compared now, returns from where on it may be refused.
   */
  committed(table: string, changes: readonly { readonly change: Untold; readonly isFollowed: boolean }[], fromLsn: Lsn): Lsn | null {
    const waiting = this.#waiting.get(table) ?? []
    waiting.push(...changes.map((one) => ({ ...one, fromLsn })))
    this.#waiting.set(table, waiting)
    return refusedFrom(waiting)
  }

  /** A row of the table has been committed. */
  followed(table: string): void {
    for (const change of this.#waiting.get(table) ?? []) change.isFollowed = true
  }

  /** The mirror has applied all that was committed. */
  applied(): void {
    for (const [table, waiting] of this.#waiting) {
      const isKnown = ({ change, isFollowed }: Waiting) => isFollowed && change.kind !== 'partitions'
      this.#known.set(table, [...(this.#known.get(table) ?? []), ...waiting.filter(isKnown)])
      this.#waiting.set(
        table,
        waiting.filter((change) => !isKnown(change)),
      )
    }
  }

  /** What the mirror has applied is safe. */
  flushed(): void {
    this.#known.clear()
  }

  /** The mirror has been made equal to the table. */
  settled(table: string): void {
    this.#waiting.delete(table)
    this.#known.delete(table)
  }

  /** The mirror may have gone back to what is safe. Returns the tables that may have to be compared then, and from where on each may be refused. */
  wentBack(): Map<string, Lsn> {
    const refused = new Map<string, Lsn>()
    for (const table of new Set([...this.#known.keys(), ...this.#waiting.keys()])) {
      const all = [...(this.#known.get(table) ?? []), ...(this.#waiting.get(table) ?? [])]
      this.#waiting.set(table, all)
      const fromLsn = refusedFrom(all)
      if (fromLsn !== null) refused.set(table, fromLsn)
    }
    this.#known.clear()
    return refused
  }
}

function refusedFrom(waiting: readonly Waiting[]): Lsn | null {
  return waiting.length === 0 || isFollowedInPlace(waiting.map(({ change }) => change)) ? null : waiting[0].fromLsn
}
