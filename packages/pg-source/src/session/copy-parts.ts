import type { CopyRange } from '@moonlink/core'
import type pg from 'pg'
import type { DescribedTable } from './catalog.ts'
import { quoted } from './describe-shape.ts'
import { condition, rangesLeft } from './copy-ranges.ts'

/** A run of a table's pages that one name reaches: the whole of an ordinary table, a leaf of a partitioned one. */
export interface CopyPart {
  /** For a FROM clause. */
  readonly relation: string
  /** Where its pages begin among those of the table. */
  readonly base: number
  readonly pages: number
  /** Of these pages, with the TOAST of their rows. */
  readonly bytes: number
}

/** For a query over pg_class as `c`. */
export const PAGES_AND_BYTES = `coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int8, 0)::float8 AS pages,
  (coalesce(pg_relation_size(c.oid), 0) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0))::float8 AS bytes`

/** Where a partitioned table's rows lie, as the transaction of `client` sees it. */
export async function partitionParts(client: pg.Client, described: DescribedTable): Promise<CopyPart[]> {
  // What is read of the catalog here obeys the transaction's snapshot; pg_partition_tree would not.
  const { rows } = await client.query<{ schema: string; name: string; pages: number; bytes: number; maySelect: boolean }>(
    `WITH RECURSIVE below(oid) AS (
       SELECT $1::oid UNION ALL SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid AND NOT i.inhdetachpending)
     SELECT n.nspname AS schema, c.relname AS name, ${PAGES_AND_BYTES},
       has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AS "maySelect"
     FROM below JOIN pg_class c ON c.oid = below.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' ORDER BY c.oid`,
    [described.relationOid],
  )
  // Who may read the partitioned table alone has to read it through that.
  if (!rows.every(({ maySelect }) => maySelect)) return [{ relation: quoted(described.table), base: 0, pages: 0, bytes: 0 }]
  let base = 0
  return rows.map(({ pages, bytes, ...name }) => {
    const part = { relation: `ONLY ${quoted(name)}`, base, pages, bytes }
    base += Math.max(1, pages)
    return part
  })
}

/** Ranges that cover all parts, none in two of them; `stepOf` says of how many pages. */
export function rangesOfParts(parts: readonly CopyPart[], stepOf: (part: CopyPart) => number): CopyRange[] {
  return parts.flatMap((part) => {
    const { base, pages } = part
    return rangesLeft(pages, stepOf(part), []).map(({ from, to }) => ({ from: base + from, to: base + (to ?? Math.max(1, pages)) }))
  })
}

/** The FROM clause of the rows of a range that fulfil all conditions. The last range of a part has no end, for pages that came since. */
export function fromClause(
  described: DescribedTable,
  parts: readonly CopyPart[] | null,
  range: CopyRange,
  conditions: readonly (string | null)[],
): string {
  const part = parts?.findLast(({ base }) => base <= range.from) ?? null
  const isLast = part !== null && range.to !== null && range.to >= part.base + Math.max(1, part.pages)
  const own = part === null ? range : { from: range.from - part.base, to: isLast || range.to === null ? null : range.to - part.base }
  const all = [condition(own), ...conditions].filter((text) => text !== null)
  const where = all.length === 0 ? '' : ` WHERE ${all.join(' AND ')}`
  return `FROM ${part?.relation ?? `ONLY ${quoted(described.table)}`}${where}`
}
