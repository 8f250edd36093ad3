import type { Clock, Field } from '@moonlink/core'
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import type { Gate } from './gate.ts'
import { InterruptibleCalls } from './interruptible-calls.ts'
import { duckdbType, quoteName } from './sql-text.ts'
import { columnName } from './tail-table.ts'
import type { ViewSql } from './view-sql.ts'

export interface StagingPorts {
  readonly instance: DuckDBInstance
  readonly gate: Gate
  readonly clock: Clock
}

/** What one statement needs of files that don't fit into the file cache together: a native table, filled a run of files at a time, which spills as all that queries hold. */
export class StagedRows {
  private readonly ports: StagingPorts
  private readonly connection: DuckDBConnection
  private readonly table: string
  private readonly fields: readonly Field[]
  private readonly calls: InterruptibleCalls
  private ended = false

  private constructor(
    ports: StagingPorts,
    connection: DuckDBConnection,
    table: string,
    fields: readonly Field[],
    signal: AbortSignal | undefined,
  ) {
    this.ports = ports
    this.connection = connection
    this.table = table
    this.fields = fields
    this.calls = new InterruptibleCalls(connection, ports.gate, ports.clock, signal)
  }

  /** `table` is its whole name, quoted. */
  static async create(ports: StagingPorts, table: string, fields: readonly Field[], signal?: AbortSignal): Promise<StagedRows> {
    const staged = new StagedRows(ports, await ports.instance.connect(), table, fields, signal)
    const columns = fields.map((field) => `${columnName(field.id)} ${duckdbType(field.type)}`)
    try {
      await staged.run(`CREATE TABLE ${table} (${columns.join(', ')})`)
    } catch (error) {
      await staged.drop()
      throw error
    }
    return staged
  }

  /** A `SELECT` of all rows added. */
  get text(): string {
    const columns = this.fields.map((field) => `${columnName(field.id)} AS ${quoteName(field.name)}`)
    return `SELECT ${columns.join(', ')} FROM ${this.table}`
  }

  /** Adds the view's rows that meet the condition. */
  async add(view: ViewSql, alias: string, condition: string): Promise<void> {
    const variables = [...view.variables].map(([name, value]) => `SET VARIABLE ${name} = ${value}; `)
    await this.run(`${variables.join('')}INSERT INTO ${this.table} SELECT * FROM (${view.text}) ${quoteName(alias)} WHERE ${condition}`)
  }

  /** Interrupts what is under way. May be called more than once. */
  async drop(): Promise<void> {
    if (this.ended) return
    this.ended = true
    await this.calls.interrupt()
    try {
      await this.ports.gate.run(() => this.connection.run(`DROP TABLE IF EXISTS ${this.table}`))
    } finally {
      this.connection.closeSync()
    }
  }

  private async run(sql: string): Promise<void> {
    await this.calls.run(() => this.connection.run(sql))
  }
}
