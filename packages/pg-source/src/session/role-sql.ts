import type { TableName } from '@moonlink/core'
import pg from 'pg'

/** Who runs the server; they differ in how a role may replicate. */
export const hostedServices = ['postgres', 'rds', 'cloudsql', 'azure', 'supabase'] as const
export type HostedService = (typeof hostedServices)[number]

export interface RoleSqlOptions {
  readonly role: string
  readonly database: string
  readonly publication: string
  readonly tables: readonly TableName[]
  readonly service: HostedService
}

const note: Readonly<Record<HostedService, string>> = {
  postgres: 'a superuser (from Postgres 16 on also a role with CREATEROLE and REPLICATION)',
  rds: 'the master user; the parameter group needs rds.logical_replication = 1',
  cloudsql: 'a member of cloudsqlsuperuser with REPLICATION; the instance needs the flag cloudsql.logical_decoding = on',
  azure: 'the server administrator; the server parameter wal_level has to be LOGICAL',
  supabase: 'postgres, in the SQL editor',
}

/**
 * SQL that makes a role with just what a mirror of these tables needs: to log in, to replicate, to read the tables, and a publication that it uses and cannot
 * change. To be run by an administrator who owns the tables or is a member of their owners. Postgres 14 and later.
 */
export function roleSql({ role, database, publication, tables, service }: RoleSqlOptions): string {
  const user = pg.escapeIdentifier(role)
  const names = tables.map(({ schema, name }) => `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(name)}`)
  const schemas = [...new Set(tables.map(({ schema }) => pg.escapeIdentifier(schema)))]
  return [
    `-- Run in database ${database} as ${note[service]}.`,
    ...replicating(user, service),
    `-- Give it a password: \\password ${role}`,
    `GRANT CONNECT ON DATABASE ${pg.escapeIdentifier(database)} TO ${user};`,
    ...schemas.map((schema) => `GRANT USAGE ON SCHEMA ${schema} TO ${user};`),
    ...(names.length === 0 ? [] : [`GRANT SELECT ON ${names.join(', ')} TO ${user};`]),
    '-- A table without a primary key first needs ALTER TABLE … REPLICA IDENTITY FULL: Postgres refuses its updates and deletes otherwise once it is published.',
    `CREATE PUBLICATION ${pg.escapeIdentifier(publication)}${names.length === 0 ? '' : ` FOR TABLE ${names.map((name) => `ONLY ${name}`).join(', ')}`}`,
    `  WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);`,
    '-- A table to be mirrored later needs GRANT SELECT and ALTER PUBLICATION … ADD TABLE, by the same administrator.',
    '-- Schema changes are followed exactly where their place is told: moonlink ddl sql prints what a superuser installs for that.',
    '-- Tables with row-level security: ALTER ROLE … BYPASSRLS, or their hidden rows would be missing.',
    '',
  ].join('\n')
}

function replicating(user: string, service: HostedService): string[] {
  if (service === 'rds') return [`CREATE ROLE ${user} LOGIN;`, `GRANT rds_replication TO ${user};`]
  if (service === 'cloudsql' || service === 'azure') return [`CREATE ROLE ${user} LOGIN;`, `ALTER ROLE ${user} REPLICATION;`]
  return [`CREATE ROLE ${user} LOGIN REPLICATION;`]
}
