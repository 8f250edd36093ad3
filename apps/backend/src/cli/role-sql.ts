import { parseTableName } from '@moonlink/core'
import { hostedServices, roleSql, type HostedService } from '@moonlink/pg-source'
import { tableArgument, usageError } from './exit.ts'

export { hostedServices }

export interface RoleSqlFlags {
  readonly table: readonly string[]
  readonly database: string
  readonly role: string
  readonly publication: string
  readonly service: string
}

export function roleSqlOf({ table, database, role, publication, service }: RoleSqlFlags): string {
  const known = hostedServices.find((name) => name === service)
  if (known === undefined) throw usageError(`--service must be ${hostedServices.join(', ')}, not "${service}".`)
  const tables = table.map((text) => parseTableName(tableArgument(text)))
  return roleSql({ role, database, publication, tables, service: known satisfies HostedService })
}
