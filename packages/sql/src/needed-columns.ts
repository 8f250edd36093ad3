import type { TablePlan } from '@moonlink/union-read'
import { visit, type JsonNode } from './visit.ts'

/** Expressions that take columns without naming them. */
const UNNAMED = new Set(['STAR', 'POSITIONAL_REFERENCE'])

/**
 * Names, in lower case, of all that may be a column in a parsed statement; null where it takes columns that it does not name. It errs on the side of naming more.
 */
export function neededColumns(statement: unknown): ReadonlySet<string> | null {
  const names = new Set<string>()
  const relations = new Set<string>()
  let takesAll = false
  visit(statement, (node) => {
    if (UNNAMED.has(String(node.class))) takesAll = true
    // A pivot groups by all columns that it does not name.
    if (node.type === 'PIVOT' || node.ref_type === 'NATURAL' || node.column_name_alias !== undefined) takesAll = true
    if (node.class === 'COLUMN_REF') addAll(names, node.column_names)
    addAll(names, node.using_columns)
    if (node.type === 'BASE_TABLE') addAll(relations, [node.table_name, node.alias])
  })
  // A table's name is also that of its whole row.
  return takesAll || [...relations].some((name) => names.has(name)) ? null : names
}

/** The plan with those of its columns alone; of all where names that differ by case can't be told apart. */
export function narrowed(plan: TablePlan, columns: ReadonlySet<string> | null): TablePlan {
  const { fields } = plan.schema
  const lower = fields.map((field) => field.name.toLowerCase())
  if (columns === null || new Set(lower).size < lower.length) return plan
  const kept = fields.filter((_, index) => columns.has(lower[index]))
  // Rows are counted by what they have.
  return { ...plan, schema: { ...plan.schema, fields: kept.length > 0 ? kept : fields.slice(0, 1) } }
}

function addAll(names: Set<string>, added: JsonNode[string]): void {
  for (const name of Array.isArray(added) ? added : []) if (typeof name === 'string') names.add(name.toLowerCase())
}
