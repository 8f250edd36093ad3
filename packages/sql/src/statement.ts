import { MoonlinkError } from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'
import { filterColumns, readsNoColumn } from './filter-columns.ts'
import { Mutex } from './mutex.ts'
import { neededColumns } from './needed-columns.ts'
import { rowCondition, type RowCondition } from './row-condition.ts'
import { sqlError } from './sql-error.ts'
import { visit, type JsonNode } from './visit.ts'
import { wantedRows } from './wanted-rows.ts'

/** A table as a statement names it. `schema` is null for a bare name. */
export interface TableReference {
  readonly schema: string | null
  readonly name: string
}

/** A statement that only reads. */
export interface Statement {
  readonly kind: 'select' | 'show-tables'
  /** What to run: one statement without a trailing semicolon's company. */
  readonly sql: string
  /** Each table once. Names of common table expressions are not among them. */
  readonly tables: readonly TableReference[]
  /** Columns that conditions with constants name, in lower case; see `filterColumns`. */
  readonly conditions: ReadonlySet<string>
  /** True where only the number of the table's rows matters. */
  readonly onlyCounts: boolean
  /** It may ask for the least or greatest value of a column. */
  readonly asksExtremes: boolean
  /** How many rows of its one table it wants, whichever they are; null where it may need all of them. */
  readonly wantedRows: number | null
  /** Columns it names, in lower case, and more; null where it may need all. See `neededColumns`. */
  readonly columns: ReadonlySet<string> | null
  /** Which rows of its one table it looks at; null where it may be all. */
  readonly rows: RowCondition | null
  /** It shows how it would be run, and is not. */
  readonly onlyExplains: boolean
}

/** Table functions that read nothing but their arguments. */
const TABLE_FUNCTIONS = new Set(['unnest', 'range', 'generate_series', 'repeat', 'repeat_row', 'json_each', 'json_tree'])

/** Scalar functions that change something. */
const REFUSED_FUNCTIONS = new Set(['nextval', 'currval', 'write_log', 'setseed', 'getvariable'])

/** Aggregates that DuckDB answers from the bounds of files. */
const EXTREMES = new Set(['min', 'max'])

const NO_TABLES = {
  tables: [],
  conditions: new Set<string>(),
  onlyCounts: false,
  asksExtremes: false,
  wantedRows: null,
  columns: null,
  rows: null,
  onlyExplains: false,
}

/** Prints `SELECT condition`. */
const CONDITION_TEXT = `
  SELECT json_deserialize_sql(json_merge_patch(plain, json_object('statements', json_array(
    json_merge_patch(plain->'$.statements[0]', json_object('node', json_object('select_list', json_array(condition))))))))
  FROM (SELECT json_serialize_sql($1::VARCHAR)::JSON->'$.statements[0].node.where_clause' AS condition, json_serialize_sql('SELECT 1')::JSON AS plain)`

const MAX_REMEMBERED = 256
const MAX_REMEMBERED_LENGTH = 10_000

/** Understands statements through DuckDB's own parser, which can print a `SELECT` as JSON and refuses everything else. */
export class StatementParser {
  private readonly connection: DuckDBConnection
  private readonly mutex = new Mutex()
  private readonly remembered = new Map<string, Statement>()

  constructor(connection: DuckDBConnection) {
    this.connection = connection
  }

  /** Throws `invalid`/`SQL_ERROR` for a syntax error, `invalid`/`SQL_NOT_ALLOWED` for anything that is not one reading statement. */
  async parse(sql: string): Promise<Statement> {
    const known = this.remembered.get(sql)
    if (known) return known
    const statement = await this.understand(sql)
    if (sql.length <= MAX_REMEMBERED_LENGTH) this.remembered.set(sql, statement)
    if (this.remembered.size > MAX_REMEMBERED) this.remembered.delete(this.remembered.keys().next().value!)
    return statement
  }

  /** The `WHERE` of a statement that has `rows`, as SQL. Its parts never pass through JavaScript, whose numbers could not hold all of them. */
  conditionText(statement: Statement): Promise<string> {
    return this.mutex.run(async () => {
      const result = await this.connection.runAndReadAll(CONDITION_TEXT, [splitExplain(statement.sql).body])
      return (result.getRows()[0][0] as string).replace(/^SELECT /, '')
    })
  }

  close(): void {
    this.connection.closeSync()
  }

  private async understand(sql: string): Promise<Statement> {
    const { prefix, body } = splitExplain(sql)
    const parsed = await this.serialize(body)
    if (parsed.error === true) throw parseError(parsed)
    const statements = (parsed.statements ?? []) as readonly JsonNode[]
    if (statements.length !== 1) {
      throw notAllowed(statements.length === 0 ? 'there is no statement' : `there are ${statements.length} statements`)
    }
    if (prefix === '' && isShowTables(statements[0])) return { ...NO_TABLES, kind: 'show-tables', sql: body }
    const tables = new Map<string, TableReference>()
    collect(statements[0], new Set(), tables)
    return {
      kind: 'select',
      sql: prefix + body,
      tables: [...tables.values()],
      conditions: filterColumns(statements[0]),
      onlyCounts: readsNoColumn(statements[0]),
      asksExtremes: callsAny(statements[0], EXTREMES),
      wantedRows: wantedRows(statements[0]),
      columns: neededColumns(statements[0]),
      rows: rowCondition(statements[0]),
      onlyExplains: prefix !== '' && !/analyze/i.test(prefix),
    }
  }

  private serialize(sql: string): Promise<JsonNode> {
    return this.mutex.run(async () => {
      try {
        const result = await this.connection.runAndReadAll(
          'SELECT json_serialize_sql($1::VARCHAR, skip_null := true, skip_empty := true)',
          [sql],
        )
        return JSON.parse(result.getRows()[0][0] as string) as JsonNode
      } catch (error) {
        throw sqlError(error)
      }
    })
  }
}

// A comment ends in one way only: more ways are exponentially many, for many comments.
const GAP = String.raw`(?:\s|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)`
const EXPLAIN = new RegExp(`^${GAP}*explain(?:${GAP}+(analyze))?(?:${GAP}*\\(${GAP}*((?:format|analyze)[\\w\\s,]*)\\))?(?=[\\s(/-])`, 'i')

/** DuckDB prints only a `SELECT` as JSON, so what stands before it is taken off and put back. */
function splitExplain(sql: string): { prefix: string; body: string } {
  const match = EXPLAIN.exec(sql)
  if (!match) return { prefix: '', body: sql }
  const options = match[2] === undefined ? '' : `(${match[2]}) `
  return { prefix: `EXPLAIN ${match[1] === undefined ? '' : 'ANALYZE '}${options}`, body: sql.slice(match[0].length) }
}

function parseError(parsed: JsonNode): MoonlinkError {
  if (parsed.error_type === 'not implemented') return notAllowed('this statement does more than read')
  const position = parsed.position === undefined ? {} : { position: Number(parsed.position) }
  return new MoonlinkError('invalid', 'SQL_ERROR', `Parser Error: ${String(parsed.error_message)}`, { context: position })
}

function notAllowed(what: string): MoonlinkError {
  return new MoonlinkError(
    'invalid',
    'SQL_NOT_ALLOWED',
    `${what}. Send one SELECT, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW TABLES or EXPLAIN; write to the source instead.`,
  )
}

function callsAny(statement: JsonNode, names: ReadonlySet<string>): boolean {
  let found = false
  visit(statement, ({ class: kind, function_name: name }) => {
    if (kind === 'FUNCTION' && names.has(String(name).toLowerCase())) found = true
  })
  return found
}

function isShowTables(statement: JsonNode): boolean {
  const node = statement.node as JsonNode | undefined
  const from = node?.from_table as JsonNode | undefined
  if (node?.type !== 'SELECT_NODE' || from?.type !== 'SHOW_REF' || from.query !== undefined) return false
  return from.table_name === '"tables"' || from.table_name === '__show_tables_expanded'
}

/** Walks the tree. `hidden` are the names of common table expressions in scope, in lower case. */
function collect(value: unknown, hidden: ReadonlySet<string>, into: Map<string, TableReference>): void {
  if (Array.isArray(value)) {
    for (const item of value) collect(item, hidden, into)
    return
  }
  if (typeof value !== 'object' || value === null) return
  const node = value as JsonNode
  check(node)
  if (node.type === 'BASE_TABLE') addTable(node, hidden, into)
  const inScope = collectExpressions(node, hidden, into)
  for (const [key, child] of Object.entries(node)) if (key !== 'cte_map') collect(child, inScope, into)
}

/** Each common table expression sees those before it, and itself where it is recursive; the rest of the node sees them all. */
function collectExpressions(node: JsonNode, hidden: ReadonlySet<string>, into: Map<string, TableReference>): ReadonlySet<string> {
  const entries = ((node.cte_map as JsonNode | undefined)?.map ?? []) as readonly { readonly key: string; readonly value: JsonNode }[]
  const ownName = node.type === 'RECURSIVE_CTE_NODE' || node.type === 'CTE_NODE' ? String(node.cte_name).toLowerCase() : null
  if (entries.length === 0 && ownName === null) return hidden
  const inScope = new Set(hidden)
  if (ownName !== null) inScope.add(ownName)
  for (const { key, value } of entries) {
    collect(value, inScope, into)
    inScope.add(key.toLowerCase())
  }
  return inScope
}

function addTable(node: JsonNode, hidden: ReadonlySet<string>, into: Map<string, TableReference>): void {
  const name = String(node.table_name)
  const schema = typeof node.schema_name === 'string' && node.schema_name !== '' ? node.schema_name : null
  if (typeof node.catalog_name === 'string' && node.catalog_name !== '') {
    throw new MoonlinkError('invalid', 'SQL_NOT_ALLOWED', `"${node.catalog_name}.${schema}.${name}" has three parts. Write schema.table.`)
  }
  if (schema === null && hidden.has(name.toLowerCase())) return
  into.set(JSON.stringify([schema, name]), { schema, name })
}

function check(node: JsonNode): void {
  if (node.type === 'TABLE_FUNCTION') {
    const name = String((node.function as JsonNode).function_name).toLowerCase()
    if (TABLE_FUNCTIONS.has(name)) return
    throw new MoonlinkError(
      'invalid',
      'SQL_NOT_ALLOWED',
      `table function ${name} is not available. Read tables by their name, as schema.table.`,
    )
  }
  if (node.class === 'FUNCTION' && REFUSED_FUNCTIONS.has(String(node.function_name).toLowerCase())) {
    throw new MoonlinkError(
      'invalid',
      'SQL_NOT_ALLOWED',
      `function ${String(node.function_name)} is not available in a query that only reads.`,
    )
  }
  if (node.type === 'SHOW_REF' && node.query === undefined) {
    throw new MoonlinkError(
      'invalid',
      'SQL_NOT_ALLOWED',
      `SHOW ${String(node.table_name)} is not available. SHOW TABLES and DESCRIBE schema.table are.`,
    )
  }
}
