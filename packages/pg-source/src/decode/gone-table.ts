import { formatTableName, type TableName } from '@moonlink/core'

/** Why a mirrored table can't go on under its name. */
export interface GoneTable {
  readonly table: TableName
  readonly code: 'TABLE_DROPPED' | 'TABLE_RENAMED'
  readonly reason: string
}

export function droppedTable(table: TableName): GoneTable {
  const name = formatTableName(table)
  const remedy = `moonlink tables drop ${name} ends its mirroring; one that is made anew under its name is taken on by moonlink tables resync ${name}`
  return { table, code: 'TABLE_DROPPED', reason: `the source dropped the table; ${remedy}` }
}

export function renamedTable(table: TableName, now: TableName): GoneTable {
  const name = formatTableName(table)
  const remedy = `moonlink tables resync ${name} mirrors it under that name`
  return { table, code: 'TABLE_RENAMED', reason: `the source calls the table ${formatTableName(now)} now; ${remedy}` }
}
