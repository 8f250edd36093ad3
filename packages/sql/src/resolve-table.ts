import { formatTableName, MoonlinkError, parseTableName, type TableName } from '@moonlink/core'
import type { TableReference } from './statement.ts'

/** How many names an error lists. */
const MAX_LISTED = 20

/**
 * The readable table (as `schema.name`) that a statement means. A bare name means the table of schema `public`, else the only
 * table of that name. Names match exactly first, then without regard to case.
 *
 * Throws `invalid`/`TABLE_UNKNOWN` with the names there are, or `invalid`/`TABLE_AMBIGUOUS`.
 */
export function resolveTable({ schema, name }: TableReference, readable: readonly string[]): string {
  const tables = readable.map(parseTableName)
  const written = schema === null ? name : formatTableName({ schema, name })
  for (const fold of [(text: string) => text, (text: string) => text.toLowerCase()]) {
    const isMeant = (table: TableName, within: string | null) =>
      fold(table.name) === fold(name) && (within === null || fold(table.schema) === fold(within))
    const matches = tables.filter((table) => isMeant(table, schema))
    const inPublic = schema === null ? matches.filter((table) => isMeant(table, 'public')) : []
    const meant = inPublic.length === 1 ? inPublic : matches
    if (meant.length === 1) return formatTableName(meant[0])
    if (matches.length > 1) {
      const candidates = matches.map(formatTableName)
      throw new MoonlinkError('invalid', 'TABLE_AMBIGUOUS', `"${written}" may be ${candidates.join(' or ')}. Write the one you mean.`, {
        context: { table: written, candidates },
      })
    }
  }
  throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `no table "${written}". ${knownTables(readable)}`, { context: { table: written } })
}

function knownTables(readable: readonly string[]): string {
  if (readable.length === 0) return 'No table can be read yet.'
  const listed = readable.toSorted().slice(0, MAX_LISTED).join(', ')
  return `There ${readable.length === 1 ? 'is' : 'are'} ${listed}${readable.length > MAX_LISTED ? ` and ${readable.length - MAX_LISTED} more` : ''}.`
}
