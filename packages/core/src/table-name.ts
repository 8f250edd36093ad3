import { MoonlinkError } from './errors.ts'

/** A table's name in the source; the schema is also the Iceberg namespace. */
export interface TableName {
  readonly schema: string
  readonly name: string
}

/**
 * `schema.name`, as `parseTableName` reads it: no two tables are written alike. As in SQL, double quotes are around a schema that has a dot or begins with a
 * quote, and a name that begins with one; nothing else needs them.
 */
export function formatTableName({ schema, name }: TableName): string {
  return `${/^"|\./.test(schema) ? quoted(schema) : schema}.${name.startsWith('"') ? quoted(name) : name}`
}

/**
 * Reads `schema.name`, either part in double quotes or without them. Without them the schema ends at the first dot, the table's own name may have dots, and letters keep
 * their case. Throws `invalid`/`TABLE_NAME`.
 */
export function parseTableName(text: string): TableName {
  const parts = /^("(?:[^"]|"")+"|[^".][^.]*)\.("(?:[^"]|"")+"|[^"].*)$/s.exec(text)
  if (parts === null)
    throw new MoonlinkError('invalid', 'TABLE_NAME', `"${text}" is not a table name; write schema.name, as in public.orders.`)
  return { schema: unquoted(parts[1]), name: unquoted(parts[2]) }
}

/** A name as `formatTableName` writes it, however it is quoted. Throws `invalid`/`TABLE_NAME`. */
export function canonicalTableName(text: string): string {
  return formatTableName(parseTableName(text))
}

function quoted(part: string): string {
  return `"${part.replaceAll('"', '""')}"`
}

function unquoted(part: string): string {
  return part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part
}
