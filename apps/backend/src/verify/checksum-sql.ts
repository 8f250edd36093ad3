import type { Field, TableName, TableSchema } from '@moonlink/core'
import { concatenated, lengthPrefixed, quoteIdentifier, type CanonicalText } from './canonical.ts'

/** The rows of one table on one side. */
export interface TableSide {
  readonly dialect: CanonicalText
  /** The canonical text of a field. */
  readonly textOf: (field: Field) => string
  /** What follows FROM, conditions included. */
  readonly from: string
  readonly schema: TableSchema
}

export function qualified(table: TableName): string {
  return `${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`
}

/** Rows are sorted into buckets by their key, or by all they hold where they have none: so a row and its changed twin share one. */
function keyFields(schema: TableSchema): readonly Field[] {
  if (schema.identifierFieldIds.length === 0) return schema.fields
  return schema.identifierFieldIds.map((id) => schema.fields.find((field) => field.id === id)!)
}

/** One text for a whole row of these fields. */
function rowText({ dialect, textOf }: TableSide, fields: readonly Field[]): string {
  if (fields.length === 0) return `''`
  return concatenated(fields.map((field) => lengthPrefixed(dialect, textOf(field))))
}

/** `more`: what else it shall select. No column goes by its own name, which may be any. */
function digests(side: TableSide, more: readonly string[] = []): string {
  const { dialect, from, schema } = side
  const row = dialect.md5(rowText(side, schema.fields))
  const key = schema.identifierFieldIds.length === 0 ? row : dialect.md5(rowText(side, keyFields(schema)))
  const others = more.map((sql, index) => `, ${sql} AS ${cell(index)}`).join('')
  return `SELECT ${row} AS moonlink_row, ${key} AS moonlink_key${others} FROM ${from}`
}

const cell = (index: number) => `moonlink_${index}`

/** `bucket, rows, sum, sum`: what the rows of each bucket add up to, as sums that do not depend on their order. */
export function bucketSums(side: TableSide, buckets: number): string {
  const { dialect } = side
  const bucket = `${dialect.number('substr(moonlink_key, 1, 8)')} % ${buckets}`
  const sum = (from: number) => `sum(${dialect.number(`substr(moonlink_row, ${from}, 8)`)})`
  return `SELECT ${bucket} AS bucket, count(*), ${sum(9)}, ${sum(17)} FROM (${digests(side)}) d GROUP BY 1`
}

/** `row MD5, key…` of every row in the given buckets; the whole row takes the place of a key where there is none. */
export function bucketRows(side: TableSide, buckets: number, chosen: readonly number[]): string {
  const { dialect, schema, textOf } = side
  const bucket = `${dialect.number('substr(moonlink_key, 1, 8)')} % ${buckets}`
  const key = keyFields(schema).map(textOf)
  const cells = key.map((_, index) => cell(index))
  return `SELECT moonlink_row, ${cells.join(', ')} FROM (${digests(side, key)}) d WHERE ${bucket} IN (${chosen.join(', ')})`
}

/** About how many rows share a bucket. */
const ROWS_PER_BUCKET = 1000
const MAX_BUCKETS = 65_536

/** Few rows share a bucket, so that few have to be looked at where one differs. */
export function bucketCount(rows: number): number {
  return Math.min(MAX_BUCKETS, Math.max(1, Math.ceil(rows / ROWS_PER_BUCKET)))
}
