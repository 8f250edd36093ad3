import { formatTableName, MoonlinkError, type TableName } from '@moonlink/core'
import pg from 'pg'
import { quoted, type DescribedTable } from './catalog.ts'
import { explained, type CatalogConnection } from './connect.ts'
import { messageOf, sqlState } from './errors.ts'

interface PublicationState {
  readonly isAllTables: boolean
  readonly isOwned: boolean
  readonly insert: boolean
  readonly update: boolean
  readonly delete: boolean
  readonly truncate: boolean
  readonly viaRoot: boolean
  /** `schema.name` of what it publishes. */
  readonly tables: readonly string[]
  /** Tables that are listed by themselves, so that they can be dropped by themselves. */
  readonly listed: readonly TableName[]
  readonly filtered: readonly string[]
  readonly columnLists: readonly string[]
}

/** What a publication of ours is for. */
export interface PublicationPlan {
  readonly name: string
  /** Whole changes, or inserts and truncates only. */
  readonly publish: 'all' | 'inserts'
  readonly tables: readonly DescribedTable[]
}

const published = { all: 'insert, update, delete, truncate', inserts: 'insert, truncate' } as const

/**
 * Makes the publication publish the plan's tables: creates it, or adds and drops tables. Never drops and recreates it. Tables that a publication
 * of somebody else's has beyond ours are left alone: their changes are ignored.
 */
export async function ensurePublication(connection: CatalogConnection, plan: PublicationPlan, database: string): Promise<void> {
  await connection.exclusive(async (client) => {
    const state = await readPublication(client, plan.name)
    if (state === null) {
      if (plan.tables.length === 0 && plan.publish === 'inserts') return
      return createPublication(client, plan, database)
    }
    checkPublication(plan, state)
    const wanted = new Set(plan.tables.map((described) => formatTableName(described.table)))
    const missing = plan.tables.filter((described) => !state.tables.includes(formatTableName(described.table)))
    const surplus = state.isOwned ? state.listed.filter((table) => !wanted.has(formatTableName(table))) : []
    if (missing.length > 0) {
      const sql = `ALTER PUBLICATION ${pg.escapeIdentifier(plan.name)} ADD TABLE ${tableList(missing.map((described) => described.table))}`
      if (!state.isOwned) throw notOwner(plan.name, sql)
      await explained(
        'adding tables to the publication',
        () => client.query(sql),
        (error) => explainAlter(error, plan, missing, sql),
      )
    }
    if (surplus.length > 0) {
      const sql = `ALTER PUBLICATION ${pg.escapeIdentifier(plan.name)} DROP TABLE ${tableList(surplus)}`
      await explained(
        'dropping tables from the publication',
        () => client.query(sql),
        (error) => explainAlter(error, plan, [], sql),
      )
    }
  })
}

/** Checks what is there already, without changing it. */
export async function checkExistingPublication(
  connection: CatalogConnection,
  plan: Pick<PublicationPlan, 'name' | 'publish'>,
): Promise<void> {
  const state = await connection.exclusive((client) => readPublication(client, plan.name))
  if (state) checkPublication(plan, state)
}

export async function publicationExists(connection: CatalogConnection, name: string): Promise<boolean> {
  return (await connection.rows('SELECT FROM pg_publication WHERE pubname = $1', [name])).length > 0
}

export async function dropPublication(connection: CatalogConnection, name: string): Promise<void> {
  const sql = `DROP PUBLICATION IF EXISTS ${pg.escapeIdentifier(name)}`
  await explained(
    'dropping the publication',
    () => connection.rows(sql),
    (error) => (sqlState(error) === '42501' ? notOwner(name, sql) : null),
  )
}

async function readPublication(client: pg.Client, name: string): Promise<PublicationState | null> {
  const found = await client.query<{ state: PublicationState & { oid: number } }>(
    `SELECT jsonb_build_object('oid', oid::int8, 'isAllTables', puballtables, 'isOwned', pg_has_role(pubowner, 'USAGE'), 'insert', pubinsert,
       'update', pubupdate, 'delete', pubdelete, 'truncate', pubtruncate, 'viaRoot', pubviaroot) AS state
     FROM pg_publication WHERE pubname = $1`,
    [name],
  )
  const state = found.rows[0]?.state
  if (!state) return null
  const tables = await client.query<{ name: string }>(
    `SELECT schemaname || '.' || tablename AS name FROM pg_publication_tables WHERE pubname = $1`,
    [name],
  )
  // Row filters and column lists exist since Postgres 15: through JSON the missing columns read as null.
  const listed = await client.query<{ schema: string; name: string; row: { prqual?: unknown; prattrs?: unknown } }>(
    `SELECT n.nspname AS schema, c.relname AS name, to_jsonb(r) AS row
     FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = $1`,
    [state.oid],
  )
  const having = (key: 'prqual' | 'prattrs') =>
    listed.rows.filter(({ row }) => row[key] !== undefined && row[key] !== null).map(formatTableName)
  return {
    ...state,
    tables: tables.rows.map((row) => row.name),
    listed: listed.rows.map(({ schema, name: table }) => ({ schema, name: table })),
    filtered: having('prqual'),
    columnLists: having('prattrs'),
  }
}

function checkPublication(plan: Pick<PublicationPlan, 'name' | 'publish'>, state: PublicationState): void {
  const alter = `ALTER PUBLICATION ${pg.escapeIdentifier(plan.name)}`
  const refuse = (code: string, message: string) => new MoonlinkError('invalid', code, message, { context: { publication: plan.name } })
  const needed = plan.publish === 'all' ? (['insert', 'update', 'delete', 'truncate'] as const) : (['insert', 'truncate'] as const)
  const lacking = needed.filter((operation) => !state[operation])
  if (lacking.length > 0) {
    throw refuse(
      'PG_PUBLICATION_OPERATIONS',
      `publication "${plan.name}" does not publish ${lacking.join(' and ')}. Run ${alter} SET (publish = '${published[plan.publish]}'), or choose another name.`,
    )
  }
  if (plan.publish === 'inserts' && (state.update || state.delete)) {
    throw refuse(
      'PG_PUBLICATION_OPERATIONS',
      `publication "${plan.name}" is for append-only tables, yet publishes updates or deletes. Run ${alter} SET (publish = '${published.inserts}').`,
    )
  }
  const [filtered] = state.filtered
  if (filtered !== undefined) {
    throw refuse(
      'PG_PUBLICATION_FILTER',
      `publication "${plan.name}" filters rows of ${filtered}, which the first copy would not do alike. Drop the filter, or choose another publication.`,
    )
  }
  const [cut] = state.columnLists
  if (cut !== undefined) {
    throw refuse(
      'PG_PUBLICATION_COLUMNS',
      `publication "${plan.name}" has a column list for ${cut}, which is not supported. Drop the list and leave columns out with excludeColumns, or choose another publication.`,
    )
  }
}

async function createPublication(client: pg.Client, plan: PublicationPlan, database: string): Promise<void> {
  const tables = plan.tables.length > 0 ? ` FOR TABLE ${tableList(plan.tables.map((described) => described.table))}` : ''
  const sql = `CREATE PUBLICATION ${pg.escapeIdentifier(plan.name)}${tables} WITH (publish = '${published[plan.publish]}')`
  await explained(
    'creating the publication',
    () => client.query(sql),
    (error) => {
      if (sqlState(error) === '42501' && /database/.test(messageOf(error))) {
        return new MoonlinkError(
          'invalid',
          'PG_CREATE_PRIVILEGE',
          `${messageOf(error)}: the publication "${plan.name}" can't be made. Let the database's owner run GRANT CREATE ON DATABASE ${pg.escapeIdentifier(database)} TO the user, or make it: ${sql}.`,
          { cause: error },
        )
      }
      return explainAlter(error, plan, plan.tables, sql)
    },
  )
}

function explainAlter(error: unknown, plan: PublicationPlan, tables: readonly DescribedTable[], sql: string): MoonlinkError | null {
  if (sqlState(error) !== '42501') return null
  const [foreign] = tables.filter((described) => !described.isOwned)
  if (!foreign) return notOwner(plan.name, sql, error)
  return new MoonlinkError(
    'invalid',
    'PG_TABLE_OWNER',
    `only its owner may publish ${formatTableName(foreign.table)}. Let a superuser run ${sql}, or make the user a member of the owner's role.`,
    { context: { table: formatTableName(foreign.table) }, cause: error },
  )
}

function notOwner(name: string, sql: string, cause?: unknown): MoonlinkError {
  return new MoonlinkError('invalid', 'PG_PUBLICATION_OWNER', `publication "${name}" belongs to another user. Let its owner run: ${sql}.`, {
    context: { publication: name },
    cause,
  })
}

/** ONLY: tables that inherit from ours are not ours. */
function tableList(tables: readonly TableName[]): string {
  return tables.map((table) => `ONLY ${quoted(table)}`).join(', ')
}
