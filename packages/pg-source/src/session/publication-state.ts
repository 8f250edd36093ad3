import { formatTableName, type TableName } from '@moonlink/core'
import pg from 'pg'
import { explained, type CatalogConnection } from './connect.ts'

/** How a publication of ours says so, as its comment; any other is somebody's, and is used as it is. */
export const OUR_COMMENT = 'made by Moonlink, which adds and drops its tables'

/** What a publication publishes of one table. */
export interface PublishedTable {
  readonly table: TableName
  /** Attribute numbers of the columns that it lists; null where it lists none: all, as far as they are not generated. */
  readonly columns: ReadonlySet<number> | null
  /** Object id of the `pg_publication_rel` whose row filter picks its rows (see `row-filter.ts`): another one with each change of the filter. Null where all are published. */
  readonly filterOid: number | null
  /**
   * Another text once the publication was altered, or made anew, or the table taken out and put back: changes may have been left out of the stream in between. Of
   * a table that is published with others of a schema or the database, only the former.
   */
  readonly edition: string
}

/** In an edition, in place of a table's own entry. */
const UNLISTED = 0

/** A publication as the catalog has it. */
export interface PublicationState {
  readonly name: string
  readonly isOurs: boolean
  /** We may alter it. */
  readonly isOwned: boolean
  readonly insert: boolean
  readonly update: boolean
  readonly delete: boolean
  readonly truncate: boolean
  /** Partitions are published as the partitioned table. */
  readonly viaRoot: boolean
  /** Stored generated columns are published where no list of columns says otherwise. */
  readonly generated: boolean
  /** What it publishes, by `schema.name`: listed by itself or not. */
  readonly tables: ReadonlyMap<string, PublishedTable>
  /** Tables that are listed by themselves, so that they can be dropped by themselves. */
  readonly listed: readonly ListedTable[]
}

export interface ListedTable extends TableName {
  /** `pg_class.oid` */
  readonly relationOid: number
}

/** The publication for whole changes, and the one for append-only tables; null where they are to be made. */
export interface Publications {
  readonly main: PublicationState | null
  readonly append: PublicationState | null
}

interface PublicationRow {
  readonly oid: number
  readonly pubname: string
  readonly pubinsert: boolean
  readonly pubupdate: boolean
  readonly pubdelete: boolean
  readonly pubtruncate: boolean
  readonly pubviaroot: boolean
  /** Since Postgres 18: n none, s stored. */
  readonly pubgencols?: string
}

interface Found {
  readonly publication: PublicationRow
  /** Changes with each ALTER of the publication itself. */
  readonly version: string
  readonly isOwned: boolean
  readonly comment: string | null
  readonly tables: readonly (TableName & { readonly filterOid: number | null })[]
  readonly listed: readonly (ListedTable & { readonly oid: number; readonly columns?: readonly number[] | string | null })[]
}

// The server's own view locks each table from Postgres 16 on (pg_get_publication_tables, pg_publication.c), so it waits for whoever truncates, rewrites or alters
// one, and all that is asked of the catalog behind it. This is what it shows, without the text of row filters: pg_get_expr locks too.
const PUBLISHABLE = `c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname <> 'pg_catalog' AND n.nspname NOT LIKE 'pg\\_toast%'`
const IN_SCHEMA = 'EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)'
function tablesSql(versionNumber: number): string {
  const inSchema = versionNumber >= 150_000 ? IN_SCHEMA : 'false'
  return `
  WITH RECURSIVE listed AS (
    SELECT c.oid, c.relkind, c.relispartition FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE ${PUBLISHABLE} AND (p.puballtables OR ${inSchema} OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid))),
  below AS (
    SELECT oid, relkind FROM listed WHERE NOT p.pubviaroot
    UNION SELECT c.oid, c.relkind FROM below JOIN pg_inherits i ON i.inhparent = below.oid JOIN pg_class c ON c.oid = i.inhrelid WHERE below.relkind = 'p'),
  published AS (
    SELECT oid FROM listed WHERE p.pubviaroot AND NOT (relispartition AND EXISTS (
      SELECT FROM pg_partition_ancestors(listed.oid) above(oid) JOIN listed o ON o.oid = above.oid::oid WHERE o.oid <> listed.oid))
    UNION ALL SELECT oid FROM below WHERE relkind <> 'p')
  SELECT jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'filterOid',
    (SELECT r.oid::int8 FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid AND to_jsonb(r) ->> 'prqual' IS NOT NULL
      AND NOT p.puballtables AND NOT ${inSchema})))
  FROM published JOIN pg_class c ON c.oid = published.oid JOIN pg_namespace n ON n.oid = c.relnamespace`
}

// One statement, so that all is of one snapshot. Rows travel as JSON, since each server version adds columns.
const publicationsSql = (versionNumber: number) => `
  SELECT to_jsonb(p) AS publication, p.xmin::text AS version, pg_has_role(p.pubowner, 'USAGE') AS "isOwned", obj_description(p.oid, 'pg_publication') AS comment,
    coalesce((${tablesSql(versionNumber)}), '[]') AS tables,
    coalesce((SELECT jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'oid', r.oid::int8, 'relationOid', c.oid::int8, 'columns', to_jsonb(r) -> 'prattrs')) FROM pg_publication_rel r
      JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), '[]') AS listed
  FROM pg_publication p WHERE p.pubname = ANY ($1)`

/** Reads what the publications of these names publish. Waits for nobody's lock. */
export async function readPublications(
  connection: Pick<CatalogConnection, 'rows'>,
  versionNumber: number,
  main: string,
  append: string,
): Promise<Publications> {
  const found = await explained(
    'reading the publications',
    () => connection.rows<Found>(publicationsSql(versionNumber), [[main, append]]),
    () => null,
  )
  const states = found.map(stateOf)
  const named = (name: string) => states.find((state) => state.name === name) ?? null
  return { main: named(main), append: named(append) }
}

function stateOf({ publication, version, isOwned, comment, tables, listed }: Found): PublicationState {
  const lists = new Map(listed.map(({ columns, ...table }) => [formatTableName(table), columns ?? null]))
  const entries = new Map(listed.map(({ oid, ...table }) => [formatTableName(table), oid]))
  const isOurs = comment === OUR_COMMENT
  const origin = isOurs ? '' : givenBy(publication.pubname)
  const published = tables.map(({ filterOid, name, schema }): PublishedTable => {
    const table = { schema, name }
    const list = lists.get(formatTableName(table)) ?? null
    // An int2vector, which servers turn into JSON one way or the other.
    const columns = list === null ? null : new Set(typeof list === 'string' ? list.split(' ').map(Number) : list)
    const edition = `${origin}${[publication.oid, version, entries.get(formatTableName(table)) ?? UNLISTED].join('/')}`
    return { table, columns, filterOid, edition }
  })
  return {
    name: publication.pubname,
    isOurs,
    isOwned,
    insert: publication.pubinsert,
    update: publication.pubupdate,
    delete: publication.pubdelete,
    truncate: publication.pubtruncate,
    viaRoot: publication.pubviaroot,
    generated: publication.pubgencols === 's',
    tables: new Map(published.map((entry) => [formatTableName(entry.table), entry])),
    listed: listed.map(({ name, relationOid, schema }) => ({ schema, name, relationOid })),
  }
}

/** Whether a table is published with all others of a schema or the database, by its edition. */
export function isPublishedWithOthers(edition: string | null): boolean {
  return edition?.endsWith(`/${UNLISTED}`) === true
}

/** How an edition of a publication begins that was not made here. */
export function givenBy(publication: string): string {
  return `given ${publication} `
}

/** What a mirror needs of a publication. 'inserts so far': only the publication says that tables are append-only, and may have been made to by mistake. */
export type WantedOperations = 'inserts' | 'inserts so far' | 'all'

/** The statement that makes a publication publish them. */
export function publishStatement(publication: string, wanted: WantedOperations): string {
  const setting = {
    inserts: `'insert, truncate')`,
    'inserts so far': `'insert, update, delete, truncate'), or 'insert, truncate' where no row is ever changed`,
    all: `'insert, update, delete, truncate')`,
  }[wanted]
  return `ALTER PUBLICATION ${pg.escapeIdentifier(publication)} SET (publish = ${setting}`
}

/** Changes that the mirror of a table needs, as the publication's options name them, and that the publication leaves out. */
export function missingOperations(state: PublicationState, appendOnly: boolean): readonly string[] {
  const needed = appendOnly ? (['insert', 'truncate'] as const) : (['insert', 'update', 'delete', 'truncate'] as const)
  return needed.filter((operation) => !state[operation])
}

/** Publishes inserts and truncates, and nothing else: its tables are append-only. */
export function publishesInsertsOnly(state: PublicationState): boolean {
  return state.insert && !state.update && !state.delete
}
