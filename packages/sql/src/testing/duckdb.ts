import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import { afterAll, beforeAll } from 'vitest'

/** A DuckDB in memory for the tests of a file, with a connection; `settings` are run on that first. */
export function withDuckdb(...settings: readonly string[]): { readonly connection: DuckDBConnection } {
  let instance: DuckDBInstance
  let connection: DuckDBConnection
  beforeAll(async () => {
    instance = await DuckDBInstance.create(':memory:')
    connection = await instance.connect()
    for (const setting of settings) await connection.run(setting)
  })
  afterAll(() => {
    connection.closeSync()
    instance.closeSync()
  })
  return {
    get connection() {
      return connection
    },
  }
}
