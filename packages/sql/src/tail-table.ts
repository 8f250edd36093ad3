import { setImmediate } from 'node:timers/promises'
import { assert, typesEqual, type ColumnBatch, type Field } from '@moonlink/core'
import type { DuckDBAppender, DuckDBConnection } from '@duckdb/node-api'
import { CHUNK_ROWS, ChunkWriter } from './chunk-writer.ts'
import { duckdbType } from './sql-text.ts'

/** Rows appended before other work gets a turn: a few milliseconds. */
const SLICE_ROWS = 8 * CHUNK_ROWS

/**
 * One memory segment as a native table of DuckDB: column `c<field id>` for each field, in row order, so that the table's `rowid`
 * is the row's position in the segment. Rows are only ever appended.
 */
export class TailTable {
  /** The table's name, in the internal database. */
  readonly name: string
  readonly fields: readonly Field[]
  /** Queries that read it now. */
  users = 0
  lastUsedMs = 0
  /** Rows it has. While it is appended to it may have more, but nobody else's code runs then. */
  rowCount = 0
  private readonly connection: DuckDBConnection
  private readonly appender: DuckDBAppender
  private readonly writer: ChunkWriter

  private constructor(connection: DuckDBConnection, name: string, fields: readonly Field[], appender: DuckDBAppender) {
    this.connection = connection
    this.name = name
    this.fields = fields
    this.appender = appender
    this.writer = new ChunkWriter(fields.map((field) => field.type))
  }

  static async create(connection: DuckDBConnection, name: string, fields: readonly Field[]): Promise<TailTable> {
    assert(fields.length > 0, 'a table has a column')
    const columns = fields.map((field) => `${columnName(field.id)} ${duckdbType(field.type)}`)
    await connection.run(`CREATE TABLE ${name} (${columns.join(', ')})`)
    return new TailTable(connection, name, fields, await connection.createAppender(name))
  }

  /** Whether the table's columns are those of the batch. */
  holds(rows: ColumnBatch): boolean {
    return (
      rows.fields === this.fields ||
      (rows.fields.length === this.fields.length && rows.fields.every((field, index) => isSameColumn(field, this.fields[index])))
    )
  }

  /** Makes the first `rowCount` rows of `rows` readable. What is there already stays. Must not overlap with another call. */
  async extend(rows: ColumnBatch, rowCount: number): Promise<void> {
    while (this.rowCount < rowCount) {
      const end = Math.min(rowCount, this.rowCount + SLICE_ROWS)
      for (let row = this.rowCount; row < end; row += CHUNK_ROWS) {
        this.writer.write(rows.columns, row, Math.min(CHUNK_ROWS, end - row))
        this.appender.appendDataChunk(this.writer.chunk)
      }
      this.appender.flushSync()
      this.rowCount = end
      if (end < rowCount) await setImmediate()
    }
  }

  async drop(): Promise<void> {
    this.appender.closeSync()
    await this.connection.run(`DROP TABLE IF EXISTS ${this.name}`)
  }
}

function isSameColumn(a: Field, b: Field): boolean {
  return a.id === b.id && typesEqual(a.type, b.type)
}

export function columnName(fieldId: number): string {
  return `c${fieldId}`
}
