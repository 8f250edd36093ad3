import type { TableName } from '@moonlink/core'
import type { AttributeRow, TypeRow } from '../types/index.ts'
import type { CatalogConnection } from './connect.ts'

/** A relation as the catalog has it. */
export interface RelationRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** `relkind` */
  readonly kind: string
  /** `relpersistence` */
  readonly persistence: string
  readonly isPartition: boolean
  /** The partitioned table that it is a partition of, at the top; null for other tables. */
  readonly root: TableName | null
  /** What a partitioned table's rows are in, by object id. */
  readonly partitions: readonly PartitionRow[]
  /** `relreplident`: d default, n nothing, f full, i index. */
  readonly replicaIdentity: string
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
  readonly columns: readonly ColumnRow[]
  /** Every type that a column has, and those it is made of. */
  readonly types: readonly TypeRow[]
  readonly keys: readonly KeyRow[]
}

export interface ColumnRow extends AttributeRow {
  /** `format_type(atttypid, atttypmod)` */
  readonly typeName: string
  readonly isNotNull: boolean
  /** `attgenerated`: empty, s stored, v virtual. */
  readonly generated: string
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
  /** Names of the columns by which it names old rows, in order; null where whole rows do, or nothing does. */
  readonly identity: readonly string[] | null
}

/** A unique index that could name rows. */
export interface KeyRow {
  readonly isPrimary: boolean
  readonly isReplicaIdentity: boolean
  /** Checked at once, not at the end of the transaction. */
  readonly isImmediate: boolean
  /** Attribute numbers, in key order. */
  readonly columns: readonly number[]
}

const ATTRIBUTE = `'name', a.attname, 'number', a.attnum, 'typeOid', a.atttypid::int8, 'typmod', a.atttypmod, 'dimensions', a.attndims`
const IS_ARRAY = `t.typelem <> 0 AND t.typoutput = 'pg_catalog.array_out'::regproc`

// The types of the columns of table c, with all that they are made of.
const TYPES = `
  WITH RECURSIVE used(oid) AS (
    SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (
      SELECT t.typelem WHERE ${IS_ARRAY}
      UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
      UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
      UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
      UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid) part(oid))
  SELECT jsonb_agg(jsonb_build_object(
    'oid', t.oid::int8, 'name', t.typname, 'schema', n.nspname, 'kind', t.typtype, 'isSendable', t.typsend <> 0, 'delimiter', t.typdelim,
    'extension', (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_catalog.pg_type'::regclass
      AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'),
    'elementOid', CASE WHEN ${IS_ARRAY} THEN t.typelem::int8 ELSE 0 END,
    'baseOid', t.typbasetype::int8, 'baseTypmod', t.typtypmod, 'baseDimensions', t.typndims,
    'partOid', coalesce((SELECT CASE WHEN r.rngtypid = t.oid THEN r.rngsubtype ELSE r.rngtypid END::int8 FROM pg_range r
      WHERE t.typtype IN ('r', 'm') AND t.oid IN (r.rngtypid, r.rngmultitypid)), 0),
    'attributes', coalesce((SELECT jsonb_agg(jsonb_build_object(${ATTRIBUTE}) ORDER BY a.attnum) FROM pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '[]')))
  FROM used JOIN pg_type t ON t.oid = used.oid JOIN pg_namespace n ON n.oid = t.typnamespace`

// The leaves of partitioned table c. One whose detaching is under way is none any more.
const PARTITIONS = `
  WITH RECURSIVE below(oid) AS (
    SELECT i.inhrelid FROM pg_inherits i WHERE c.relkind = 'p' AND i.inhparent = c.oid AND NOT i.inhdetachpending
    UNION ALL SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid AND NOT i.inhdetachpending)
  SELECT jsonb_agg(jsonb_build_object('oid', l.oid::int8, 'schema', ln.nspname, 'name', l.relname, 'kind', l.relkind, 'persistence', l.relpersistence,
    'replicaIdentity', l.relreplident, 'fileNode', l.relfilenode::int8,
    'identity', (SELECT jsonb_agg(a.attname ORDER BY a.attname) FROM pg_index x JOIN pg_attribute a ON a.attrelid = l.oid
      AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1]) WHERE x.indrelid = l.oid AND x.indisvalid AND x.indimmediate
      AND CASE l.relreplident WHEN 'i' THEN x.indisreplident WHEN 'd' THEN x.indisprimary END)) ORDER BY l.oid)
  FROM below JOIN pg_class l ON l.oid = below.oid JOIN pg_namespace ln ON ln.oid = l.relnamespace WHERE l.relkind <> 'p'`

// One statement, so that relations, columns and keys are of one snapshot. Object ids exceed int4, so they travel as int8 in JSON.
const TABLES = `
SELECT jsonb_build_object(
  'oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
  'isPartition', c.relispartition, 'replicaIdentity', c.relreplident, 'estimatedRows', c.reltuples::float8,
  'accessMethod', coalesce(am.amname, ''), 'user', current_user,
  'root', (SELECT jsonb_build_object('schema', rn.nspname, 'name', r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE c.relispartition AND r.oid = pg_partition_root(c.oid)),
  'partitions', coalesce((${PARTITIONS}), '[]'),
  'hasRowSecurity', c.relkind IN ('r', 'p') AND row_security_active(c.oid),
  'maySelect', has_table_privilege(c.oid, 'SELECT'), 'mayUseSchema', has_schema_privilege(n.oid, 'USAGE'),
  'isOwned', pg_has_role(c.relowner, 'USAGE'),
  'columns', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      ${ATTRIBUTE}, 'typeName', format_type(a.atttypid, a.atttypmod), 'isNotNull', a.attnotnull, 'generated', a.attgenerated) ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
  'types', coalesce((${TYPES}), '[]'),
  'keys', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'isPrimary', i.indisprimary, 'isReplicaIdentity', i.indisreplident, 'isImmediate', i.indimmediate,
      'columns', to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1])))
    FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND (i.indisprimary OR i.indisreplident)), '[]')) AS relation
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
