import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { INSTALLED_BY, TOLD_SINCE } from './told-since.ts'

/** The transaction (`xid8`) whose event trigger told of the last change; where the catalog was read, `<` and the next one then; null where neither is known. */
const changedBy = z
  .string()
  .regex(/^<?\d{1,20}$/)
  .nullable()
  .default(null)

export const objectId = z.int().min(0).max(0xffff_ffff)
const int4 = z.int().min(-0x8000_0000).max(0x7fff_ffff)
const int2 = z.int().min(0).max(0x7fff)

const attribute = {
  name: z.string(),
  /** `attnum`; `MaxHeapAttributeNumber` is the highest. */
  number: z.int().min(1).max(1600),
  typeOid: objectId,
  typmod: int4,
  dimensions: int2,
}

const column = z.object({
  ...attribute,
  /** `format_type(atttypid, atttypmod)` */
  typeName: z.string(),
  isNotNull: z.boolean(),
  /** `attgenerated`: empty, s stored, v virtual. */
  generated: z.string(),
  /** Text of what rows hold that were stored before the column was added (`attmissingval`); null where they hold null, the table was rewritten since, or it is not known. */
  missing: z.string().nullable().default(null),
  /** What `missing` would be is not known: the partitions disagree, or it is of a type that is not read. */
  isMissingMixed: z.boolean().default(false),
  /** `xmin` of its `pg_attribute` row: another one once the column was altered. */
  stamp: z.string().nullable().default(null),
})

const type = z.object({
  oid: objectId,
  name: z.string(),
  schema: z.string(),
  extension: z.string().nullable(),
  kind: z.string(),
  isSendable: z.boolean(),
  delimiter: z.string(),
  elementOid: objectId,
  baseOid: objectId,
  baseTypmod: int4,
  baseDimensions: int2,
  partOid: objectId,
  attributes: z.array(z.object(attribute)),
  /** Of an enum: each value's own oid, which a rename leaves alone, and its label. */
  labels: z
    .array(z.tuple([objectId, z.string()]))
    .nullable()
    .default(null),
  changedBy,
})

const key = z.object({
  isPrimary: z.boolean(),
  isReplicaIdentity: z.boolean(),
  /** Checked at once, not at the end of the transaction. */
  isImmediate: z.boolean(),
  /** Attribute numbers, in key order. */
  columns: z.array(int2),
})

export const relationShape = z.object({
  oid: objectId,
  schema: z.string(),
  name: z.string(),
  /** `relreplident`: d default, n nothing, f full, i index. */
  replicaIdentity: z.string(),
  /** `relfilenode`: another one where the table was rewritten, or truncated; null of a partitioned table, which has none. 0 where not known. */
  filenode: objectId.nullable().default(0),
  /** Of a partitioned table, a digest of its leaves, their `relfilenode`s and when they were attached; null where it has none, of another table, and where not known. */
  leaves: z.string().nullable().default(null),
  /** Of a partitioned table, a digest of its leaves and when they were attached; null of another table, and where not known. */
  attached: z.string().nullable().default(null),
  /** Attribute numbers given so far, those of dropped columns included. */
  attributeCount: int2.default(0),
  /** The composite type of its rows (`reltype`); 0 where not known. */
  rowTypeOid: objectId.default(0),
  /** Every change from here on is told, by event triggers that this transaction (`xid8`) installed; null where one may not be. */
  toldSince: z.string().nullable().default(null),
  changedBy,
  columns: z.array(column),
  /** Every type that a column has, and those it is made of. */
  types: z.array(type),
  /** Unique indexes that could name rows. */
  keys: z.array(key),
})

/** All that a mirror of a relation depends on, as the catalog has it. */
export type RelationShape = z.output<typeof relationShape>
export type ShapeColumn = RelationShape['columns'][number]
export type ShapeType = RelationShape['types'][number]

export const shapeType = type

/** Whether rows of both have the same columns, of types with the same values, and are named by the same key. */
export function isSameRelation(a: RelationShape, b: RelationShape): boolean {
  return isDeepStrictEqual(toldOf(a), toldOf(b))
}

/** The same text for as long as nothing changes that rows depend on, whoever looks and when. */
export function markOf(relation: RelationShape): string {
  const types = relation.types.map((type) => ({ ...type, changedBy: null }))
  return JSON.stringify({ ...relation, types, leaves: null, attached: null, changedBy: null, toldSince: null })
}

function toldOf({ columns, keys, replicaIdentity, types }: RelationShape) {
  return {
    columns: columns.map((column) => ({ ...column, missing: null, isMissingMixed: false, stamp: null })),
    replicaIdentity,
    keys: new Set(keys),
    types: new Set(types.map((one) => ({ ...one, changedBy: null }))),
  }
}

const ATTRIBUTE = `'name', a.attname, 'number', a.attnum, 'typeOid', a.atttypid::int8, 'typmod', a.atttypmod, 'dimensions', a.attndims`
const IS_ARRAY = `t.typelem <> 0 AND t.typoutput = 'pg_catalog.array_out'::regproc`
const LIVE = `a.attnum > 0 AND NOT a.attisdropped`

/** SQL for `used`: the types whose object ids `seed` selects, with all that they are made of. */
const usedTypesSql = (seed: string) => `WITH RECURSIVE used(oid) AS (
    ${seed}
    UNION
    SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (
      SELECT t.typelem WHERE ${IS_ARRAY}
      UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
      UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND ${LIVE}
      UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
      UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid) part(oid))`

/** SQL for `ShapeType`s, as a jsonb array: those whose object ids `seed` selects, with all that they are made of. */
export const shapeTypesSql = (seed: string) => `
  ${usedTypesSql(seed)}
  SELECT jsonb_agg(jsonb_build_object(
    'oid', t.oid::int8, 'name', t.typname, 'schema', n.nspname, 'kind', t.typtype, 'isSendable', t.typsend <> 0, 'delimiter', t.typdelim,
    'extension', (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_catalog.pg_type'::regclass
      AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'),
    'elementOid', CASE WHEN ${IS_ARRAY} THEN t.typelem::int8 ELSE 0 END,
    'baseOid', t.typbasetype::int8, 'baseTypmod', t.typtypmod, 'baseDimensions', t.typndims,
    'partOid', coalesce((SELECT CASE WHEN r.rngtypid = t.oid THEN r.rngsubtype ELSE r.rngtypid END::int8 FROM pg_range r
      WHERE t.typtype IN ('r', 'm') AND t.oid IN (r.rngtypid, r.rngmultitypid)), 0),
    'attributes', coalesce((SELECT jsonb_agg(jsonb_build_object(${ATTRIBUTE}) ORDER BY a.attnum) FROM pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND ${LIVE}), '[]'),
    'labels', (SELECT jsonb_agg(jsonb_build_array(e.oid::int8, e.enumlabel) ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)))
  FROM used JOIN pg_type t ON t.oid = used.oid JOIN pg_namespace n ON n.oid = t.typnamespace`

const TYPES = shapeTypesSql(`SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = c.oid AND ${LIVE}`)

/**
 * To print a composite takes a lock on its type (`load_typcache_tupdesc`, src/backend/utils/cache/typcache.c), which an ALTER TYPE holds until its transaction ends,
 * and all that is asked of the catalog would wait behind that. Iceberg holds no default of such a column anyway.
 */
const isUnread = (column: string) =>
  `EXISTS (${usedTypesSql(`SELECT ${column}.atttypid WHERE ${column}.atthasmissing`)} SELECT FROM used JOIN pg_type t ON t.oid = used.oid WHERE t.typtype = 'c')`
const missingText = (column: string) => `CASE WHEN NOT ${isUnread(column)} THEN array_to_string(${column}.attmissingval, '') END`

const MISSING = `'missing', ${missingText('a')}, 'isMissingMixed', ${isUnread('a')}`

/** `partition`: object ids of all that is below partitioned table c. `pg_partition_tree` would lock each, and so wait for whoever locks any of them. */
export const PARTITION = `RECURSIVE partition(oid) AS (
    SELECT i.inhrelid FROM pg_inherits i WHERE c.relkind = 'p' AND i.inhparent = c.oid AND NOT i.inhdetachpending
    UNION ALL SELECT i.inhrelid FROM partition JOIN pg_inherits i ON i.inhparent = partition.oid AND NOT i.inhdetachpending)`

/** A partitioned table has no rows of its own: its partitions say what theirs hold, each by the column's name. */
const MISSING_IN_PARTITIONS = `'missing', CASE WHEN c.relkind = 'r' THEN ${missingText('a')} WHEN c.relkind = 'p' AND leaves.kinds = 1 THEN leaves.missing END,
  'isMissingMixed', CASE WHEN c.relkind = 'r' THEN ${isUnread('a')} ELSE leaves.kinds > 1 OR leaves."isUnread" END`
const FROM_PARTITIONS = `LEFT JOIN LATERAL (
  WITH ${PARTITION} SELECT count(DISTINCT coalesce('=' || ${missingText('l')}, '')) AS kinds, min(${missingText('l')}) AS missing, coalesce(bool_or(${isUnread('l')}), false) AS "isUnread"
  FROM partition JOIN pg_class p ON p.oid = partition.oid AND p.relkind <> 'p'
    JOIN pg_attribute l ON l.attrelid = p.oid AND l.attname = a.attname AND NOT l.attisdropped) leaves ON true`

/**
 * The relations below partitioned table c, for a `WITH RECURSIVE`. One whose detaching is under way is none any more. `attachment`: the transactions that made it
 * a partition, and what it is a part of; to detach deletes their row, so that another attachment has another (`RemoveInheritance`, `StoreSingleInheritance`).
 * `came`: it was something else before, as the row of its type tells, which is made with it.
 */
export const BELOW = `below(oid, attachment, came) AS (
    SELECT i.inhrelid, i.xmin::text, ${cameSql('i')} FROM pg_inherits i WHERE c.relkind = 'p' AND i.inhparent = c.oid AND NOT i.inhdetachpending
    UNION ALL SELECT i.inhrelid, below.attachment || ' ' || i.xmin::text, below.came OR ${cameSql('i')} FROM below
      JOIN pg_inherits i ON i.inhparent = below.oid AND NOT i.inhdetachpending)`

function cameSql(inherits: string): string {
  return `${inherits}.xmin <> (SELECT t.xmin FROM pg_class p JOIN pg_type t ON t.oid = p.reltype WHERE p.oid = ${inherits}.inhrelid)`
}

const LEAVES = `(WITH RECURSIVE ${BELOW} SELECT md5(string_agg(l.oid || ':' || l.relfilenode || ':' || below.attachment, ',' ORDER BY l.oid))
  FROM below JOIN pg_class l ON l.oid = below.oid WHERE l.relkind <> 'p')`

/** SQL for `attached` of `pg_class c`. */
export const ATTACHED = `(WITH RECURSIVE ${BELOW} SELECT md5(coalesce(string_agg(l.oid || ':' || below.attachment, ',' ORDER BY l.oid), ''))
  FROM below JOIN pg_class l ON l.oid = below.oid WHERE c.relkind = 'p' AND l.relkind <> 'p' HAVING c.relkind = 'p')`

/**
 * SQL for the `RelationShape` of `pg_class c`, in `pg_namespace n`, as jsonb. Object ids exceed int4, so they travel as int8. It is the same for
 * whoever runs it; values in it look as the session's settings say.
 */
export const RELATION_SHAPE = `${shapeSql(MISSING, '', TOLD_SINCE)} || jsonb_build_object(
  'changedBy', '<' || pg_snapshot_xmax(pg_current_snapshot())::text, 'leaves', ${LEAVES}, 'attached', ${ATTACHED})`

/** The same for who tells of a change as it is made, when partitions have what a new column's default left in them. */
export const TOLD_SHAPE = shapeSql(MISSING_IN_PARTITIONS, FROM_PARTITIONS, INSTALLED_BY)

function shapeSql(missing: string, from: string, toldSince: string): string {
  return `jsonb_build_object(
  'oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'replicaIdentity', c.relreplident,
  'filenode', nullif(c.relfilenode, 0)::int8, 'attributeCount', c.relnatts,
  'rowTypeOid', c.reltype::int8, 'toldSince', ${toldSince},
  'columns', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      ${ATTRIBUTE}, 'typeName', format_type(a.atttypid, a.atttypmod), 'isNotNull', a.attnotnull, 'generated', a.attgenerated, 'stamp', a.xmin::text,
      ${missing}) ORDER BY a.attnum)
    FROM pg_attribute a ${from} WHERE a.attrelid = c.oid AND ${LIVE}), '[]'),
  'types', coalesce((${TYPES}), '[]'),
  'keys', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'isPrimary', i.indisprimary, 'isReplicaIdentity', i.indisreplident, 'isImmediate', i.indimmediate,
      'columns', to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1])))
    FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND (i.indisprimary OR i.indisreplident)), '[]'))`
}
