import type { TableName } from '@moonlink/core'
import type { CatalogConnection } from './connect.ts'
import { BELOW, RELATION_SHAPE, type RelationShape } from './relation-shape.ts'
import { INSTALLED_VERSION, ON_TRUNCATE_OID, rowsToldBySql } from './told-since.ts'

/** A relation as the catalog has it, and what we may do with it. */
export interface RelationRow extends RelationShape {
  /** `relkind` */
  readonly kind: string
  /** `relpersistence` */
  readonly persistence: string
  readonly isPartition: boolean
  /** The partitioned table that it is a partition of, at the top; null for other tables. */
  readonly root: TableName | null
  /** What a partitioned table's rows are in, by object id. */
  readonly partitions: readonly PartitionRow[]
  /** Version of the event triggers that tell of schema changes; null where there are none. */
  readonly ddlVersion: number | null
  /** Triggers on partitions are meant to tell of truncations. */
  readonly watchesPartitions: boolean
  /** `reltuples`, -1 where unknown. */
  readonly estimatedRows: number
  /** Name of the table's access method. */
  readonly accessMethod: string
  /** Row-level security applies to us. */
  readonly hasRowSecurity: boolean
  readonly maySelect: boolean
  readonly mayUseSchema: boolean
  readonly isOwned: boolean
  /** Who we are. */
  readonly user: string
}

/** A leaf of a partitioned table. */
export interface PartitionRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: string
  readonly persistence: string
  readonly replicaIdentity: string
  /** `relfilenode`; another after a TRUNCATE or a rewrite. */
  readonly fileNode: number
  /** The transaction that wrote its row of `pg_class`, where each other file is written down. */
  readonly changedBy: number
  /** Null where not each change of its rows is told, or streamed; another text once one may have gone untold (`rowsToldBySql`). */
  readonly rowsToldBy: string | null
  /** Another text once it, or what it is a part of, was detached and attached again. */
  readonly attachment: string
  /** It, or what it is a part of, was attached, and not made as a partition. */
  readonly isAttached: boolean
  /** Names of the columns by which it names old rows, in order; null where whole rows do, or nothing does. */
  readonly identity: readonly string[] | null
}

const PARTITIONS = `
  WITH RECURSIVE ${BELOW}
  SELECT jsonb_agg(jsonb_build_object('oid', l.oid::int8, 'schema', ln.nspname, 'name', l.relname, 'kind', l.relkind, 'persistence', l.relpersistence,
    'replicaIdentity', l.relreplident, 'fileNode', l.relfilenode::int8, 'changedBy', l.xmin::text::int8, 'rowsToldBy', ${rowsToldBySql('l.oid')}, 'attachment', below.attachment, 'isAttached', below.came,
    'identity', (SELECT jsonb_agg(a.attname ORDER BY a.attname) FROM pg_index x JOIN pg_attribute a ON a.attrelid = l.oid
      AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1]) WHERE x.indrelid = l.oid AND x.indisvalid AND x.indimmediate
      AND CASE l.relreplident WHEN 'i' THEN x.indisreplident WHEN 'd' THEN x.indisprimary END)) ORDER BY l.oid)
  FROM below JOIN pg_class l ON l.oid = below.oid JOIN pg_namespace ln ON ln.oid = l.relnamespace WHERE l.relkind <> 'p'`

// One statement, so that relations, columns and keys are of one snapshot.
const TABLES = `
SELECT jsonb_build_object(
  'kind', c.relkind, 'persistence', c.relpersistence, 'isPartition', c.relispartition, 'estimatedRows', c.reltuples::float8,
  'accessMethod', coalesce(am.amname, ''), 'user', current_user,
  'root', (SELECT jsonb_build_object('schema', rn.nspname, 'name', r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE c.relispartition AND r.oid = pg_partition_root(c.oid)),
  'ddlVersion', ${INSTALLED_VERSION}, 'watchesPartitions', ${ON_TRUNCATE_OID} IS NOT NULL,
  'partitions', coalesce((${PARTITIONS}), '[]'),
  'hasRowSecurity', c.relkind IN ('r', 'p') AND row_security_active(c.oid),
  'maySelect', has_table_privilege(c.oid, 'SELECT'), 'mayUseSchema', has_schema_privilege(n.oid, 'USAGE'),
  'isOwned', pg_has_role(c.relowner, 'USAGE')) || ${RELATION_SHAPE} AS relation
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

/** Reads every table outside system schemas, by name; or whatever is called what `only` says. */
export async function readTables(connection: Pick<CatalogConnection, 'rows'>, only?: readonly TableName[]): Promise<RelationRow[]> {
  const chosen =
    only === undefined
      ? { where: `c.relkind IN ('r', 'p', 'f')`, values: [] }
      : {
          where: `c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
          values: [only.map((table) => table.schema), only.map((table) => table.name)],
        }
  const rows = await connection.rows<{ relation: RelationRow }>(
    `${TABLES} AND ${chosen.where} ORDER BY n.nspname, c.relname`,
    chosen.values,
  )
  return rows.map((row) => row.relation)
}
