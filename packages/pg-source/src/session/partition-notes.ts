import type { RelationRow } from './catalog-rows.ts'
import { DDL_VERSION } from './told-since.ts'

/** What keeps triggers from telling of a partitioned table's partitions all that they could. */
export function partitionNotes({
  ddlVersion,
  partitions,
  toldSince,
  watchesPartitions,
}: Pick<RelationRow, 'ddlVersion' | 'partitions' | 'toldSince' | 'watchesPartitions'>): string[] {
  if (ddlVersion === null) return []
  if (ddlVersion < DDL_VERSION)
    return [
      `the event triggers are of version ${ddlVersion}, and tell less of partitions than those of ${DDL_VERSION}: run moonlink ddl install again`,
    ]
  const silent = partitions.filter(({ rowsToldBy }) => rowsToldBy === null).length
  if (!watchesPartitions || toldSince === null || silent === 0) return []
  return [
    `no trigger tells where ${silent} of ${partitions.length} partitions are truncated by themselves: run moonlink ddl install --partitions again`,
  ]
}
