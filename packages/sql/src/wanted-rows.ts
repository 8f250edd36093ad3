import type { TablePlan } from '@moonlink/union-read'
import type { JsonNode } from './visit.ts'

/** Parts of a statement that leave its rows as they are, and as many. */
const SELECT_PARTS = new Set(['type', 'modifiers', 'select_list', 'from_table', 'aggregate_handling'])
const TABLE_PARTS = new Set(['type', 'query_location', 'schema_name', 'table_name', 'alias', 'column_name_alias'])
const STAR_PARTS = new Set(['class', 'type', 'query_location', 'columns', 'relation_name', 'exclude_list'])
const LIMIT_PARTS = new Set(['type', 'limit', 'offset'])

/**
 * How many rows of its one table a parsed statement wants, whichever they are, as `SELECT * FROM t LIMIT 100` does; none of any table where it only describes; null where it may need
 * all of them.
 */
export function wantedRows(statement: unknown): number | null {
  const node = (statement as JsonNode).node as JsonNode | undefined
  if (node?.type !== 'SELECT_NODE' || !hasOnly(node, SELECT_PARTS) || node.aggregate_handling !== 'STANDARD_HANDLING') return null
  const from = node.from_table as JsonNode
  if (from.type === 'SHOW_REF' && from.show_type === 'DESCRIBE') return 0
  if (from.type !== 'BASE_TABLE' || !hasOnly(from, TABLE_PARTS)) return null
  if (!(node.select_list as readonly JsonNode[]).every(isColumns)) return null
  const modifiers = (node.modifiers ?? []) as readonly JsonNode[]
  if (modifiers.length !== 1 || modifiers[0].type !== 'LIMIT_MODIFIER' || !hasOnly(modifiers[0], LIMIT_PARTS)) return null
  const limit = constant(modifiers[0].limit)
  const offset = modifiers[0].offset === undefined ? 0 : constant(modifiers[0].offset)
  return limit === null || offset === null ? null : limit + offset
}

/** As much of the plan as surely shows so many rows; all of it where that can't be told. */
export function enoughOf(plan: TablePlan, rows: number): TablePlan {
  const { deletes } = plan
  const alive = (segment: number, count: number, hasDeletes: boolean) =>
    hasDeletes ? count - deletes.base(segment).length - deletes.moved(segment).rows.length - (deletes.endSeq - deletes.firstSeq) : count
  let missing = rows
  const take = <T>(scans: readonly T[], rowsOf: (scan: T) => number): T[] => {
    const taken: T[] = []
    for (const scan of scans) {
      if (missing <= 0) break
      const count = rowsOf(scan)
      if (count <= 0) continue
      taken.push(scan)
      missing -= count
    }
    return taken
  }
  // Nothing has to be made for files without dead rows.
  const cleanFirst = plan.files.toSorted((a, b) => Number(a.hasDeletes) - Number(b.hasDeletes))
  const files = take(cleanFirst, (file) => alive(file.segment, file.recordCount, file.hasDeletes))
  const memory = take(plan.memory, (part) => alive(part.segment, part.rowCount, part.hasDeletes))
  return missing > 0 ? plan : { ...plan, files, memory }
}

function isColumns(expression: JsonNode): boolean {
  return expression.class === 'COLUMN_REF' || (expression.class === 'STAR' && hasOnly(expression, STAR_PARTS))
}

function constant(expression: unknown): number | null {
  const { class: kind, value } = (expression ?? {}) as { readonly class?: string; readonly value?: { readonly value?: unknown } }
  return kind === 'CONSTANT' && Number.isSafeInteger(value?.value) ? (value!.value as number) : null
}

function hasOnly(node: JsonNode, parts: ReadonlySet<string>): boolean {
  return Object.keys(node).every((key) => parts.has(key))
}
