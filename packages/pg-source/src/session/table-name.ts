import type { TableName } from '@moonlink/core'
import type { CatalogConnection } from './connect.ts'

/** What the table of that object id is called now; null where it is not there any more. */
export async function nameOfTable(connection: Pick<CatalogConnection, 'rows'>, oid: number): Promise<TableName | null> {
  const sql = `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $1::int8::oid AND c.relkind IN ('r', 'p')`
  return (await connection.rows<TableName>(sql, [oid]))[0] ?? null
}
