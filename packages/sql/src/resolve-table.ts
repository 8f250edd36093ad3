import { MoonlinkError } from '@moonlink/core'
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
  const written = schema === null ? name : `${schema}.${name}`
  for (const fold of [(text: string) => text, (text: string) => text.toLowerCase()]) {
    const matches = readable.filter((table) => matchesName(fold(table), schema === null ? null : fold(schema), fold(name)))
    const inPublic = matches.filter((table) => fold(table) === `public.${fold(name)}`)
    if (schema === null && inPublic.length === 1) return inPublic[0]
    if (matches.length === 1) return matches[0]
    if (matches.length > 1) {
      throw new MoonlinkError('invalid', 'TABLE_AMBIGUOUS', `"${written}" may be ${matches.join(' or ')}. Write the one you mean.`, {
        context: { table: written, candidates: matches },
      })
    }
  }
  throw new MoonlinkError('invalid', 'TABLE_UNKNOWN', `no table "${written}". ${knownTables(readable)}`, { context: { table: written } })
}

/** A qualified name is compared as a whole, since both of its parts may contain dots. */
function matchesName(table: string, schema: string | null, name: string): boolean {
  return schema === null ? table.endsWith(`.${name}`) : table === `${schema}.${name}`
}

function knownTables(readable: readonly string[]): string {
  if (readable.length === 0) return 'No table can be read yet.'
  const listed = readable.toSorted().slice(0, MAX_LISTED).join(', ')
  return `There ${readable.length === 1 ? 'is' : 'are'} ${listed}${readable.length > MAX_LISTED ? ` and ${readable.length - MAX_LISTED} more` : ''}.`
}
