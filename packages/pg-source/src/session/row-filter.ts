import { formatTableName, MoonlinkError, type TableName } from '@moonlink/core'
import type pg from 'pg'
import type { CatalogConnection } from './connect.ts'
import { isLockTimeout } from './errors.ts'

/** What all of the texts of filters are waited for where they are only shown. */
const SHOWN_LOCK_TIMEOUT_MS = 20

/**
 * SQL for the text of a publication's row filter, an SQL expression over the table's columns, by the object id of its `pg_publication_rel`. It locks the table in
 * ACCESS SHARE mode (deparse_context_for, ruleutils.c), so it waits for whoever alters, truncates or rewrites that: never to be run where others wait.
 */
export function rowFilterSql(filterOid: number): string {
  return `SELECT pg_get_expr(prqual, prrelid) AS text FROM pg_publication_rel WHERE oid = ${filterOid} AND prqual IS NOT NULL`
}

/** The row filter of a table that the connection's transaction has locked, as its snapshot has it; null where all rows are published. */
export async function readRowFilter(client: pg.Client, table: TableName, filterOid: number | null): Promise<string | null> {
  if (filterOid === null) return null
  const { rows } = await client.query<{ text: string }>(rowFilterSql(filterOid))
  return rows[0]?.text ?? refuseFilterGone(table)
}

/** Texts of row filters by object id, for showing them; none where another session locks one of the tables. */
export async function shownRowFilters(connection: CatalogConnection, filterOids: readonly number[]): Promise<ReadonlyMap<number, string>> {
  if (filterOids.length === 0) return new Map()
  // One message is one transaction, which the setting is for, and has a result for each of its statements.
  const sql = `SET LOCAL lock_timeout = ${SHOWN_LOCK_TIMEOUT_MS};
    SELECT oid::int8 AS oid, pg_get_expr(prqual, prrelid) AS text FROM pg_publication_rel WHERE oid IN (${filterOids.join(', ')}) AND prqual IS NOT NULL`
  try {
    const [, { rows }] = await connection.exclusive(
      async (client) => (await client.query(sql)) as unknown as [unknown, { rows: { oid: string; text: string }[] }],
    )
    return new Map(rows.map(({ oid, text }) => [Number(oid), text]))
  } catch (error) {
    if (isLockTimeout(error)) return new Map()
    throw error
  }
}

/** Throws `retry`/`PG_PUBLICATION_CHANGED`. */
export function refuseFilterGone(table: TableName): never {
  const name = formatTableName(table)
  throw new MoonlinkError(
    'retry',
    'PG_PUBLICATION_CHANGED',
    `the publication of ${name} has just been changed; it is read anew in a moment.`,
    {
      context: { table: name },
    },
  )
}
