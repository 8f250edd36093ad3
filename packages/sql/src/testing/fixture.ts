import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Field, TableName } from '@moonlink/core'
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import type { Cell } from '../cells.ts'
import type { SqlRequest } from '../sql-engine.ts'
import { SqlEngine, type SqlEngineOptions } from '../sql-engine.ts'
import { ModelLeases, ModelTable, PathFiles } from './model-table.ts'

/** An engine over model tables, in a directory of its own. */
export class Fixture {
  readonly engine: SqlEngine
  readonly leases: ModelLeases
  readonly files: PathFiles
  readonly warehouse: string
  /** Writes the tables' Parquet files. */
  readonly connection: DuckDBConnection
  private readonly instance: DuckDBInstance
  private readonly directory: string

  private constructor(
    engine: SqlEngine,
    leases: ModelLeases,
    files: PathFiles,
    directory: string,
    instance: DuckDBInstance,
    connection: DuckDBConnection,
  ) {
    this.engine = engine
    this.leases = leases
    this.files = files
    this.directory = directory
    this.warehouse = join(directory, 'warehouse')
    this.instance = instance
    this.connection = connection
  }

  static async open(options: Partial<SqlEngineOptions> = {}): Promise<Fixture> {
    const directory = await mkdtemp(join(tmpdir(), 'moonlink-sql-'))
    const warehouse = join(directory, 'warehouse')
    await mkdir(warehouse)
    const leases = new ModelLeases()
    const files = new PathFiles()
    const engine = await SqlEngine.create({
      leases,
      files,
      memoryLimitBytes: 512 * 1024 * 1024,
      threads: 2,
      tempDirectory: join(directory, 'temp'),
      allowedDirectories: [warehouse],
      ...options,
    })
    const instance = await DuckDBInstance.create(':memory:')
    return new Fixture(engine, leases, files, directory, instance, await instance.connect())
  }

  table(table: TableName, fields: readonly Field[], incarnation?: string): ModelTable {
    const model = new ModelTable(table, fields, this.warehouse, this.connection, incarnation)
    this.leases.tables.push(model)
    return model
  }

  /** All rows of a statement. */
  async rows(sql: string, request: Partial<SqlRequest> = {}): Promise<Cell[][]> {
    const result = await this.engine.query({ sql, lsn: null, timeoutMs: 1000, ...request })
    const rows: Cell[][] = []
    for await (const chunk of result.rows()) rows.push(...(chunk as Cell[][]))
    return rows
  }

  async close(): Promise<void> {
    await this.engine.close()
    this.connection.closeSync()
    this.instance.closeSync()
    await rm(this.directory, { recursive: true })
  }
}
