import { assert } from '@moonlink/core'
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { KeptStatements, type ReadStatement } from './kept-statements.ts'
import { quoteName } from './sql-text.ts'

/** Where a view goes: a table's name as a statement writes it. */
export interface ViewPlace {
  readonly schema: string | null
  readonly name: string
}

/** A table that views read and that rows are appended to: what it holds is told by how much it holds. */
export interface GrowingTable {
  /** Quoted, with its database. */
  readonly name: string
  readonly rowCount: () => number
}

/** What a statement is to see. */
export interface Scene {
  readonly views: readonly { readonly place: ViewPlace; readonly text: string }[]
  /** The session variables that the views' texts refer to. */
  readonly variables: ReadonlyMap<string, number>
  readonly growing: readonly GrowingTable[]
  /** Data files that the views name. */
  readonly fileCount: number
  /** Whether any is read. DuckDB plans what reads one at each execution, in the transaction that executes it. */
  readonly readsFiles: boolean
}

/** Views in this schema are what bare names mean. */
const BARE_SCHEMA = '$bare'

/** Session variables of plans past are forgotten once there are this many. */
const MAX_VARIABLES = 512

/**
 * A connection with a private catalog, where the views of its current query live; one query at a time. Views and variables stay
 * from query to query, so that a plan that differs from the last only in its numbers costs one short call.
 */
export class Reader {
  readonly connection: DuckDBConnection
  private readonly catalog: string
  private readonly views = new Map<string, string>()
  private readonly schemas = new Set<string>()
  private readonly variables = new Map<string, number>()
  private readonly kept = new KeptStatements()
  private inTransaction = false
  /** What the statement under way was to be planned over, as it was when its transaction began. */
  private state = ''

  private constructor(connection: DuckDBConnection, catalog: string) {
    this.connection = connection
    this.catalog = catalog
  }

  static async open(instance: DuckDBInstance, catalog: string): Promise<Reader> {
    const connection = await instance.connect()
    const bare = `${quoteName(catalog)}.${quoteName(BARE_SCHEMA)}`
    await connection.run(`ATTACH ':memory:' AS ${quoteName(catalog)}; CREATE SCHEMA ${bare}; USE ${bare};`)
    return new Reader(connection, catalog)
  }

  /**
   * Makes the scene's views, sets its variables, and begins a transaction where there has to be one, which holds until `end`; all in one call, since
   * each takes a turn of a thread.
   *
   * The statement must be planned and run in one transaction: DuckDB leaves out conditions that by a table's statistics hold for all of its rows, and
   * those that are appended between planning and running would be read without them. What reads a file has that of its execution.
   */
  async begin(sql: string, scene: Scene): Promise<void> {
    const { views, variables, growing } = scene
    const statements: string[] = []
    if (this.variables.size > MAX_VARIABLES) statements.push(...this.forgetVariables())
    for (const [name, value] of variables) {
      assert(Number.isSafeInteger(value), 'a plan counts in whole numbers', { name, value })
      if (this.variables.get(name) !== value) statements.push(`SET VARIABLE ${name} = ${value}`)
    }
    for (const { place, text } of views) statements.push(...this.viewStatements(place, text))
    this.state = stateOf(scene)
    if (!scene.readsFiles) {
      statements.push('BEGIN TRANSACTION READ ONLY')
      // A transaction has its snapshot of the native tables once it has looked at one.
      if (growing.length > 0 && this.kept.has(sql, this.state)) statements.push(`FROM ${growing[0].name} LIMIT 0`)
      this.inTransaction = true
    }
    try {
      if (statements.length > 0) await this.connection.run(statements.join('; '))
    } catch (error) {
      this.views.clear()
      this.variables.clear()
      // It may have begun.
      await this.end(true).catch(() => undefined)
      throw error
    }
    for (const [name, value] of variables) this.variables.set(name, value)
    for (const { place, text } of views) this.views.set(keyOf(place), text)
  }

  /**
   * The statement that `begin` was told, prepared, before `end`. One that was planned over the same scene, with nothing appended since, comes without
   * planning: that is looked at now that the transaction has its snapshot of the native tables.
   */
  async statement(sql: string, scene: Scene): Promise<ReadStatement> {
    const { state } = this
    const { fileCount } = scene
    const kept = this.kept.has(sql, state) && stateOf(scene) === state ? this.kept.take(sql, state) : null
    return { sql, state, prepared: kept ?? (await this.connection.prepare(sql)), fileCount }
  }

  /** Takes back a statement that was read to its end. */
  keep(statement: ReadStatement, nowMs: number): void {
    this.kept.keep(statement, nowMs)
  }

  /** Drops the statements kept before then, and with them lets go of the files they hold open. */
  sweep(keptBeforeMs: number): void {
    this.kept.sweep(keptBeforeMs)
  }

  /** Ends the transaction, and a result that was not read to its end, which would go on filling its buffer. */
  async end(wasReadToEnd: boolean): Promise<void> {
    if (this.inTransaction) {
      this.inTransaction = false
      await this.connection.run('ROLLBACK')
    } else if (!wasReadToEnd) {
      // Whatever is run next ends it.
      await this.connection.run('SELECT 1')
    }
  }

  close(): void {
    this.kept.sweep(Number.POSITIVE_INFINITY)
    this.connection.closeSync()
  }

  private viewStatements(place: ViewPlace, text: string): string[] {
    const key = keyOf(place)
    if (this.views.get(key) === text) return []
    const statements: string[] = []
    const schema = place.schema ?? BARE_SCHEMA
    const qualified = `${quoteName(this.catalog)}.${quoteName(schema)}`
    if (!this.schemas.has(schema.toLowerCase())) statements.push(`CREATE SCHEMA IF NOT EXISTS ${qualified}`)
    this.schemas.add(schema.toLowerCase())
    statements.push(`CREATE OR REPLACE VIEW ${qualified}.${quoteName(place.name)} AS ${text}`)
    return statements
  }

  private forgetVariables(): string[] {
    const statements = [...this.variables.keys()].map((name) => `RESET VARIABLE ${name}`)
    this.variables.clear()
    return statements
  }
}

/** DuckDB's names do not differ by case. */
function keyOf(place: ViewPlace): string {
  return JSON.stringify([place.schema?.toLowerCase() ?? null, place.name.toLowerCase()])
}

/** Plans over equal states are the same. */
function stateOf({ views, variables, growing }: Scene): string {
  const counts = growing.map(({ name, rowCount }) => [name, rowCount()])
  return JSON.stringify([views, [...variables], counts])
}
