import { isDeepStrictEqual } from 'node:util'
import { parseTableName, type Lsn } from '@moonlink/core'
import type { Mirror } from '@moonlink/table-engine'
import type { SourceHandle } from './parts.ts'
import type { BackendState, Purge, StateStore } from './state.ts'

export interface RememberedTablesOptions {
  readonly store: Pick<StateStore, 'write'>
  readonly source: Pick<SourceHandle, 'history' | 'identity' | 'publicationMark'>
  /** What the last run left; null where there was none of this source. */
  readonly state: BackendState | null
  /** Names of the tables that take changes. */
  readonly live: () => readonly string[]
  /** Names of the tables that have everything up to what is covered, or are not copied yet. */
  readonly covered: () => readonly string[]
  /** A table's mirror, if there is one. */
  readonly mirror: (name: string) => Pick<Mirror, 'committedLsn'> | undefined
  /** Names of all tables, those that are paused, wait or could not be opened among them. What those were published like is kept, so that a later process finds out that it changed. */
  readonly known: () => readonly string[]
}

type Written = Pick<BackendState, 'added' | 'dropped' | 'published' | 'purging'>

/** Which tables were added and dropped over those of the configuration, which purges have not ended, and what all of them have in Iceberg: kept across restarts. */
export class RememberedTables {
  readonly #options: RememberedTablesOptions
  /** How tables were published when that was known last. */
  readonly #published: Map<string, string>
  #added: readonly string[]
  #dropped: readonly string[]
  #purging: Readonly<Record<string, Purge>>
  /** What was written down last. */
  #written: Written

  constructor(options: RememberedTablesOptions) {
    this.#options = options
    this.#published = new Map(Object.entries(options.state?.published ?? {}))
    this.#added = options.state?.added ?? []
    this.#dropped = options.state?.dropped ?? []
    this.#purging = options.state?.purging ?? {}
    this.#written = { published: {}, added: this.#added, dropped: this.#dropped, purging: this.#purging }
  }

  /** Purges that have not ended, by table. */
  get purges(): ReadonlyMap<string, Purge> {
    return new Map(Object.entries(this.#purging))
  }

  purge(name: string, purge: Purge): void {
    this.#purging = { ...this.#purging, [name]: purge }
  }

  purged(name: string): void {
    this.#purging = Object.fromEntries(Object.entries(this.#purging).filter(([purging]) => purging !== name))
  }

  wasDropped(name: string): boolean {
    return this.#dropped.includes(name)
  }

  add(names: readonly string[]): void {
    this.#added = [...new Set([...this.#added, ...names])]
    this.#dropped = this.#dropped.filter((name) => !names.includes(name))
  }

  drop(name: string): void {
    this.#added = this.#added.filter((added) => added !== name)
    this.#dropped = [...new Set([...this.#dropped, name])]
  }

  /** Whether that it was added, dropped or purged is written down, where it was. */
  isRecorded(name: string): boolean {
    const { added, dropped, purging } = this.#written
    return (
      added.includes(name) === this.#added.includes(name) &&
      dropped.includes(name) === this.#dropped.includes(name) &&
      isDeepStrictEqual(purging[name], this.#purging[name])
    )
  }

  /**
   * Whether other tables were added, dropped and purged, or tables are published otherwise, than was written down. Left so, a later process would go by what was asked for
   * before, and take tables for such that missed changes.
   */
  get isOutdated(): boolean {
    return !isDeepStrictEqual(this.#toWrite(), this.#written)
  }

  /** Whether that is so of a table that takes changes. */
  isOutdatedFor(name: string): boolean {
    const mark = this.#options.source.publicationMark(parseTableName(name))
    return mark !== '' && mark !== this.#written.published[name]
  }

  /** Writes all of it down; each table has everything up to `coveredLsn` in Iceberg, or is not copied yet. */
  async write(coveredLsn: Lsn): Promise<void> {
    const { known, source, store } = this.#options
    const covered = this.#options.covered()
    const { systemIdentifier, database, slot } = source.identity
    const written = this.#toWrite()
    await store.write({
      source: { systemIdentifier, database, slot },
      timeline: source.history.timeline,
      timelineSince: source.history.sinceLsn,
      coveredLsn,
      mirrored: covered,
      commits: this.#commits(covered),
      known: known(),
      ...written,
    })
    this.#written = written
  }

  #toWrite(): Written {
    return { published: this.#marks(), added: this.#added, dropped: this.#dropped, purging: this.#purging }
  }

  /** Of one that could not be opened, what was known last. */
  #commits(names: readonly string[]): Readonly<Record<string, Lsn>> {
    const { mirror, state } = this.#options
    const commits = names.map((name) => {
      const opened = mirror(name)
      return [name, opened === undefined ? state?.commits[name] : opened.committedLsn] as const
    })
    return Object.fromEntries(commits.flatMap(([name, lsn]) => (lsn === null || lsn === undefined ? [] : [[name, lsn]])))
  }

  #marks(): Readonly<Record<string, string>> {
    const { known, live, source } = this.#options
    for (const name of live()) {
      const mark = source.publicationMark(parseTableName(name))
      if (mark !== '') this.#published.set(name, mark)
    }
    const marks = known().map((name) => [name, this.#published.get(name) ?? ''] as const)
    return Object.fromEntries(marks.filter(([, mark]) => mark !== ''))
  }
}
