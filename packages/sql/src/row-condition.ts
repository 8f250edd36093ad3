import { visit, type JsonNode } from './visit.ts'

/** Which rows of its one table a statement looks at. */
export interface RowCondition {
  /** The columns it names, in lower case. */
  readonly columns: ReadonlySet<string>
  /** What the table is called in it. */
  readonly alias: string
}

/** Expressions that give the same for a row wherever, and however often, they are asked. */
const PLAIN = new Set(['CONJUNCTION', 'COMPARISON', 'CONSTANT', 'COLUMN_REF', 'OPERATOR', 'BETWEEN', 'CAST'])

/**
 * The `WHERE` of a parsed statement where it can be applied to the rows before the statement sees them; null where there is none, or where that might change the result.
 */
export function rowCondition(statement: unknown): RowCondition | null {
  const node = (statement as JsonNode).node as JsonNode | undefined
  const from = node?.from_table as JsonNode | undefined
  if (node?.type !== 'SELECT_NODE' || from?.type !== 'BASE_TABLE' || node.where_clause === undefined) return null
  // A sample is taken before, and who reads the table twice may want other rows of it.
  if (from.sample !== undefined || node.sample !== undefined || from.column_name_alias !== undefined) return null
  if (node.cte_map !== undefined || tablesIn(statement) !== 1) return null
  const alias = String(from.alias ?? from.table_name)
  const columns = new Set<string>()
  let isPlain = true
  visit(node.where_clause, ({ class: kind, column_names: path, value }) => {
    if (typeof kind === 'string' && !PLAIN.has(kind)) isPlain = false
    if (kind === 'CONSTANT' && isDouble(value as JsonNode)) isPlain = false
    if (kind !== 'COLUMN_REF') return
    const [name, qualifier, ...more] = (path as readonly string[]).map((part) => part.toLowerCase()).toReversed()
    if (more.length > 0 || (qualifier !== undefined && qualifier !== alias.toLowerCase())) isPlain = false
    columns.add(name)
  })
  return isPlain ? { columns, alias } : null
}

/** Such as `1e-1`: printed, it is `0.1`, a decimal, which compares in another way. */
function isDouble({ type }: JsonNode): boolean {
  return (type as JsonNode).id === 'DOUBLE'
}

function tablesIn(statement: unknown): number {
  let count = 0
  visit(statement, (node) => {
    if (node.type === 'BASE_TABLE') count++
  })
  return count
}
