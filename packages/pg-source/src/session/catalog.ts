import { formatTableName, MoonlinkError, type TableName, type TableSchema } from '@moonlink/core'
import pg from 'pg'
import type { MirroredTable } from '../decode/index.ts'
import { isWhollySendable, joinTypes, mapColumn, type MappedColumn, type MappingOptions } from '../types/index.ts'
import { readTables, type PartitionRow, type RelationRow } from './catalog-rows.ts'
import type { CatalogConnection } from './connect.ts'
import type { Publications } from './publication-state.ts'
import { publishedAs, type Published } from './published.ts'

/** A table of the source and whether it can be mirrored. */
export type TableListing =
  | {
      readonly table: TableName
      readonly mirrorable: true
      readonly schema: TableSchema
      /** Only its inserts and truncates are mirrored, as configured. */
      readonly appendOnly: boolean
      /** Rows by the source's own statistics; null if it has none. */
      readonly estimatedRows: number | null
      /** What a reader of the mirror should know, one line each: columns left out. */
      readonly notes: readonly string[]
    }
  | { readonly table: TableName; readonly mirrorable: false; readonly code: string; readonly reason: string }

/** A table that can be mirrored, with all that the stream and the copy need. */
export interface DescribedTable extends MirroredTable {
  readonly excluded: ReadonlySet<string>
  readonly relationOid: number
  readonly appendOnly: boolean
  /** The publication's row filter, an SQL expression over the table's columns; null where all rows are published. */
  readonly filter: string | null
  /** The leaves of a partitioned table, by object id, as the catalog has them now; null for other tables. */
  readonly partitions: readonly PartitionRow[] | null
  readonly estimatedRows: number | null
  readonly notes: readonly string[]
  /** Can be read by ranges of row addresses. */
  readonly isHeap: boolean
  readonly isOwned: boolean
  /** Columns whose values a stream must bring in one form; a stream has one for all. */
  readonly streamForms: readonly StreamForm[]
}

/** A column and the one form in which its values can be read from a stream. */
export interface StreamForm {
  readonly form: 'binary' | 'text'
  readonly column: string
  readonly typeName: string
}

export interface CatalogOptions {
  readonly excludeColumns: Readonly<Record<string, readonly string[]>>
  readonly appendOnly: readonly string[]
  readonly mapping: MappingOptions
  readonly publications: Publications
  readonly versionNumber: number
}

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

export function toListing(entry: Described): TableListing {
  if ('refusal' in entry) return { table: entry.table, mirrorable: false, code: entry.refusal.code, reason: entry.refusal.message }
  const { table, schema, appendOnly, estimatedRows, notes } = entry.described
  return { table, mirrorable: true, schema, appendOnly, estimatedRows, notes }
}

function describe(table: TableName, row: RelationRow, options: CatalogOptions): DescribedTable {
  const name = formatTableName(table)
  refuseKind(name, row)
  refusePartition(name, row, options)
  refuseAccess(name, row)
  const key = identityColumns(row)
  const published = publishedAs(row, options.appendOnly.includes(name), options.publications, options.versionNumber)
  const { appendOnly, filter } = published
  if (!appendOnly) {
    refuseIdentity(name, row, key)
    refuseUnsentIdentity(name, row, published, options.versionNumber)
    refusePartitionIdentity(name, row, key)
  }
  const wanted = new Set(options.excludeColumns[name] ?? [])
  const { columns, excluded, notes, streamForms } = mapColumns(table, row, key, { wanted, published }, options.mapping)
  if (filter !== null) notes.push(`rows are filtered by the publication: only those with ${filter.replaceAll(/\s+/g, ' ')}`)
  if (appendOnly && !options.appendOnly.includes(name)) notes.push('append-only: the publication publishes no updates and deletes')
  return {
    table,
    schema: { fields: columns.flatMap(({ field, textField }) => (textField ? [field, textField] : [field])), identifierFieldIds: key },
    columns,
    excluded,
    relationOid: row.oid,
    appendOnly,
    filter,
    partitions: row.kind === 'p' ? row.partitions : null,
    estimatedRows: row.estimatedRows < 0 ? null : row.estimatedRows,
    notes,
    isHeap: row.kind === 'p' || row.accessMethod === 'heap',
    isOwned: row.isOwned,
    streamForms,
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

/**
 * Attribute numbers by which the source names old rows, in key order: those of the replica identity's index where one is chosen,
 * else of the primary key. Empty where whole rows do, or nothing does.
 */
function identityColumns(row: RelationRow): readonly number[] {
  // A deferrable key may hold duplicates within a transaction; Postgres takes none for an identity.
  const index = row.keys.find((key) => key.isImmediate && (row.replicaIdentity === 'i' ? key.isReplicaIdentity : key.isPrimary))
  return index?.columns ?? []
}

function refuseIdentity(name: string, row: RelationRow, key: readonly number[]): void {
  if (row.replicaIdentity === 'f' || (key.length > 0 && row.replicaIdentity !== 'n')) return
  const why = row.replicaIdentity === 'n' ? 'has REPLICA IDENTITY NOTHING' : 'has no primary key'
  throw new MoonlinkError(
    'invalid',
    'TABLE_NO_IDENTITY',
    `${name} ${why}: once published, Postgres would refuse its updates and deletes. Run ALTER TABLE ${quoted(row)} REPLICA IDENTITY FULL, give it a primary key, or list it as append-only (source.appendOnly).`,
    { context: { table: name } },
  )
}

interface MappedColumns {
  readonly columns: MappedColumn[]
  readonly excluded: ReadonlySet<string>
  readonly notes: string[]
  readonly streamForms: StreamForm[]
}

function mapColumns(
  table: TableName,
  row: RelationRow,
  key: readonly number[],
  { wanted, published }: { readonly wanted: ReadonlySet<string>; readonly published: Published },
  mapping: MappingOptions,
): MappedColumns {
  const name = formatTableName(table)
  refuseUnknown(name, row, wanted, 'source.excludeColumns')
  refuseUnknown(name, row, Object.keys(mapping.policy.columns[name] ?? {}), 'source.columns')
  const typeOf = joinTypes(row.types)
  const streamForms: StreamForm[] = []
  const excluded = new Set<string>()
  const notes: string[] = []
  const columns: MappedColumn[] = []
  for (const column of row.columns) {
    const isSent = published.sends(column)
    const { typeName, typmod, dimensions, number } = column
    const type = typeOf(column.typeOid)
    if (!wanted.has(column.name) && isSent) {
      const isKey = key.includes(number)
      const required = column.isNotNull || isKey
      const source = { name: column.name, number, type, typmod, dimensions, typeName, required, isKey }
      const mapped = mapColumn(table, source, mapping)
      columns.push(mapped)
      if (mapped.streamForm !== 'any') streamForms.push({ form: mapped.streamForm, column: column.name, typeName })
      if (mapped.streamForm === 'text') notes.push(textNote(column.name, typeName))
      continue
    }
    // It may be published all the same.
    if (type.isSendable && !isWhollySendable(type)) streamForms.push({ form: 'text', column: column.name, typeName })
    if (key.includes(column.number)) {
      throw new MoonlinkError(
        'invalid',
        'COLUMN_IN_KEY',
        `${name}: column "${column.name}" is part of the key and can't be left out${isSent ? '' : ', yet it is not published'}. Choose another replica identity: ALTER TABLE ${quoted(row)} REPLICA IDENTITY FULL or USING INDEX.`,
        { context: { table: name, column: column.name } },
      )
    }
    excluded.add(column.name)
    notes.push(
      isSent
        ? `column "${column.name}" is left out, as configured`
        : `column "${column.name}" is ${column.generated === '' ? 'not published' : 'generated, and not published'}: left out`,
    )
  }
  if (columns.length === 0) throw refusal(name, 'has no column to mirror')
  refuseSameNames(name, columns)
  refuseReservedNames(name, columns)
  refuseTaken(name, columns)
  return { columns, excluded, notes, streamForms }
}

function textNote(column: string, typeName: string): string {
  return `column "${column}" has type ${typeName}, whose binary form is not known here: the whole stream comes as text, which takes longer`
}

function refuseUnknown(name: string, row: RelationRow, columns: Iterable<string>, setting: string): void {
  for (const column of columns) {
    if (row.columns.some((known) => known.name === column)) continue
    throw new MoonlinkError('invalid', 'COLUMN_UNKNOWN', `${name} has no column "${column}". Take it out of ${setting}, or correct it.`, {
      context: { table: name, column },
    })
  }
}

/** Names of Iceberg's metadata columns ("Reserved Field IDs" in the specification): Spark refuses a table that has one of its own. */
const RESERVED_NAMES: ReadonlySet<string> = new Set([
  '_file',
  '_pos',
  '_deleted',
  '_spec_id',
  '_partition',
  '_row_id',
  '_last_updated_sequence_number',
])

function refuseReservedNames(name: string, columns: readonly MappedColumn[]): void {
  const reserved = columns.find((column) => RESERVED_NAMES.has(column.name.toLowerCase()))
  if (reserved === undefined) return
  throw refusal(
    name,
    `has a column "${reserved.name}", a name that Iceberg keeps for itself. Rename it, or leave it out with source.excludeColumns: {${name}: [${reserved.name}]}`,
  )
}

/** Spark and DuckDB take names without regard to case: one such column would be read as the other. */
function refuseSameNames(name: string, columns: readonly MappedColumn[]): void {
  const seen = new Map<string, string>()
  for (const column of columns) {
    const folded = column.name.toLowerCase()
    const other = seen.get(folded)
    if (other !== undefined) {
      throw refusal(
        name,
        `has columns "${other}" and "${column.name}", which differ only in case, and readers can't tell them apart. Rename one, or leave it out with source.excludeColumns: {${name}: [${column.name}]}`,
      )
    }
    seen.set(folded, column.name)
  }
}

/** The column for what does not fit must not meet another. */
function refuseTaken(name: string, columns: readonly MappedColumn[]): void {
  for (const { textField } of columns) {
    if (textField === null || !columns.some((column) => column.name.toLowerCase() === textField.name.toLowerCase())) continue
    throw new MoonlinkError(
      'invalid',
      'COLUMN_TAKEN',
      `${name} has a column "${textField.name}" already, which onUnfit: text would need. Choose error or null for that column in source.columns.`,
      { context: { table: name, column: textField.name } },
    )
  }
}

function refusal(name: string, why: string): MoonlinkError {
  return new MoonlinkError('invalid', 'TABLE_UNSUPPORTED', `${name} ${why}.`, { context: { table: name } })
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

/** `"schema"."name"`, for a statement. */
export function quoted(table: TableName): string {
  return `${pg.escapeIdentifier(table.schema)}.${pg.escapeIdentifier(table.name)}`
}
