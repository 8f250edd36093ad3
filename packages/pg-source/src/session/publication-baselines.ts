import { formatTableName, MoonlinkError, type TableName } from '@moonlink/core'
import type { CatalogOptions, DescribedTable } from './catalog.ts'
import type { CatalogConnection } from './connect.ts'
import {
  editionOfMark,
  isSameMark,
  preparedChanges,
  publicationMark,
  type PublicationChange,
  type StreamedShapes,
} from './publication-changes.ts'
import { givenBy, type Publications } from './publication-state.ts'
import { editionOf } from './published.ts'

/** How prepared tables were published when they were prepared first, or last copied: what they are published like later tells whether changes may be missing. */
export class PublicationBaselines {
  private readonly publication: string
  private readonly tables = new Map<string, DescribedTable>()
  /** What `mark` told an earlier process. */
  private earlier: Readonly<Record<string, string>> = {}
  /** Tables that no publication had when they were prepared first. */
  private readonly publishedAnew = new Set<string>()
  /** What a given publication published when it was last looked at. */
  private seen: ReadonlySet<string> | null = null

  constructor(publication: string) {
    this.publication = publication
  }

  /** The marks that tables had when an earlier process mirrored them. */
  resume(marks: Readonly<Record<string, string>>): void {
    this.earlier = marks
  }

  /** A text that is another once a prepared table's rows are filtered otherwise or lie in other partitions, or its publication was altered or is another. */
  mark(table: TableName): string {
    const described = this.tables.get(formatTableName(table))
    return described === undefined ? '' : publicationMark(described)
  }

  /** Whether a prepared table may have missed changes since an earlier process mirrored it, as its mark tells, or it had to be published anew. */
  isRepublished(table: TableName): boolean {
    const name = formatTableName(table)
    const earlier = this.earlier[name]
    return this.publishedAnew.has(name) || (earlier !== undefined && !isSameMark(earlier, this.mark(table)))
  }

  /** Tables as they were described, and are published by now. Those that were prepared before keep what is known of them: what happened since is left to be noticed. */
  prepared(tables: ReadonlyMap<string, DescribedTable>, publications: Publications, appendOnly: readonly string[]): void {
    for (const name of this.tables.keys()) if (!tables.has(name)) this.tables.delete(name)
    for (const [name, table] of tables) {
      if (this.tables.has(name)) continue
      if (table.edition === null) this.publishedAnew.add(name)
      this.tables.set(name, { ...table, edition: editionOf(name, appendOnly.includes(name), publications) })
    }
  }

  copied(table: DescribedTable): void {
    this.tables.set(formatTableName(table.table), table)
  }

  /** What became of the tables' publication, and which tables came into a given one since the last call. `streamed`: see `preparedChanges`. */
  async changes(connection: CatalogConnection, options: CatalogOptions, streamed: StreamedShapes): Promise<PublicationChange[]> {
    const { main } = options.publications
    const changes = await preparedChanges(connection, options, this.tables, streamed)
    if (main === null || main.isOurs) return changes
    const before = this.seen
    this.seen = new Set(main.tables.keys())
    if (before === null) return changes
    const added = [...main.tables].filter(([name]) => !before.has(name) && !this.tables.has(name))
    return [...changes, ...added.map(([, { table }]): PublicationChange => ({ kind: 'added', table }))]
  }

  /** There is no publication of that name. Throws `invalid`/`PG_PUBLICATION_MISSING` where there was a given one: one of ours would publish all rows and columns. */
  refuseToReplaceGiven(): void {
    const editions = [...Object.values(this.earlier).map(editionOfMark), ...Array.from(this.tables.values(), ({ edition }) => edition)]
    if (!editions.some((edition) => edition?.startsWith(givenBy(this.publication)) === true)) return
    throw new MoonlinkError(
      'invalid',
      'PG_PUBLICATION_MISSING',
      `publication "${this.publication}" was not made here, and is gone. Make it again as it was, or name another one (source.publication): where there is none of that name, one is made that publishes all rows and columns.`,
      { context: { publication: this.publication } },
    )
  }
}
