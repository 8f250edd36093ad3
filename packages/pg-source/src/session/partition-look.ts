import { formatTableName } from '@moonlink/core'
import type { PartitionRow } from './catalog-rows.ts'
import type { CatalogConnection } from './connect.ts'
import { quoted } from './describe-shape.ts'
import type { PartitionLook } from './streamed-partitions.ts'

const LOCK_TIMEOUT_MS = 50

/** What became of a table's partitions, or why rows came or went that were not streamed. `isRemembered`: see `remembersPartitions`. */
export async function lookAtPartitions(
  connection: CatalogConnection,
  before: readonly PartitionRow[],
  now: readonly PartitionRow[],
  isRemembered: boolean,
): Promise<string | Omit<PartitionLook, 'lsn'>> {
  const known = new Map(before.map((partition) => [partition.oid, partition]))
  const came = new Set<number>()
  const refiled: PartitionRow[] = []
  for (const partition of now) {
    const earlier = known.get(partition.oid)
    known.delete(partition.oid)
    const name = formatTableName(partition)
    if (earlier === undefined) {
      if (await hasRows(connection, partition)) return `partition ${name} came, with rows`
      if (isRemembered && partition.isAttached) return `partition ${name} came, whose rows Postgres 14 may not send`
      came.add(partition.oid)
    } else if (earlier.attachment !== partition.attachment) return `partition ${name} was detached, and attached again`
    else if (earlier.fileNode !== partition.fileNode && !isToldSince(earlier, partition)) refiled.push(partition)
  }
  const [gone] = known.values()
  return gone === undefined ? { now, came, refiled } : `partition ${formatTableName(gone)} was detached or dropped`
}

/** Whether the stream says where rows of a partition went or came between two looks, though its file is another: it was rewritten, or all are truncated. */
export function isToldSince(before: Pick<PartitionRow, 'rowsToldBy'>, now: Pick<PartitionRow, 'rowsToldBy'>): boolean {
  return now.rowsToldBy !== null && now.rowsToldBy === before.rowsToldBy
}

/** Partitions that were attached since there were those of these object ids, attached like this. */
export function attachedSince(known: ReadonlyMap<number, string>, now: readonly PartitionRow[]): readonly PartitionRow[] {
  return now.filter(({ attachment, isAttached, oid }) => isAttached && known.get(oid) !== attachment)
}

/** Also where we may not look, or somebody locks it: nothing else that is asked of the catalog waits for that. */
async function hasRows(connection: CatalogConnection, partition: PartitionRow): Promise<boolean> {
  const sql = `SELECT EXISTS (SELECT FROM ONLY ${quoted(partition)}) AS some`
  try {
    return await connection.exclusive(async (client) => {
      await client.query(`BEGIN; SET LOCAL lock_timeout = '${LOCK_TIMEOUT_MS}ms'`)
      try {
        return (await client.query<{ some: boolean }>(sql)).rows[0].some
      } finally {
        await client.query('ROLLBACK')
      }
    })
  } catch {
    return true
  }
}
