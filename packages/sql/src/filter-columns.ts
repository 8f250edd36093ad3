import { visit, type JsonNode } from './visit.ts'

/** Where DuckDB takes conditions from that it may push down to a scan. */
const CLAUSES = new Set(['where_clause', 'having', 'qualify', 'condition'])

/**
 * Names of the columns, in lower case, that a parsed statement compares with something known, so that a scan may leave out parts of a
 * file. It errs on the side of naming more.
 */
export function filterColumns(statement: unknown): ReadonlySet<string> {
  const names = new Set<string>()
  visit(statement, (node) => {
    for (const [key, clause] of Object.entries(node)) {
      if (!CLAUSES.has(key) || !hasConstant(clause)) continue
      visit(clause, ({ class: kind, column_names: path }) => {
        if (kind === 'COLUMN_REF' && Array.isArray(path)) names.add(String(path.at(-1)).toLowerCase())
      })
    }
  })
  return names
}

/** Classes of expressions that name a column, or may. */
const COLUMNS = new Set(['COLUMN_REF', 'STAR', 'SUBQUERY', 'POSITIONAL_REFERENCE', 'LAMBDA_REF'])

/** Whether a parsed statement only needs to know how many rows its one table has, as `SELECT count(*)` does. It errs towards false. */
export function readsNoColumn(statement: unknown): boolean {
  const node = (statement as JsonNode).node as JsonNode | undefined
  const from = node?.from_table as JsonNode | undefined
  if (node?.type !== 'SELECT_NODE' || from?.type !== 'BASE_TABLE' || from.sample !== undefined || node.sample !== undefined) return false
  // A table expression may join, by columns that no expression names.
  if (node.cte_map !== undefined) return false
  let found = false
  visit(statement, ({ class: kind }) => {
    if (COLUMNS.has(String(kind))) found = true
  })
  return !found
}

function hasConstant(clause: unknown): boolean {
  let found = false
  visit(clause, ({ class: kind }) => {
    if (kind === 'CONSTANT' || kind === 'PARAMETER') found = true
  })
  return found
}
