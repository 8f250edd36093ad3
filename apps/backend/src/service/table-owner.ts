import { formatTableName, MoonlinkError, type TableSnapshot, type TableName } from '@moonlink/core'
import type { SourceIdentity } from './parts.ts'

const systemProperty = 'moonlink.source-system-identifier'
const databaseProperty = 'moonlink.source-database'
const tableProperty = 'moonlink.source-table'

/** Properties by which an Iceberg table says what it mirrors. */
export function ownerProperties(source: SourceIdentity, table: TableName): Record<string, string> {
  return { [systemProperty]: source.systemIdentifier, [databaseProperty]: source.database, [tableProperty]: formatTableName(table) }
}

/** Throws `invalid`/`WAREHOUSE_OTHER_SOURCE` where the Iceberg table mirrors another source, or was not made by us at all. */
export function checkOwner(source: SourceIdentity, warehouse: string, table: TableName, snapshot: Pick<TableSnapshot, 'properties'>): void {
  const system = snapshot.properties[systemProperty]
  const database = snapshot.properties[databaseProperty]
  if (system === source.systemIdentifier && database === source.database) return
  const found = system === undefined ? 'is not a mirror of ours' : `mirrors database "${database ?? ''}" of Postgres system ${system}`
  const renamed =
    system === source.systemIdentifier
      ? `; where that was renamed, the mirror goes on under its old name (ALTER DATABASE ${quoted(source.database)} RENAME TO ${quoted(database ?? '')})`
      : ''
  throw new MoonlinkError(
    'invalid',
    'WAREHOUSE_OTHER_SOURCE',
    `${formatTableName(table)} in ${warehouse} ${found}, and the source is database "${source.database}" of Postgres system ${source.systemIdentifier}${renamed}; use another --warehouse for it.`,
    { context: { table: formatTableName(table), system, database } },
  )
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
