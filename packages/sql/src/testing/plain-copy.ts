import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import { rowsOf, type Cell } from '../cells.ts'
import { duckdbType, quoteName } from '../sql-text.ts'
import { fillTable, type ModelTable } from './model-table.ts'

/** The rows of a statement as texts, sorted; null where it failed. */
export interface Outcome {
  readonly rows: readonly string[] | null
  readonly error: string | null
}

export async function outcomeOf(read: () => Promise<readonly (readonly Cell[])[]>): Promise<Outcome> {
  try {
    return { rows: (await read()).map(rowText).toSorted(), error: null }
  } catch (error) {
    return { rows: null, error: (error as Error).message }
  }
}

/** A plain DuckDB that holds the rows of tables at one LSN, and nothing else. */
export class PlainCopy {
  private readonly instance: DuckDBInstance
  private readonly connection: DuckDBConnection

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection) {
    this.instance = instance
    this.connection = connection
  }

  static async of(tables: readonly ModelTable[], lsn: bigint): Promise<PlainCopy> {
    const instance = await DuckDBInstance.create(':memory:')
    const connection = await instance.connect()
    const schemas = [...new Set(tables.map(({ table }) => table.schema))]
    for (const schema of schemas) await connection.run(`CREATE SCHEMA ${quoteName(schema)}`)
    await connection.run(`SET TimeZone = 'UTC'; SET search_path = '${schemas.join(',')}'`)
    for (const model of tables) {
      const { fields, table } = model
      const columns = fields.map((field) => `${quoteName(field.name)} ${duckdbType(field.type)}`)
      await connection.run(`CREATE TABLE ${quoteName(table.schema)}.${quoteName(table.name)} (${columns.join(', ')})`)
      await fillTable(connection, table.name, fields, model.expected(lsn), table.schema)
    }
    return new PlainCopy(instance, connection)
  }

  outcome(sql: string): Promise<Outcome> {
    return outcomeOf(async () => {
      const rows: Cell[][] = []
      const result = await this.connection.stream(sql)
      for (let chunk = await result.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
        rows.push(...rowsOf(chunk))
      }
      return rows
    })
  }

  close(): void {
    this.connection.closeSync()
    this.instance.closeSync()
  }
}

/** Which sign a zero has may depend on the order of rows. */
function rowText(row: readonly Cell[]): string {
  return JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : Object.is(value, -0) ? 0 : value))
}
