import { formatTableName, MoonlinkError, type TableName, type TableSchema } from '@moonlink/core'
import pg from 'pg'
import { readTables, type PartitionRow, type RelationRow } from './catalog-rows.ts'
import type { CatalogConnection } from './connect.ts'
import { partitionNotes } from './partition-notes.ts'
import { describeShape, identityColumns, quoted, refusal, type MappedShape, type ShapeOptions } from './describe-shape.ts'
import { addStatement, publishedAs, type Published } from './published.ts'

/** A table of the source and whether it can be mirrored. */
export type TableListing =
  | {
      readonly table: TableName
      readonly mirrorable: true
      readonly schema: TableSchema
      /** What has to be kept to come back to this shape (see `TableShape`). */
      readonly sourceState: string
      /** Only its inserts and truncates are mirrored, as configured. */
      readonly appendOnly: boolean
      /** Rows by the source's own statistics; null if it has none. */
      readonly estimatedRows: number | null
      /** What a reader of the mirror should know, one line each: columns left out. */
      readonly notes: readonly string[]
    }
  | { readonly table: TableName; readonly mirrorable: false; readonly code: string; readonly reason: string }

/** A table that can be mirrored, with all that the stream and the copy need. */
export interface DescribedTable extends MappedShape {
  readonly appendOnly: boolean
  /** `PublishedTable.filterOid` */
  readonly filterOid: number | null
  /** `PublishedTable.edition`; null where no publication has the table. */
  readonly edition: string | null
  /** The leaves of a partitioned table, by object id, as the catalog has them now; null for other tables. */
  readonly partitions: readonly PartitionRow[] | null
  readonly estimatedRows: number | null
  /** Can be read by ranges of row addresses. */
  readonly isHeap: boolean
  readonly isOwned: boolean
}

/** The note on a table of which the publication publishes some rows. */
export const FILTERED = 'rows are filtered by the publication'

export type CatalogOptions = ShapeOptions

export type Described =
  | { readonly table: TableName; readonly described: DescribedTable }
  | { readonly table: TableName; readonly refusal: MoonlinkError }

/**
 * Describes every table of the database outside system schemas, or those named in `only` (views and the like too, so that they
 * can be refused by name; a name that nothing has gives `TABLE_UNKNOWN`).
 */
export async function describeTables(
  connection: CatalogConnection,
  options: CatalogOptions,
  only?: readonly TableName[],
): Promise<Described[]> {
  const rows = (await readTables(connection, only)).filter((row) => only !== undefined || !row.isPartition || isPublished(row, options))
  const described = rows.map((row): Described => {
    const table = { schema: row.schema, name: row.name }
    try {
      return { table, described: describe(table, row, options) }
    } catch (error) {
      if (error instanceof MoonlinkError) return { table, refusal: error }
      throw error
    }
  })
  const found = new Set(rows.map((row) => formatTableName(row)))
  for (const table of only ?? [])
    if (!found.has(formatTableName(table))) described.push({ table, refusal: await unknownTable(connection, table) })
  return described
}

/** `filters`: texts of row filters by `filterOid`, as far as they are known. */
export function toListing(entry: Described, filters: ReadonlyMap<number, string> = new Map()): TableListing {
  if ('refusal' in entry) return { table: entry.table, mirrorable: false, code: entry.refusal.code, reason: entry.refusal.message }
  const { table, schema, sourceState, appendOnly, estimatedRows, filterOid } = entry.described
  const filter = filterOid === null ? undefined : filters.get(filterOid)
  const explain = (note: string) =>
    note === FILTERED && filter !== undefined ? `${note}: only those with ${filter.replaceAll(/\s+/g, ' ')}` : note
  const notes = entry.described.notes.map(explain)
  return { table, mirrorable: true, schema, sourceState, appendOnly, estimatedRows, notes }
}

function describe(table: TableName, row: RelationRow, options: CatalogOptions): DescribedTable {
  const name = formatTableName(table)
  refuseKind(name, row)
  refusePartition(name, row, options)
  refuseAccess(name, row)
  const key = identityColumns(row)
  const published = publishedAs(row, options.appendOnly.includes(name), options.publications, {
    hasIdentity: hasIdentity(row, key),
    versionNumber: options.versionNumber,
  })
  const { appendOnly, edition, filterOid } = published
  if (edition === null && !row.isOwned) refuseForeign(name, row, options)
  if (!appendOnly) {
    refuseIdentity(name, row, key)
    refuseUnsentIdentity(name, row, published, options.versionNumber)
    refusePartitionIdentity(name, row, key)
  }
  const shape = describeShape(table, row, options)
  const notes = [...shape.notes]
  if (filterOid !== null) notes.push(FILTERED)
  if (appendOnly && !options.appendOnly.includes(name)) notes.push('append-only: the publication publishes no updates and deletes')
  if (row.kind === 'p') notes.push(...partitionNotes(row))
  return {
    ...shape,
    appendOnly,
    filterOid,
    edition,
    partitions: row.kind === 'p' ? row.partitions : null,
    estimatedRows: row.estimatedRows < 0 ? null : row.estimatedRows,
    notes,
    isHeap: row.kind === 'p' || row.accessMethod === 'heap',
    isOwned: row.isOwned,
  }
}

const kinds: Readonly<Record<string, string>> = {
  f: 'is a foreign table, whose changes Postgres does not see. Mirror it where it lives',
  v: 'is a view. Mirror the tables beneath it',
  m: 'is a materialized view, whose changes Postgres does not publish. Mirror the tables beneath it',
  S: 'is a sequence. Name a table',
}

function refuseKind(name: string, row: RelationRow): void {
  const kind = kinds[row.kind]
  if (kind !== undefined) throw refusal(name, kind)
  if (row.kind !== 'r' && row.kind !== 'p') throw refusal(name, 'is not a table')
  if (row.persistence === 'u')
    throw refusal(name, `is unlogged, so its changes are not in the log. Run ALTER TABLE ${quoted(row)} SET LOGGED`)
  if (row.persistence === 't') throw refusal(name, 'is temporary, so its changes are not in the log')
}

function isPublished(row: RelationRow, { publications }: CatalogOptions): boolean {
  const name = formatTableName(row)
  return [publications.main, publications.append].some((state) => state?.tables.has(name) === true)
}

/** Of a partition by itself, unless a given publication publishes it so; and of partitions whose changes are not in the log. */
function refusePartition(name: string, row: RelationRow, options: CatalogOptions): void {
  const { main } = options.publications
  const isOurs = main === null || main.isOurs
  if (row.isPartition && isOurs && row.root !== null)
    throw refusal(name, `is a partition of ${formatTableName(row.root)}. Mirror that: its partitions are one table`)
  const foreign = row.partitions.find(({ kind }) => kind === 'f')
  if (foreign)
    throw refusal(name, `has a partition that is a foreign table, ${formatTableName(foreign)}, whose changes Postgres does not see`)
  const unlogged = row.partitions.find(({ persistence }) => persistence !== 'p')
  if (unlogged) {
    throw refusal(name, `has an unlogged partition, whose changes are not in the log. Run ALTER TABLE ${quoted(unlogged)} SET LOGGED`)
  }
}

/**
 * Postgres sends old rows as the partition's replica identity has them, under the name of that of the partitioned table (`logicalrep_write_update`,
 * src/backend/replication/logical/proto.c): where the two differ, it could not be told which row changed.
 */
function refusePartitionIdentity(name: string, row: RelationRow, key: readonly number[]): void {
  const columns = key.map((number) => row.columns.find((column) => column.number === number)!.name).sort()
  const isSame = ({ replicaIdentity, identity }: PartitionRow) =>
    replicaIdentity === 'f' || (row.replicaIdentity !== 'f' && identity !== null && [...identity].sort().join('\0') === columns.join('\0'))
  const other = row.partitions.find((partition) => !isSame(partition))
  if (other === undefined) return
  throw new MoonlinkError(
    'invalid',
    'TABLE_NO_IDENTITY',
    `${name}: its partition ${formatTableName(other)} has another replica identity than the table. Run ALTER TABLE ${quoted(other)} REPLICA IDENTITY FULL.`,
    { context: { table: name, partition: formatTableName(other) } },
  )
}

/** With whole rows as the identity, Postgres refuses updates and deletes of a table that publishes only a part of them. */
function refuseUnsentIdentity(name: string, row: RelationRow, published: Published, versionNumber: number): void {
  if (row.replicaIdentity !== 'f' || versionNumber < 150_000) return
  const unsent = row.columns.find((column) => !published.sends(column) && (column.generated === '' || versionNumber >= 180_000))
  if (unsent === undefined) return
  throw new MoonlinkError(
    'invalid',
    'TABLE_NO_IDENTITY',
    `${name} has REPLICA IDENTITY FULL, and its column "${unsent.name}" is not published: Postgres would refuse its updates and deletes. Run ALTER TABLE ${quoted(row)} REPLICA IDENTITY DEFAULT or USING INDEX, or publish the column where it can be.`,
    { context: { table: name, column: unsent.name } },
  )
}

function refuseAccess(name: string, row: RelationRow): void {
  const denied = (message: string) => new MoonlinkError('invalid', 'PG_SELECT_PRIVILEGE', message, { context: { table: name } })
  if (!row.mayUseSchema) {
    throw denied(
      `user "${row.user}" may not use schema ${row.schema} of ${name}. Run GRANT USAGE ON SCHEMA ${pg.escapeIdentifier(row.schema)} TO ${pg.escapeIdentifier(row.user)}.`,
    )
  }
  if (!row.maySelect)
    throw denied(`user "${row.user}" may not read ${name}. Run GRANT SELECT ON ${quoted(row)} TO ${pg.escapeIdentifier(row.user)}.`)
  if (row.hasRowSecurity) {
    throw denied(
      `row-level security hides rows of ${name} from user "${row.user}". Run ALTER ROLE ${pg.escapeIdentifier(row.user)} BYPASSRLS.`,
    )
  }
}

function hasIdentity({ replicaIdentity }: RelationRow, key: readonly number[]): boolean {
  return replicaIdentity === 'f' || (key.length > 0 && replicaIdentity !== 'n')
}

/** Of a table that has to come into a publication of ours yet. */
function refuseForeign(name: string, row: RelationRow, { publications: { main } }: CatalogOptions): void {
  const publish = main === null ? 'make the publication (moonlink role-sql prints that)' : `run: ${addStatement(main.name, row)}`
  throw new MoonlinkError(
    'invalid',
    'PG_TABLE_OWNER',
    `only its owner may publish ${name}. Make user "${row.user}" a member of the owner's role, or let a superuser ${publish}.`,
    { context: { table: name } },
  )
}

function refuseIdentity(name: string, row: RelationRow, key: readonly number[]): void {
  if (hasIdentity(row, key)) return
  const why = whyUnidentified(row)
  throw new MoonlinkError(
    'invalid',
    'TABLE_NO_IDENTITY',
    `${name} ${why}: once published, Postgres would refuse its updates and deletes. Run ALTER TABLE ${quoted(row)} REPLICA IDENTITY FULL, give it a primary key, or list it as append-only (source.appendOnly).`,
    { context: { table: name } },
  )
}

function whyUnidentified({ replicaIdentity, keys }: RelationRow): string {
  if (replicaIdentity === 'n') return 'has REPLICA IDENTITY NOTHING'
  return keys.some(({ isPrimary }) => isPrimary) ? 'has a primary key that is deferrable, and names no rows' : 'has no primary key'
}

async function unknownTable(connection: CatalogConnection, table: TableName): Promise<MoonlinkError> {
  const name = formatTableName(table)
  const similar = await connection.rows<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND (lower(c.relname) = lower($1) OR left(lower(c.relname), 4) = left(lower($1), 4))
     ORDER BY lower(c.relname) = lower($1) DESC, 1, 2 LIMIT 3`,
    [table.name],
  )
  const hint =
    similar.length > 0
      ? `Similar: ${similar.map(formatTableName).join(', ')}`
      : 'Names are written schema.table, as in public.orders, and case counts'
  return new MoonlinkError('invalid', 'TABLE_UNKNOWN', `the database has no table ${name}. ${hint}.`, { context: { table: name } })
}
