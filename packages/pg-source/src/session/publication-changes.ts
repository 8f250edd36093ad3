import { formatTableName, type TableName } from '@moonlink/core'
import { describeTables, type CatalogOptions, type DescribedTable } from './catalog.ts'
import type { PartitionRow } from './catalog-rows.ts'
import type { CatalogConnection } from './connect.ts'
import { quoted } from './describe-shape.ts'

/** What became of a table's publication since it was prepared, of which the stream itself says nothing. */
export type PublicationChange =
  /** Rows may have come or gone without a change of theirs in the stream: only a comparison with the source makes the mirror equal again. */
  | { readonly kind: 'changed'; readonly table: TableName; readonly reason: string }
  /** Its changes are not streamed any more, or can't be read. */
  | { readonly kind: 'refused'; readonly table: TableName; readonly code: string; readonly reason: string }
  /** A given publication publishes it, and did not before. */
  | { readonly kind: 'added'; readonly table: TableName }

/** Refusals that a table may meet while it is mirrored; others show in its stream. */
const REFUSALS = new Set(['TABLE_UNPUBLISHED', 'TABLE_NO_IDENTITY', 'TABLE_UNSUPPORTED', 'PG_PUBLICATION_OPERATIONS'])

/** Compares prepared tables with what the catalog says now; takes over partitions that came and are empty, since all their rows will be streamed. */
export async function preparedChanges(
  connection: CatalogConnection,
  options: CatalogOptions,
  baselines: Map<string, DescribedTable>,
): Promise<PublicationChange[]> {
  const tables = [...baselines.values()].map(({ table }) => table)
  if (tables.length === 0) return []
  const changes: PublicationChange[] = []
  for (const entry of await describeTables(connection, options, tables)) {
    const { table } = entry
    const before = baselines.get(formatTableName(table))
    // Somebody prepared other tables meanwhile.
    if (before === undefined) continue
    if ('refusal' in entry) {
      const { code, message } = entry.refusal
      if (REFUSALS.has(code)) changes.push({ kind: 'refused', table, code, reason: message })
      continue
    }
    const now = entry.described
    // Another table of that name shows in the stream.
    if (now.relationOid !== before.relationOid) continue
    const reason =
      now.filter === before.filter ? await partitionsChanged(connection, before, now) : 'the publication filters its rows otherwise'
    if (reason !== null) changes.push({ kind: 'changed', table, reason })
    else if (now.partitions !== null) baselines.set(formatTableName(table), { ...before, partitions: now.partitions })
  }
  return changes
}

/** Tells a table's state of publication from another, for a later process. */
export function publicationMark({ filter, partitions }: DescribedTable): string {
  return JSON.stringify([filter, partitions?.map(({ oid, fileNode }) => [oid, fileNode]) ?? null])
}

async function partitionsChanged(connection: CatalogConnection, before: DescribedTable, now: DescribedTable): Promise<string | null> {
  const known = new Map((before.partitions ?? []).map((partition) => [partition.oid, partition]))
  for (const partition of now.partitions ?? []) {
    const earlier = known.get(partition.oid)
    known.delete(partition.oid)
    const name = formatTableName(partition)
    if (earlier === undefined) {
      if (await hasRows(connection, partition)) return `partition ${name} came, with rows`
    } else if (earlier.fileNode !== partition.fileNode) return `partition ${name} was truncated or rewritten by itself`
  }
  const [gone] = known.values()
  return gone === undefined ? null : `partition ${formatTableName(gone)} was detached or dropped`
}

/** Also where we may not look. */
async function hasRows(connection: CatalogConnection, partition: PartitionRow): Promise<boolean> {
  return connection.rows<{ some: boolean }>(`SELECT EXISTS (SELECT FROM ONLY ${quoted(partition)}) AS some`).then(
    ([{ some }]) => some,
    () => true,
  )
}
