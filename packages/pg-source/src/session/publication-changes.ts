import { isDeepStrictEqual } from 'node:util'
import { formatTableName, type Lsn, type TableName } from '@moonlink/core'
import { describeTables, type CatalogOptions, type DescribedTable } from './catalog.ts'
import type { CatalogConnection } from './connect.ts'
import { droppedTable, renamedTable } from '../decode/index.ts'
import { attachedSince, isToldSince, lookAtPartitions } from './partition-look.ts'
import { isPublishedWithOthers } from './publication-state.ts'
import { mayMakePublications, publishAnewSql, remembersPartitions } from './publication.ts'
import type { PartitionRow } from './catalog-rows.ts'
import type { RelationShape } from './relation-shape.ts'
import { describeAlteredType } from './stale-rows.ts'
import { changed } from './stream-shapes.ts'
import type { PartitionJudgement, StreamedPartitions } from './streamed-partitions.ts'
import { nameOfTable } from './table-name.ts'

/** What became of a table's publication since it was prepared, of which the stream itself says nothing. */
export type PublicationChange =
  /** Rows may have come or gone without a change of theirs in the stream: only a comparison with the source makes the mirror equal again. */
  | { readonly kind: 'changed'; readonly table: TableName; readonly reason: string }
  /** Its changes are not streamed any more, or can't be read. */
  | { readonly kind: 'refused'; readonly table: TableName; readonly code: string; readonly reason: string }
  /** A given publication publishes it, and did not before. */
  | { readonly kind: 'added'; readonly table: TableName }

/** Refusals that a table may meet while it is mirrored; others show in its stream. */
const REFUSALS = new Set([
  'TABLE_UNPUBLISHED',
  'TABLE_NO_IDENTITY',
  'TABLE_UNSUPPORTED',
  'PG_PUBLICATION_OPERATIONS',
  'PG_SELECT_PRIVILEGE',
  'PG_TABLE_OWNER',
])

/** What the stream says of tables, which a look at the catalog completes. */
export interface Streamed {
  /** The shape that a table's rows have by now; null where the stream itself says what becomes of it. Types may have changed since, of which it says nothing. */
  readonly shapeOf: (table: TableName) => RelationShape | null
  readonly partitions: StreamedPartitions
  /** Partitions that were attached after an earlier process mirrored the table, and before this one does, its publication being the same since. */
  readonly attachedWhileAway: (now: DescribedTable) => readonly PartitionRow[]
  /** The server sends rows of all partitions that were attached so far, or will once the table is made equal. */
  readonly attachmentsSeen: (table: TableName) => void
  /** Covers every transaction committed before the call; the stream comes there soon. */
  readonly currentLsn: () => Promise<Lsn>
}

/** Compares prepared tables with what the catalog says now; takes over partitions that came and are empty, since all their rows will be streamed. */
export async function preparedChanges(
  connection: CatalogConnection,
  options: CatalogOptions,
  baselines: Map<string, DescribedTable>,
  streamed: Streamed,
): Promise<PublicationChange[]> {
  const known = new Map(baselines)
  if (known.size === 0) return []
  const tables = Array.from(known.values(), ({ table }) => table)
  const changes: PublicationChange[] = []
  const { main } = options.publications
  for (const entry of await describeTables(connection, options, tables)) {
    const { table } = entry
    const name = formatTableName(table)
    const before = known.get(name)!
    // One that is prepared no more, or was copied meanwhile, is looked at the next time.
    const isOutdated = () => baselines.get(name) !== before
    if (isOutdated()) continue
    const refused = (code: string, reason: string) => changes.push({ kind: 'refused', table, code, reason })
    if ('refusal' in entry && entry.refusal.code !== 'TABLE_UNKNOWN') {
      const { code, context, message } = entry.refusal
      // One without a key goes on: Postgres itself refuses what could not be followed. A partition's is followed otherwise than the table's.
      const isHarmless = code === 'TABLE_NO_IDENTITY' && context['partition'] === undefined
      if (REFUSALS.has(code) && !isHarmless) refused(code, message)
      continue
    }
    const now = 'refusal' in entry ? null : entry.described
    if (now?.relationOid !== before.relationOid) {
      // The stream says nothing of a table that is gone, and one that was made anew under its name is not published.
      const nameNow = await nameOfTable(connection, before.relationOid)
      if (nameNow !== null) refused('TABLE_RENAMED', renamedTable(table, nameNow).reason)
      else if (now === null) refused('TABLE_DROPPED', droppedTable(table).reason)
      else changes.push({ kind: 'changed', table, reason: 'the table was made anew' })
      continue
    }
    if (main === null && before.edition?.startsWith('given ') === true) {
      refused(
        'TABLE_UNPUBLISHED',
        `its publication was not made here, and is gone. Make it again as it was; then moonlink tables resync ${name}`,
      )
      continue
    }
    if (now.appendOnly !== before.appendOnly) {
      refused(
        'PG_PUBLICATION_OPERATIONS',
        `its publication publishes ${now.appendOnly ? 'no updates and deletes any more' : 'updates and deletes, which it did not'}: let it publish what it did, then moonlink tables resync ${name}; or drop the table with --purge, and add it again`,
      )
      continue
    }
    const republished = editionChanged(before, now) ?? rewrittenUntold(before, now)
    const judge = republished === null ? await partitionsJudge(connection, options, before, now, streamed) : null
    if (isOutdated()) continue
    const reason = judge === null ? republished : judge()
    // Comparing would bring the rows that are there, and miss those that come.
    const attached = judge !== null && typeof reason === 'string' ? attachedSince(attachmentsOf(before), now.partitions ?? []) : []
    const unsent = await unsentPartition(connection, options, table, [...attached, ...streamed.attachedWhileAway(now)])
    if (unsent === null) streamed.attachmentsSeen(table)
    if (unsent !== null) refused('PG_PARTITION_UNSENT', unsent)
    else if (typeof reason === 'string') changes.push({ kind: 'changed', table, reason })
    else if (reason === null && now.partitions !== null) baselines.set(name, { ...before, partitions: now.partitions })
    const alteredType = typeof reason === 'string' ? null : describeAlteredType(streamed.shapeOf(table), now.relation)
    if (alteredType !== null) refused('SCHEMA_CHANGED', changed(table, alteredType).reason)
  }
  return changes
}

/** Tells a table's state of publication from another, for a later process. It leaves out partitions that are `unsure`, and has those that are `gone`, so that it is none that it could find. */
export function publicationMark(described: DescribedTable, gone: readonly number[] = [], unsure: ReadonlySet<number> = new Set()): string {
  const { edition, filterOid, partitions } = described
  const sure = partitions
    ?.filter(({ oid }) => !unsure.has(oid))
    .map(({ oid, fileNode, attachment, rowsToldBy }) => [oid, fileNode, attachment, ...(rowsToldBy === null ? [] : [rowsToldBy])])
  const stored = mayBeUnlogged(described) ? [[described.relation.filenode, described.relation.toldSince]] : []
  return JSON.stringify([filterOid, sure === undefined ? null : [...sure, ...gone], edition, ...stored])
}

/** Whether a mark that an earlier process left says the same. Of old it had the filter's text, and before that no edition, which alone tells one filter from another. */
export function isSameMark(earlier: string, now: string): boolean {
  const [filterOid, partitions, edition, stored] = partsOfMark(now)
  const [earlierFilter, earlierPartitions, earlierEdition, earlierStored] = partsOfMark(earlier)
  if (earlierFilter === undefined || !isStoredAlike(earlierStored, stored)) return false
  if ((earlierFilter === null) !== (filterOid === null) || !areSamePartitions(earlierPartitions, partitions)) return false
  return earlierEdition === undefined ? filterOid === null : earlierEdition === edition
}

/** None where it is no mark: what an earlier process left may be damaged. */
function partsOfMark(mark: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(mark)
    return Array.isArray(parts) ? parts : []
  } catch {
    return []
  }
}

/** Before, or where the table was published otherwise, a mark said nothing of it. */
function isStoredAlike(earlier: unknown, now: unknown): boolean {
  if (earlier === undefined || now === undefined) return true
  if (!Array.isArray(earlier) || !Array.isArray(now)) return false
  const [[file, toldSince], [fileNow, toldSinceNow]] = [earlier, now] as unknown[][]
  return file === fileNow || (toldSince !== null && toldSince === toldSinceNow)
}

type PartitionMark = readonly [oid: number, fileNode: number, attachment: string, rowsToldBy?: string]

/** Of one whose rows are told of, another file says nothing that the stream does not. */
function areSamePartitions(earlier: unknown, now: unknown): boolean {
  if (!Array.isArray(earlier) || !Array.isArray(now)) return isDeepStrictEqual(earlier, now)
  return earlier.length === now.length && earlier.every((mark, index) => isSamePartition(mark, now[index]))
}

function isSamePartition(earlier: PartitionMark | number, now: PartitionMark | number): boolean {
  if (!Array.isArray(earlier) || !Array.isArray(now)) return earlier === now
  const [oid, fileNode, attachment, rowsToldBy = null] = earlier as PartitionMark
  const [oidNow, fileNodeNow, attachmentNow, rowsToldByNow = null] = now as PartitionMark
  if (oid !== oidNow || attachment !== attachmentNow) return false
  return fileNode === fileNodeNow || isToldSince({ rowsToldBy }, { rowsToldBy: rowsToldByNow })
}

/** Which partitions there were by a mark of an earlier process, each with how it was attached, by object id. */
export function attachmentsOfMark(mark: string): ReadonlyMap<number, string> {
  const [, partitions] = partsOfMark(mark)
  const marks = Array.isArray(partitions) ? (partitions as (PartitionMark | number)[]) : []
  return new Map(marks.flatMap((one) => (Array.isArray(one) ? [[one[0], one[2]] as [number, string]] : [])))
}

/** The edition that a mark of an earlier process names; null where it names none. */
export function editionOfMark(mark: string): string | null {
  const [, , edition] = partsOfMark(mark)
  return typeof edition === 'string' ? edition : null
}

function editionChanged(before: DescribedTable, now: DescribedTable): string | null {
  if (now.filterOid !== before.filterOid) return 'the publication filters its rows otherwise'
  if (now.edition === before.edition) return null
  return now.edition === null ? 'it was taken out of the publication' : 'its publication was altered, or made anew'
}

/** Postgres lets a table be unlogged for a while that no publication lists by itself: what changes then is not in its log. */
function mayBeUnlogged({ edition, partitions }: DescribedTable): boolean {
  return partitions === null && isPublishedWithOthers(edition)
}

/** Why rows may be others than were streamed: only its other file says that a table was unlogged, which a truncation gives it as well, and `VACUUM FULL`. */
function rewrittenUntold(before: DescribedTable, now: DescribedTable): string | null {
  const { filenode, toldSince } = now.relation
  if (!mayBeUnlogged(now) || filenode === before.relation.filenode || (toldSince !== null && toldSince === before.relation.toldSince))
    return null
  return 'it was truncated or rewritten, and may have been unlogged for a while'
}

function attachmentsOf({ partitions }: DescribedTable): ReadonlyMap<number, string> {
  return new Map((partitions ?? []).map(({ attachment, oid }) => [oid, attachment]))
}

/** Why rows of a partition that was attached are not streamed before somebody else has done something; null where they are, or `publishAnew` sees to it. */
async function unsentPartition(
  connection: CatalogConnection,
  options: CatalogOptions,
  table: TableName,
  [partition]: readonly PartitionRow[],
): Promise<string | null> {
  const { main } = options.publications
  if (partition === undefined || !remembersPartitions(options) || main === null || main.isOurs || (await mayMakePublications(connection)))
    return null
  const why = `partition ${formatTableName(partition)} was attached, and Postgres 14 does not send its rows before the publication is altered`
  const remedy = `Run ${publishAnewSql(main.name, table)}; then moonlink tables resync ${formatTableName(table)}`
  return `${why}. ${remedy}. With CREATE on the database it is seen to`
}

/** Looks at the partitions; what it returns judges them by what the stream has said by then. */
async function partitionsJudge(
  connection: CatalogConnection,
  options: CatalogOptions,
  before: DescribedTable,
  now: DescribedTable,
  { currentLsn, partitions }: Streamed,
): Promise<() => PartitionJudgement> {
  const found = await lookAtPartitions(connection, before.partitions ?? [], now.partitions ?? [], remembersPartitions(options))
  if (typeof found === 'string') return () => found
  const name = formatTableName(before.table)
  if (found.came.size === 0 && found.refiled.length === 0 && !partitions.hasNews(name)) return () => null
  const lsn = await currentLsn()
  return () => partitions.judge(name, { ...found, lsn })
}
