import { formatTableName, MoonlinkError, type Lsn, type TableName } from '@moonlink/core'
import type { CatalogOptions, DescribedTable } from './catalog.ts'
import type { CatalogConnection } from './connect.ts'
import type { PartitionRow } from './catalog-rows.ts'
import { attachedSince } from './partition-look.ts'
import {
  attachmentsOfMark,
  editionOfMark,
  isSameMark,
  preparedChanges,
  publicationMark,
  type PublicationChange,
  type Streamed,
} from './publication-changes.ts'
import { givenBy, type Publications } from './publication-state.ts'
import { editionOf } from './published.ts'
import { StreamedPartitions } from './streamed-partitions.ts'

/** How prepared tables were published when they were prepared first, or last copied: what they are published like later tells whether changes may be missing. */
export class PublicationBaselines {
  readonly streamedPartitions = new StreamedPartitions()
  private readonly publication: string
  private readonly tables = new Map<string, DescribedTable>()
  /** Marks are asked for often, and tables may have thousands of partitions. */
  private readonly marks = new WeakMap<DescribedTable, string>()
  /** What `mark` told an earlier process. */
  private earlier: Readonly<Record<string, string>> = {}
  /** Tables that no publication had when they were prepared first. */
  private readonly publishedAnew = new Set<string>()
  /** How tables were published when this process prepared them first. */
  private readonly preparedAs = new Map<string, string | null>()
  /** Tables of which a look has seen to the partitions that were attached before this process was there. */
  private readonly attachmentsSeen = new Set<string>()
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
    if (described === undefined) return ''
    const { gone, unsure } = this.streamedPartitions.unsettled(formatTableName(table), described.partitions ?? [])
    const unseen = this.attachedWhileAway(described).map(({ oid }) => oid)
    if (gone.length > 0 || unsure.size > 0 || unseen.length > 0)
      return publicationMark(described, [...gone, ...unseen], new Set([...unsure, ...unseen]))
    const mark = this.marks.get(described) ?? publicationMark(described)
    this.marks.set(described, mark)
    return mark
  }

  /** Whether a prepared table may have missed changes since an earlier process mirrored it, as its mark tells, or it had to be published anew. */
  isRepublished(table: TableName): boolean {
    const name = formatTableName(table)
    const earlier = this.earlier[name]
    return this.publishedAnew.has(name) || (earlier !== undefined && !isSameMark(earlier, this.mark(table)))
  }

  /** Tables as they were described, and are published by now. Those that were prepared before keep what is known of them: what happened since is left to be noticed. */
  prepared(tables: ReadonlyMap<string, DescribedTable>, publications: Publications, appendOnly: readonly string[]): void {
    for (const name of this.tables.keys()) {
      if (tables.has(name)) continue
      this.tables.delete(name)
      this.streamedPartitions.forget(name)
    }
    for (const [name, table] of tables) {
      if (this.tables.has(name)) continue
      // One that is paused and made equal is prepared again, maybe after its publication was mended.
      if (!this.preparedAs.has(name)) this.preparedAs.set(name, table.edition)
      if (table.edition === null) this.publishedAnew.add(name)
      this.tables.set(name, { ...table, edition: editionOf(name, appendOnly.includes(name), publications) })
    }
  }

  /** A table is copied or compared as it was described, behind this LSN. */
  copied(table: DescribedTable, lsn: Lsn): void {
    const name = formatTableName(table.table)
    this.tables.set(name, table)
    this.streamedPartitions.copied(name, lsn)
  }

  /** See `Streamed`. */
  private attachedWhileAway({ edition, partitions, table }: DescribedTable): readonly PartitionRow[] {
    const name = formatTableName(table)
    const mark = this.earlier[name]
    if (mark === undefined || this.attachmentsSeen.has(name) || partitions === null || edition !== this.preparedAs.get(name)) return []
    return attachedSince(attachmentsOfMark(mark), partitions)
  }

  /** What became of the tables' publication, and which tables came into a given one since the last call. */
  async changes(
    connection: CatalogConnection,
    options: CatalogOptions,
    streamed: Pick<Streamed, 'shapeOf' | 'currentLsn'>,
  ): Promise<PublicationChange[]> {
    const { main } = options.publications
    const partitions = this.streamedPartitions
    const changes = await preparedChanges(connection, options, this.tables, {
      ...streamed,
      partitions,
      attachedWhileAway: (now) => this.attachedWhileAway(now),
      attachmentsSeen: (table) => this.attachmentsSeen.add(formatTableName(table)),
    })
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
