import { assert } from '@moonlink/core'
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { quoteName } from './sql-text.ts'

/** Where a view goes: a table's name as a statement writes it. */
export interface ViewPlace {
  readonly schema: string | null
  readonly name: string
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
  private isReading = false

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
   * Makes each place a view of that text, sets the variables that the texts refer to, and begins a transaction, which holds until `end`.
   *
   * The statement must be planned and run in one transaction: DuckDB leaves out conditions that by a table's statistics hold for all of its rows, and
   * those that are appended between planning and running would be read without them.
   */
  async prepare(
    views: readonly { readonly place: ViewPlace; readonly text: string }[],
    variables: ReadonlyMap<string, number>,
  ): Promise<void> {
    const statements: string[] = []
    if (this.variables.size > MAX_VARIABLES) statements.push(...this.forgetVariables())
    for (const [name, value] of variables) {
      assert(Number.isSafeInteger(value), 'a plan counts in whole numbers', { name, value })
      if (this.variables.get(name) !== value) statements.push(`SET VARIABLE ${name} = ${value}`)
    }
    for (const { place, text } of views) statements.push(...this.viewStatements(place, text))
    statements.push('BEGIN TRANSACTION READ ONLY')
    try {
      await this.connection.run(statements.join('; '))
      this.isReading = true
    } catch (error) {
      this.views.clear()
      this.variables.clear()
      throw error
    }
    for (const [name, value] of variables) this.variables.set(name, value)
    for (const { place, text } of views) this.views.set(keyOf(place), text)
  }

  /** Ends the transaction, and a result that was not read to its end, which would go on filling its buffer. */
  async end(): Promise<void> {
    if (!this.isReading) return
    this.isReading = false
    await this.connection.run('ROLLBACK')
  }

  close(): void {
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
